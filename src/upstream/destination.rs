//! Where the requests of a client go.

use std::fmt;

use crate::upstream::local::{LocalDaemon, WorkerReservation};
use crate::upstream::peer::PeerNode;
use crate::upstream::scheduler::QueueError;

/// The address of an upstream.
pub(super) enum UpstreamDestination {
    Local(LocalDaemon),
    Peer(PeerNode),
}

impl fmt::Display for UpstreamDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(daemon) => daemon.fmt(f),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

impl UpstreamDestination {
    /// Waits for a worker if this is a daemon of this machine.
    pub(super) async fn acquire_worker(&self, worker: &mut WorkerReservation) -> Result<(), QueueError> {
        match self {
            Self::Local(daemon) => worker.acquire(daemon).await,
            Self::Peer(_) => Ok(()),
        }
    }
}

//! The upstreams of a worker: the daemons of this node, and the other nodes of the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::settings::BackendAddress;
use crate::http::error::ResponseError;
use crate::metrics::labels::LocalBackend;
use crate::metrics::queues::BackendQueueMetrics;
use crate::os::request_context;
use crate::state::shared::AppState;
use crate::upstream::client::{LocalDaemon, PeerPools, UpstreamClient};
use crate::upstream::local::DaemonQueue;
use crate::upstream::scheduler::SchedulerLimits;

/// The upstream clients of one worker under one configuration.
pub struct Upstreams {
    pub daemon: UpstreamClient,
    unprivileged: Option<UpstreamClient>,
    pages: Option<UpstreamClient>,
    peers: PeerPools,
}

impl Upstreams {
    pub fn new(state: &AppState) -> Self {
        let (settings, records) = (&state.config.settings, &state.metrics.upstreams);
        let daemon = || local_daemon(state, &settings.backend.address);
        let client = |daemon, health| {
            let health = Arc::clone(health);
            UpstreamClient::local(daemon, settings.backend.keepalive, settings.timeout, health)
        };
        // The daemon answers every call, so it stands in for the unprivileged one.
        let with_fallback = |address: &BackendAddress| {
            client(local_daemon(state, address), &records.worker)
                .with_fallback(daemon(), Arc::clone(&records.daemon))
        };
        let pages = settings.unprivileged.as_ref().map(|address| {
            let (worker, health) = (local_daemon(state, address), Arc::clone(&records.worker));
            UpstreamClient::local(worker, false, settings.timeout, health)
        });
        Self {
            daemon: client(daemon(), &records.daemon),
            unprivileged: settings.unprivileged.as_ref().map(with_fallback),
            pages,
            peers: PeerPools::default(),
        }
    }

    /// The daemon for calls that need no root.
    pub fn unprivileged(&self) -> &UpstreamClient {
        self.unprivileged.as_ref().unwrap_or(&self.daemon)
    }

    /// The unprivileged daemon for pages, if one is set.
    pub fn pages(&self) -> Option<&UpstreamClient> {
        self.pages.as_ref()
    }

    /// The client for requests of `client` to the node `name`.
    ///
    /// # Errors
    /// The node is unknown, has no address, or no certificate of it is known.
    pub fn peer(
        &self,
        state: &AppState,
        name: &str,
        client: IpAddr,
    ) -> Result<UpstreamClient, ResponseError> {
        let health = state.metrics.upstreams.node(name);
        let peer = state.peer(name).inspect_err(|error| {
            let request = request_context::current_id().map(|id| id.to_string());
            health.count_failure(&error.to_string(), request);
        })?;
        let settings = &state.config.settings;
        Ok(if settings.cluster_proxy_protocol {
            UpstreamClient::peer(peer.with_proxy_header(client), settings.timeout, None, health)
        } else {
            UpstreamClient::peer(peer, settings.timeout, Some(&self.peers), health)
        })
    }
}

/// The unprivileged daemon without fallback, because the daemon serves no pages, and without a queue: for commands,
/// whose process does not know what the daemon is busy with.
pub fn page_client(state: &AppState) -> Option<UpstreamClient> {
    let (settings, health) = (&state.config.settings, Arc::clone(&state.metrics.upstreams.worker));
    let worker = LocalDaemon::new(settings.unprivileged.clone()?, None);
    Some(UpstreamClient::local(worker, false, settings.timeout, health))
}

/// A daemon with the scheduler of its workers.
fn local_daemon(state: &AppState, address: &BackendAddress) -> LocalDaemon {
    let (settings, backend) = (&state.config.settings, &state.config.settings.backend);
    let (label, workers) = if *address == backend.address {
        (LocalBackend::Daemon, backend.workers)
    } else {
        (LocalBackend::Unprivileged, backend.unprivileged_workers)
    };
    let limits = SchedulerLimits {
        workers,
        queue: backend.queue,
        queue_per_client: backend.queue_per_client,
        slow_call: backend.slow_call,
        queue_timeout: settings.timeout.queue,
    };
    let queue = DaemonQueue {
        scheduler: state.schedulers.get_or_create(address, limits),
        metrics: BackendQueueMetrics::new(&state.metrics.queues, label, workers),
    };
    LocalDaemon::new(address.clone(), Some(queue))
}

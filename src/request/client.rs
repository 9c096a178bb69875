//! The connection that a request came on: whose it is, and what its requests share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

use crate::acl::PeerIp;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::handler::websocket::console::Console;
use crate::limits::Excess;
use crate::limits::failures::Source;
use crate::limits::places::Place;
use crate::server::Worker;
use crate::tls::TlsSession;

/// One connection.
pub struct Client {
    pub peer: PeerIp,
    /// its address, as daemons are told it
    pub address: HeaderValue,
    /// without TLS every request is redirected
    pub tls: Option<TlsSession>,
    pub clock: Arc<Clock>,
    /// what the connection is bridged to once the answer is out
    pub console: RefCell<Option<Console>>,
    /// why nothing is served on it
    excess: Option<Excess>,
    /// the configuration whose access list admits it
    admitted: Cell<u64>,
}

impl Client {
    pub fn new(
        peer: PeerIp,
        tls: Option<TlsSession>,
        excess: Option<Excess>,
        worker: &Worker,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            peer,
            address: HeaderValue::from_str(&peer.address().to_string())?,
            tls,
            clock: Arc::new(Clock::new(&worker.engine.config.settings)),
            console: RefCell::new(None),
            excess,
            admitted: Cell::new(worker.generation),
        })
    }

    /// Why nothing is served on it, where that is so.
    pub fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Whether it may still connect; judged once by each configuration.
    pub fn is_admitted(&self, worker: &Worker) -> bool {
        let before = self.admitted.replace(worker.generation);
        before == worker.generation || worker.engine.config.settings.acl.admits(self.peer)
    }

    /// A place for one of its requests, where they are counted by address.
    pub(super) fn place(&self, engine: &Engine, real: IpAddr) -> Result<Option<Place>, Excess> {
        if let Some(excess) = self.excess {
            return Err(excess);
        }
        let limit = engine.config.settings.limits.requests_per_address;
        if limit == 0 {
            return Ok(None);
        }
        let Some(address) = engine.accountable(self.peer, real) else { return Ok(None) };
        engine.counts.requests.ask(Source::of(address), limit).map(Some)
    }
}

//! The connection that a request came on: whose it is, and what its requests share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

use crate::acl::PeerIp;
use crate::clock::Clock;
use crate::engine::{Engine, ListenerRules};
use crate::handler::websocket::console::Console;
use crate::limits::Excess;
use crate::limits::failures::Source;
use crate::limits::places::Place;
use crate::route_class::RouteClass;
use crate::server::Worker;
use crate::tls::TlsSession;

/// One connection.
pub struct Client {
    pub peer: PeerIp,
    /// its address, as daemons are told it
    pub address: HeaderValue,
    pub tls: Option<TlsSession>,
    /// without TLS requests are redirected, unless the listener speaks clear HTTP
    pub is_served: bool,
    pub clock: Arc<Clock>,
    /// what the connection is bridged to once the answer is out
    pub console: RefCell<Option<Console>>,
    /// why nothing is served on it
    excess: Option<Excess>,
    /// the configuration whose access list admits it
    admitted: Cell<u64>,
    rules: RefCell<Arc<ListenerRules>>,
    /// no listener of that name is there any more
    is_orphan: Cell<bool>,
}

impl Client {
    pub fn new(
        peer: PeerIp,
        tls: Option<TlsSession>,
        excess: Option<Excess>,
        worker: &Worker,
        rules: Arc<ListenerRules>,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            peer,
            address: HeaderValue::from_str(&peer.address().to_string())?,
            is_served: tls.is_some() || !rules.tls,
            tls,
            clock: Arc::new(Clock::new(&worker.engine.config.settings)),
            console: RefCell::new(None),
            excess,
            admitted: Cell::new(worker.generation),
            rules: RefCell::new(rules),
            is_orphan: Cell::new(false),
        })
    }

    /// Why nothing is served on it, where that is so.
    pub fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Whether it may still connect; judged once by each configuration.
    pub fn is_admitted(&self, worker: &Worker) -> bool {
        let before = self.admitted.replace(worker.generation);
        if before == worker.generation {
            return true;
        }
        let mut rules = self.rules.borrow_mut();
        let next = worker.engine.listener(&rules.name).map(Arc::clone);
        self.is_orphan.set(next.is_none());
        if let Some(next) = next {
            *rules = next;
        }
        rules.acl.admits(self.peer)
    }

    /// Whether its listener is gone, so that it ends with the answer to its next request.
    pub(super) fn is_orphan(&self) -> bool {
        self.is_orphan.get()
    }

    /// The name of the listener that it came by.
    pub(super) fn listener(&self) -> Arc<str> {
        Arc::clone(&self.rules.borrow().name)
    }

    /// What is served on it, where that is not all.
    pub(super) fn class(&self) -> Option<Arc<RouteClass>> {
        self.rules.borrow().class.clone()
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

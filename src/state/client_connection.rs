//! The connection that a request came on: whose it is, and what its requests share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

use crate::config::settings::{ClientCertificates, FIRST};
use crate::limits::LimitExceeded;
use crate::limits::concurrency::ConnectionPermit;
use crate::limits::failure_table::ClientKey;
use crate::limits::unauthenticated::UnauthenticatedConnection;
use crate::net::acl::PeerIp;
use crate::state::connection_trust::ConnectionTrust;
use crate::state::route_scope::RouteScope;
use crate::state::shared::{AppState, ListenerRules, PortProtocol};
use crate::time::client_timeouts::TimeoutTracker;
use crate::tls::{CertificateFault, TlsSession};
use crate::upstream::client::PIECE;

/// Whose connection it is.
#[derive(Clone, Copy)]
pub struct ClientAddresses {
    /// who it is for: the one that has connected, or whom a listed proxy named in a PROXY header
    pub peer: PeerIp,
    /// who has connected
    pub via: PeerIp,
}

impl ClientAddresses {
    /// Whether an access list lets it in: who has connected and, where that is asked for, who is behind it.
    pub fn is_admitted(self, rules: &ListenerRules, judges_real: bool) -> bool {
        rules.acl.admits(self.via) && (!judges_real || self.via == self.peer || rules.acl.admits(self.peer))
    }
}

/// What a connection was let in with.
pub struct Admission {
    pub place: ConnectionPermit,
    /// why nothing is served on it
    pub excess: Option<LimitExceeded>,
    pub stranger: Arc<UnauthenticatedConnection>,
    /// the configuration whose access list admitted it
    pub generation: u64,
}

/// Why a client that is connected is no longer admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AdmissionLost {
    #[error("the access list denies its address")]
    AccessList,
    #[error("its listener now asks for TLS, a certificate or a PROXY header that it did not bring")]
    Listener,
    #[error("{0}")]
    Certificate(CertificateFault),
}

/// One connection.
pub struct ClientConnection {
    /// who it is for
    pub peer: PeerIp,
    /// who has connected
    via: PeerIp,
    /// its address, as daemons are told it unless a request comes from somebody else
    pub address: HeaderValue,
    pub tls: Option<TlsSession>,
    /// without TLS requests are redirected, unless the listener speaks clear HTTP
    pub is_served: bool,
    pub clock: Arc<TimeoutTracker>,
    /// the same, but of the whole connection where several requests share it
    pub connection_clock: Arc<TimeoutTracker>,
    /// bytes of an answer that are held for it
    pub piece: usize,
    pub trust: Rc<ConnectionTrust>,
    /// why nothing is served on it
    excess: Option<LimitExceeded>,
    /// the configuration whose access list admits it
    admitted: Cell<u64>,
    rules: RefCell<Arc<ListenerRules>>,
    /// no listener of that name is there any more
    listener_removed: Cell<bool>,
    /// until the connection has ended, and with it every guess that was made on it
    place: Rc<ConnectionPermit>,
}

impl ClientConnection {
    pub fn new(
        who: ClientAddresses,
        tls: Option<TlsSession>,
        admission: Admission,
        state: &AppState,
        rules: Arc<ListenerRules>,
    ) -> Result<Self, InvalidHeaderValue> {
        let Admission { place, excess, stranger, generation } = admission;
        let clock =
            Arc::new(TimeoutTracker::of_stranger(Arc::clone(&state.deadlines), Arc::clone(&stranger)));
        Ok(Self {
            peer: who.peer,
            via: who.via,
            address: HeaderValue::from_str(&who.peer.address().to_string())?,
            is_served: tls.is_some() || !rules.tls,
            tls,
            connection_clock: Arc::clone(&clock),
            clock,
            piece: PIECE,
            trust: Rc::new(ConnectionTrust::new(stranger)),
            excess,
            admitted: Cell::new(generation),
            rules: RefCell::new(rules),
            listener_removed: Cell::new(false),
            place: Rc::new(place),
        })
    }

    /// Why nothing is served on it, where that is so.
    pub fn excess(&self) -> Option<LimitExceeded> {
        self.excess
    }

    /// The same client for one of several requests at once, with a clock of its own.
    #[must_use]
    pub fn for_stream(&self, state: &AppState, piece: usize) -> Self {
        Self {
            peer: self.peer,
            via: self.via,
            address: self.address.clone(),
            is_served: self.is_served,
            tls: self.tls.clone(),
            clock: Arc::new(TimeoutTracker::new(Arc::clone(&state.deadlines))),
            connection_clock: Arc::clone(&self.connection_clock),
            piece,
            trust: Rc::clone(&self.trust),
            excess: self.excess,
            admitted: Cell::new(self.admitted.get()),
            rules: RefCell::new(Arc::clone(&self.rules.borrow())),
            listener_removed: Cell::new(self.listener_removed.get()),
            place: Rc::clone(&self.place),
        }
    }

    /// Why it may no longer connect, if that is so; the access list is asked once by each configuration.
    pub fn admission_lost(&self, state: &AppState, generation: u64) -> Option<AdmissionLost> {
        let is_judged = self.admitted.replace(generation) == generation;
        let by_rules = if is_judged { None } else { self.lost_by_rules(state) };
        by_rules.or_else(|| self.certificate_fault(state).map(AdmissionLost::Certificate))
    }

    /// What lists of revoked certificates have against it.
    fn certificate_fault(&self, state: &AppState) -> Option<CertificateFault> {
        let shown = &self.tls.as_ref()?.identity.as_ref()?.chain;
        state.speaks.acceptor()?.judge(&self.rules.borrow().clients, shown).err()
    }

    fn lost_by_rules(&self, state: &AppState) -> Option<AdmissionLost> {
        let mut rules = self.rules.borrow_mut();
        let next = state.listener(&rules.name).map(Arc::clone);
        self.listener_removed.set(next.is_none());
        let has_shown = |next: &Arc<ListenerRules>| self.has_shown(&state.speaks, &rules, next);
        if next.as_ref().is_some_and(|next| !has_shown(next)) {
            return Some(AdmissionLost::Listener);
        }
        if let Some(next) = next {
            *rules = next;
        }
        let who = ClientAddresses { peer: self.peer, via: self.via };
        let judges_real = state.config.settings.real_ip.apply_acl;
        // Where its listener is gone, the list that is left decides as well.
        let general = state.listener(FIRST).filter(|_| self.listener_removed.get());
        let lists = [Some(&**rules), general.map(|general| &**general)];
        let admits = |rules: &ListenerRules| who.is_admitted(rules, judges_real);
        (!lists.into_iter().flatten().all(admits)).then_some(AdmissionLost::AccessList)
    }

    /// Whether it has connected as its listener asks of others `now`: with TLS, a certificate, a PROXY header.
    fn has_shown(&self, speaks: &PortProtocol, before: &ListenerRules, now: &ListenerRules) -> bool {
        let needs_tls = now.tls && matches!(speaks, PortProtocol::Https(_));
        let has_tls = self.tls.is_some() || !needs_tls;
        let is_known = now.clients.mode != ClientCertificates::Required
            || now.clients.takes_certificates_of(&before.clients);
        let is_named = before.proxy_protocol || !now.proxy_protocol;
        has_tls && is_known && is_named
    }

    /// Who a request comes from, where a listed proxy names somebody else than who has connected.
    pub fn named(&self, state: &AppState, real: IpAddr) -> Option<IpAddr> {
        (real != self.peer.address() && state.is_proxy(self.peer)).then_some(real)
    }

    /// Whether whom a proxy names may be served, where that is asked for.
    pub fn is_real_admitted(&self, state: &AppState, named: Option<IpAddr>) -> bool {
        let admits = |real| self.rules.borrow().acl.admits(PeerIp::new(real));
        !state.config.settings.real_ip.apply_acl || named.is_none_or(admits)
    }

    /// Whether its listener is gone, so that it ends with the answer to its next request.
    pub(crate) fn listener_removed(&self) -> bool {
        self.listener_removed.get()
    }

    /// Who has connected.
    pub(crate) fn via(&self) -> PeerIp {
        self.via
    }

    /// What holds at its listener.
    pub(crate) fn rules(&self) -> Arc<ListenerRules> {
        Arc::clone(&self.rules.borrow())
    }

    /// The name of the listener that it came by.
    pub fn listener(&self) -> Arc<str> {
        Arc::clone(&self.rules.borrow().name)
    }

    /// What is served on it, where that is not all.
    pub(crate) fn class(&self) -> Option<Arc<RouteScope>> {
        self.rules.borrow().class.clone()
    }

    /// A place for one of its requests, where they are counted by address.
    pub(crate) fn place(
        &self,
        state: &AppState,
        real: IpAddr,
    ) -> Result<Option<ConnectionPermit>, LimitExceeded> {
        if let Some(excess) = self.excess {
            return Err(excess);
        }
        let rules = self.rules.borrow();
        let limit = rules.limits.requests_per_address;
        if limit == 0 {
            return Ok(None);
        }
        let Some(address) = state.accountable(self.peer, real) else { return Ok(None) };
        state.counts.requests.ask(&rules.name, ClientKey::of(address), limit).map(Some)
    }
}

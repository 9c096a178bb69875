//! The connection of a client, and the state that its requests share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;

use crate::config::settings::{ClientCertificates, FIRST, ListenerSettings};
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
use crate::upstream::client::READ_BYTES;

#[derive(Clone, Copy)]
pub struct ClientAddresses {
    /// the client: the TCP peer, or the address in a trusted proxy's PROXY header
    pub client: PeerIp,
    /// the TCP peer
    pub peer: PeerIp,
}

impl ClientAddresses {
    /// Whether an access list admits the TCP peer and, if `real_ip.apply_acl` is set, the client behind it.
    pub fn is_admitted(self, rules: &ListenerRules, applies_to_client: bool) -> bool {
        let applies = applies_to_client && self.client != self.peer;
        rules.settings.acl.admits(self.peer) && (!applies || rules.settings.acl.admits(self.client))
    }
}

/// The permits of an admitted connection.
pub struct Admission {
    pub permit: ConnectionPermit,
    /// the limit that it exceeds; its requests get an error
    pub exceeded: Option<LimitExceeded>,
    pub unauthenticated: Arc<UnauthenticatedConnection>,
    /// generation of the configuration whose access list admitted it
    pub generation: u64,
}

/// Why a client that is connected is no longer admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AdmissionLost {
    #[error("the access list denies its address")]
    AccessList,
    #[error("its listener now requires TLS, a certificate or a PROXY header that it did not send")]
    Listener,
    #[error("{0}")]
    Certificate(CertificateFault),
}

#[derive(Clone)]
pub struct ClientConnection {
    /// the client: the TCP peer, or the address in a trusted proxy's PROXY header
    pub client_ip: PeerIp,
    tcp_peer: PeerIp,
    /// the client's address for daemons, unless a proxy reports another one for a request
    pub address: HeaderValue,
    pub tls: Option<TlsSession>,
    /// false for plaintext on a TLS listener: its requests are redirected
    pub is_served: bool,
    pub timeouts: Rc<TimeoutTracker>,
    /// the same tracker, but of the whole connection if several requests share it
    pub connection_timeouts: Rc<TimeoutTracker>,
    /// bytes of an answer that are buffered
    pub piece: usize,
    pub trust: Rc<ConnectionTrust>,
    /// the limit that it exceeds; its requests get an error
    exceeded: Option<LimitExceeded>,
    /// generation of the configuration whose access list admits it
    admitted: Cell<u64>,
    rules: RefCell<Arc<ListenerRules>>,
    /// a reload removed the listener
    listener_removed: Cell<bool>,
    /// held until the connection and every login attempt on it have ended
    _permit: Rc<ConnectionPermit>,
}

impl ClientConnection {
    pub fn new(
        addresses: ClientAddresses,
        tls: Option<TlsSession>,
        admission: Admission,
        state: &AppState,
        rules: Arc<ListenerRules>,
    ) -> Result<Self, InvalidHeaderValue> {
        let Admission { permit, exceeded, unauthenticated, generation } = admission;
        let timeouts = Rc::new(TimeoutTracker::for_unauthenticated(
            Arc::clone(&state.client_timeouts),
            Arc::clone(&unauthenticated),
        ));
        Ok(Self {
            client_ip: addresses.client,
            tcp_peer: addresses.peer,
            address: HeaderValue::from_str(&addresses.client.address().to_string())?,
            is_served: tls.is_some() || !rules.settings.tls,
            tls,
            connection_timeouts: Rc::clone(&timeouts),
            timeouts,
            piece: READ_BYTES,
            trust: Rc::new(ConnectionTrust::new(unauthenticated)),
            exceeded,
            admitted: Cell::new(generation),
            rules: RefCell::new(rules),
            listener_removed: Cell::new(false),
            _permit: Rc::new(permit),
        })
    }

    /// A number that no other open connection of this process has. All streams of a connection have the same.
    pub fn number(&self) -> u64 {
        u64::try_from(Rc::as_ptr(&self.connection_timeouts).addr()).unwrap_or_default()
    }

    /// Whether a trusted proxy reported the client in a PROXY header.
    pub fn has_proxy_header(&self) -> bool {
        self.client_ip != self.tcp_peer
    }

    pub fn exceeded(&self) -> Option<LimitExceeded> {
        self.exceeded
    }

    /// The same client for one stream of the connection, with its own timeout tracker.
    #[must_use]
    pub fn for_stream(&self, state: &AppState, piece: usize) -> Self {
        let timeouts = Rc::new(TimeoutTracker::new(Arc::clone(&state.client_timeouts)));
        Self { timeouts, piece, ..self.clone() }
    }

    /// The reason why the client is no longer admitted. The access list is checked once for each configuration.
    pub fn admission_lost(&self, state: &AppState, generation: u64) -> Option<AdmissionLost> {
        let is_verified = self.admitted.replace(generation) == generation;
        let by_rules = if is_verified { None } else { self.lost_by_rules(state) };
        by_rules.or_else(|| self.certificate_fault(state).map(AdmissionLost::Certificate))
    }

    /// The fault of the client's certificate, such as a revocation.
    fn certificate_fault(&self, state: &AppState) -> Option<CertificateFault> {
        let chain = &self.tls.as_ref()?.identity.as_ref()?.chain;
        state.port_protocol.acceptor()?.verify(&self.rules.borrow().settings.clients, chain).err()
    }

    fn lost_by_rules(&self, state: &AppState) -> Option<AdmissionLost> {
        let mut rules = self.rules.borrow_mut();
        let next = state.listener(&rules.settings.name).map(Arc::clone);
        self.listener_removed.set(next.is_none());
        let meets =
            |next: &Arc<ListenerRules>| self.meets(&state.port_protocol, &rules.settings, &next.settings);
        if next.as_ref().is_some_and(|next| !meets(next)) {
            return Some(AdmissionLost::Listener);
        }
        if let Some(next) = next {
            *rules = next;
        }
        let addresses = ClientAddresses { client: self.client_ip, peer: self.tcp_peer };
        let applies_to_client = state.config.settings.real_ip.apply_acl;
        // The first listener's access list applies if the connection's listener was removed.
        let general = state.listener(FIRST).filter(|_| self.listener_removed.get());
        let lists = [Some(&**rules), general.map(|general| &**general)];
        let admits = |rules: &ListenerRules| addresses.is_admitted(rules, applies_to_client);
        (!lists.into_iter().flatten().all(admits)).then_some(AdmissionLost::AccessList)
    }

    /// Whether the connection has the TLS, certificate and PROXY header that its listener requires now.
    fn meets(&self, protocol: &PortProtocol, before: &ListenerSettings, now: &ListenerSettings) -> bool {
        let needs_tls = now.tls && matches!(protocol, PortProtocol::Https(_));
        let has_tls = self.tls.is_some() || !needs_tls;
        let has_certificate = now.clients.mode != ClientCertificates::Required
            || now.clients.takes_certificates_of(&before.clients);
        let has_proxy_header = before.proxy_protocol || !now.proxy_protocol;
        has_tls && has_certificate && has_proxy_header
    }

    /// The client that a trusted proxy reports for a request, if it differs from the connection's client.
    pub fn reported_client(&self, state: &AppState, real: IpAddr) -> Option<IpAddr> {
        (real != self.client_ip.address() && state.is_proxy(self.client_ip)).then_some(real)
    }

    /// Whether the access list admits the client that a proxy reports, if `real_ip.apply_acl` is set.
    pub fn admits_reported_client(&self, state: &AppState, named: Option<IpAddr>) -> bool {
        let admits = |real| self.rules.borrow().settings.acl.admits(PeerIp::new(real));
        !state.config.settings.real_ip.apply_acl || named.is_none_or(admits)
    }

    /// Whether a reload removed the listener. The connection closes after its next answer.
    pub(crate) fn listener_removed(&self) -> bool {
        self.listener_removed.get()
    }

    pub(crate) fn tcp_peer(&self) -> PeerIp {
        self.tcp_peer
    }

    pub(crate) fn rules(&self) -> Arc<ListenerRules> {
        Arc::clone(&self.rules.borrow())
    }

    pub fn listener(&self) -> Arc<str> {
        Arc::clone(&self.rules.borrow().settings.name)
    }

    /// The part of the product that is served on it. `None` serves all.
    pub(crate) fn scope(&self) -> Option<Arc<RouteScope>> {
        self.rules.borrow().scope.clone()
    }

    /// A permit for one request, if the listener limits requests for each address.
    pub(crate) fn try_acquire_request(
        &self,
        state: &AppState,
        real: IpAddr,
    ) -> Result<Option<ConnectionPermit>, LimitExceeded> {
        if let Some(exceeded) = self.exceeded {
            return Err(exceeded);
        }
        let rules = self.rules.borrow();
        let limit = rules.settings.limits.requests_per_address;
        if limit == 0 {
            return Ok(None);
        }
        let Some(address) = state.rate_limit_key(self.client_ip, real) else { return Ok(None) };
        state
            .limiters
            .requests
            .try_acquire(&rules.settings.name, ClientKey::from_address(address), limit)
            .map(Some)
    }
}

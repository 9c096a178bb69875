//! The address of a client: for the log, for daemons, and for limits.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::limits::LimitExceeded;
use crate::limits::buffer_budget::BufferBudget;
use crate::limits::concurrency::{AcquiredConnection, ConnectionOrigin};
use crate::limits::failure_table::ClientKey;
use crate::limits::shares::ListenerShare;
use crate::limits::unauthenticated::{UnauthenticatedConnection, UnauthenticatedOrigin};
use crate::net::acl::PeerIp;
use crate::net::forwarded;
use crate::os::log_limit::{self, LogTopic};
use crate::state::client_connection::ClientConnection;
use crate::state::shared::{AppState, ListenerRules};

/// Headers in which proxies report the client.
const REPORT_HEADERS: [HeaderName; 3] =
    [FORWARDED, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

impl AppState {
    /// The client's address that a trusted proxy reports. Without a list of proxies any report counts, but only for
    /// the log.
    pub fn client_address(&self, peer: PeerIp, headers: &HeaderMap) -> IpAddr {
        let settings = &self.config.settings.real_ip;
        let Some(header) = &settings.header else { return peer.address() };
        match &settings.proxies {
            None => forwarded::untrusted_client_address(header, headers).unwrap_or(peer.address()),
            Some(proxies) if proxies.contains(peer.address()) => {
                forwarded::trusted_client_address(header, headers, peer.address(), |address| {
                    proxies.contains(address)
                })
            }
            Some(_) => peer.address(),
        }
    }

    /// Counts a connection whose first request reports another client in a header that is not trusted: a proxy may be in
    /// front that the settings do not name.
    pub fn count_ignored_report(&self, client: &ClientConnection, headers: &HeaderMap) {
        if client.trust.begin_first_request() && self.is_report_ignored(client, headers) {
            self.metrics.forwarded_ignored.inc();
        }
    }

    fn is_report_ignored(&self, client: &ClientConnection, headers: &HeaderMap) -> bool {
        let real_ip = &self.config.settings.real_ip;
        match (&real_ip.header, &real_ip.proxies) {
            (None, _) if client.has_proxy_header() => false,
            (None, _) => REPORT_HEADERS.iter().any(|name| headers.contains_key(name)),
            (Some(header), Some(_)) => headers.contains_key(header) && !self.is_proxy(client.client_ip),
            (Some(_), None) => false,
        }
    }

    /// Whether the peer is a trusted proxy.
    pub fn is_proxy(&self, peer: PeerIp) -> bool {
        self.config.settings.real_ip.is_proxy(peer.address())
    }

    /// A permit for a connection, or the limit that it exceeds. See `ConnectionCounts::try_acquire_connection`.
    pub fn acquire_connection(
        &self,
        rules: &ListenerRules,
        peer: PeerIp,
    ) -> Result<AcquiredConnection, LimitExceeded> {
        let arrival = ConnectionOrigin {
            at: &self.listener_share(&rules.settings.name),
            limit: rules.settings.limits.connections,
            source: self.rate_limit_key(peer, peer.address()).map(ClientKey::from_address),
            limit_of_source: rules.settings.limits.connections_per_address,
        };
        let acquired = self.limiters.connections.try_acquire_connection(self.capacity, arrival);
        if let Ok(AcquiredConnection { exceeded: Some(exceeded), .. }) | Err(exceeded) = &acquired {
            log_limit_reached(*exceeded, &rules.settings.name, peer);
        }
        acquired
    }

    /// The listener's share of a limit.
    pub fn listener_share(&self, listener: &Arc<str>) -> ListenerShare {
        ListenerShare { listener: Arc::clone(listener), listeners: self.config.settings.listeners.len() }
    }

    /// Registers a connection whose client is not authenticated yet.
    pub fn register_unauthenticated(
        &self,
        rules: &ListenerRules,
        peer: PeerIp,
        has_permit: bool,
    ) -> UnauthenticatedConnection {
        let room = self.capacity.unauthenticated_limits(rules.settings.limits.connections);
        let source = self.rate_limit_key(peer, peer.address()).map(ClientKey::from_address);
        self.limiters
            .unauthenticated
            .register(room, &UnauthenticatedOrigin { listener: &rules.settings.name, source, has_permit })
    }

    /// The memory for request bodies. One body of the largest size fits into the share of one address.
    pub fn body_budget(&self) -> BufferBudget {
        let settings = &self.config.settings;
        BufferBudget {
            bytes: settings.limits.body_budget(),
            listeners: settings.listeners.len(),
            timeout: settings.timeout.body,
        }
    }

    /// The address that limits count: the peer, or the client that a trusted proxy reports. Loopback, other nodes,
    /// and trusted proxies without a report are not counted, because many users may be behind them.
    pub fn rate_limit_key(&self, peer: PeerIp, real: IpAddr) -> Option<IpAddr> {
        let is_proxy = self.is_proxy(peer);
        let address = if is_proxy { real } else { peer.address() };
        let exempt = address.is_loopback()
            || (is_proxy && self.config.settings.real_ip.is_proxy(real))
            || self.nodes.get().is_ok_and(|table| table.holds(address));
        (!exempt).then_some(address)
    }

    /// The address that failed logins count for. `None` if they are not counted.
    pub fn login_limit_key(&self, peer: PeerIp, real: IpAddr) -> Option<IpAddr> {
        if self.config.settings.limits.login_failures == 0 { None } else { self.rate_limit_key(peer, real) }
    }
}

/// Logs which limit is reached, because the remedies differ.
fn log_limit_reached(exceeded: LimitExceeded, listener: &str, peer: PeerIp) {
    let peer = peer.address();
    if let LimitExceeded::ConnectionsOfAddress { limit } = exceeded {
        let site = log_limit::site(peer).to_string();
        if let Some(left_out) = log_limit::is_due(LogTopic::Crowd, &site) {
            tracing::warn!(
                %peer, listener,
                "{peer} has all of its {limit} connections (connections_per_address); rejecting more of them{left_out}"
            );
        }
    } else if let Some(left_out) = log_limit::is_due(LogTopic::Fault, "connections") {
        tracing::warn!(%peer, listener, "connection limit reached; rejecting new connections{left_out}");
    }
}

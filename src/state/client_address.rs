//! Which address a client has: for the log, for daemons, and for what is counted.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::limits::LimitExceeded;
use crate::limits::buffer_budget::BufferBudget;
use crate::limits::concurrency::{ConnectionOrigin, ConnectionPermit};
use crate::limits::failure_table::ClientKey;
use crate::limits::shares::ListenerShare;
use crate::limits::unauthenticated::{StrangerOrigin, UnauthenticatedConnection};
use crate::net::acl::PeerIp;
use crate::net::forwarded;
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;
use crate::state::shared::{AppState, ListenerRules};

impl AppState {
    /// The client as far as a proxy vouches for it. Where no proxies are listed that is for the log alone.
    pub fn real_ip(&self, peer: PeerIp, headers: &HeaderMap) -> IpAddr {
        let settings = &self.config.settings.real_ip;
        let Some(header) = &settings.header else { return peer.address() };
        match &settings.proxies {
            None => forwarded::said(header, headers).unwrap_or(peer.address()),
            Some(proxies) if proxies.contains(peer.address()) => {
                forwarded::vouched(header, headers, peer.address(), |address| proxies.contains(address))
            }
            Some(_) => peer.address(),
        }
    }

    /// Whether what a peer says of its clients counts for more than the log.
    pub fn is_proxy(&self, peer: PeerIp) -> bool {
        self.config.settings.real_ip.is_proxy(peer.address())
    }

    /// A place for a connection; see `Places::connect`.
    pub fn place(
        &self,
        rules: &ListenerRules,
        peer: PeerIp,
    ) -> Result<(ConnectionPermit, Option<LimitExceeded>), LimitExceeded> {
        let arrival = ConnectionOrigin {
            at: &self.at(&rules.name),
            limit: rules.limits.connections,
            source: self.accountable(peer, peer.address()).map(ClientKey::of),
            limit_of_source: rules.limits.connections_per_address,
        };
        let place = self.counts.connections.connect(self.capacity, arrival);
        if let Ok((_, Some(excess))) | Err(excess) = &place {
            warn_of_excess(*excess, &rules.name, peer);
        }
        place
    }

    /// A listener among the others.
    pub fn at(&self, listener: &Arc<str>) -> ListenerShare {
        ListenerShare { listener: Arc::clone(listener), listeners: self.config.settings.listeners.len() }
    }

    /// A connection whose client has to show yet who it is.
    pub fn stranger(
        &self,
        rules: &ListenerRules,
        peer: PeerIp,
        has_place: bool,
    ) -> UnauthenticatedConnection {
        let room = self.capacity.room_of_strangers(rules.limits.connections);
        let source = self.accountable(peer, peer.address()).map(ClientKey::of);
        self.counts.strangers.enter(room, &StrangerOrigin { listener: &rules.name, source, has_place })
    }

    /// Memory for bodies. One body of the largest size has to fit into the part of one address.
    pub fn body_budget(&self) -> BufferBudget {
        let settings = &self.config.settings;
        BufferBudget {
            bytes: settings.limits.body_budget(),
            listeners: settings.listeners.len(),
            patience: settings.timeout.body,
        }
    }

    /// The address that something is counted for: the peer, or the one that a listed proxy names. Loopback, other
    /// nodes, and listed proxies that name nobody are not counted: many users may be behind them.
    pub fn accountable(&self, peer: PeerIp, real: IpAddr) -> Option<IpAddr> {
        let is_proxy = self.is_proxy(peer);
        let address = if is_proxy { real } else { peer.address() };
        let exempt = address.is_loopback()
            || (is_proxy && self.config.settings.real_ip.is_proxy(real))
            || self.nodes.current().is_ok_and(|table| table.holds(address));
        (!exempt).then_some(address)
    }

    /// The address that failed logins are counted for, where they are counted at all.
    pub fn counted(&self, peer: PeerIp, real: IpAddr) -> Option<IpAddr> {
        if self.config.settings.limits.login_failures == 0 { None } else { self.accountable(peer, real) }
    }
}

/// Names the limit, because the remedies differ.
fn warn_of_excess(excess: LimitExceeded, listener: &str, peer: PeerIp) {
    let peer = peer.address();
    if let LimitExceeded::ConnectionsOfAddress { limit } = excess {
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

//! Verifies that the other nodes of the cluster can connect: to this node's address in the cluster file, on the port
//! that all nodes share. A listener with its own rules at this address may cut the node off.

use std::net::{IpAddr, ToSocketAddrs as _};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::config::product::Protocol;
use crate::config::settings::{ClientCertificates, ListenAddress, ListenerSettings};
use crate::net::acl::{AccessRule, PeerIp};
use crate::os::log_limit::{self, LogTopic};
use crate::state::shared::AppState;
use crate::upstream::nodes::{NodeFile, NodeTable};

/// An error for each rule that rejects other nodes.
pub fn problems(config: &Config) -> Vec<Diagnostic> {
    let Ok(table) =
        NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name).get()
    else {
        return Vec::new();
    };
    let settings = &config.settings;
    let port = match config.product.protocol {
        Protocol::Https => settings.cluster_port,
        Protocol::Connect => settings.tunnel.peer_port,
    };
    let own = table.find(&settings.node_name).and_then(|(_, address)| address);
    let Some(own) = own.filter(|_| table.clustered) else { return Vec::new() };
    let listeners = settings.listeners.iter().enumerate();
    let takes = listeners.filter_map(|(number, it)| Some((exactness(it, own, port)?, number, it)));
    let Some((_, number, listener)) = takes.max_by_key(|(exactness, ..)| *exactness) else {
        return Vec::new();
    };
    let others = others(&table, own);
    if others.is_empty() {
        return Vec::new();
    }
    let place = ClusterListener { config, number, listener, text: format!("{own} port {port}") };
    place.problems(&others)
}

/// The other nodes with a known address.
fn others(table: &NodeTable, own: IpAddr) -> Vec<(&str, IpAddr)> {
    let known = table.nodes.iter().filter_map(|(name, address)| Some((name.as_str(), (*address)?)));
    known.filter(|(_, address)| *address != own).collect()
}

/// How specifically a listener is bound to a destination. The kernel selects the most specific one.
fn exactness(listener: &ListenerSettings, own: IpAddr, port: u16) -> Option<u8> {
    if listener.listen.port != port {
        return None;
    }
    match &listener.listen.address {
        ListenAddress::Literal { address, .. } if *address == own => Some(2),
        ListenAddress::Literal { address, .. } => {
            (address.is_unspecified() && address.is_ipv4() == own.is_ipv4()).then_some(1)
        }
        ListenAddress::Name(name) => {
            let mut addresses = (name.as_str(), port).to_socket_addrs().ok()?;
            addresses.any(|address| address.ip() == own).then_some(2)
        }
        ListenAddress::AnyV6 => own.is_ipv6().then_some(1),
        ListenAddress::Any => Some(0),
    }
}

/// The listener that other nodes connect to.
struct ClusterListener<'a> {
    config: &'a Config,
    number: usize,
    listener: &'a ListenerSettings,
    text: String,
}

impl ClusterListener<'_> {
    fn problems(&self, others: &[(&str, IpAddr)]) -> Vec<Diagnostic> {
        let (listener, settings) = (self.listener, &self.config.settings);
        let names = names(others.iter().map(|(name, _)| *name));
        let all = |key: &str, reason: &str| self.problem(key, &names, reason);
        let mut problems = Vec::new();
        if listener.clients.mode == ClientCertificates::Required {
            problems.push(all("client_certificates", "they send no certificate"));
        }
        if !listener.tls {
            problems.push(all("tls", "they connect with TLS only"));
        }
        if let Some(scope) = &listener.route_scope {
            problems.push(all(
                "route_scope",
                &format!("the route scope '{scope}' has none of the calls that they pass on"),
            ));
        }
        if listener.proxy_protocol {
            let key = "proxy_protocol";
            let is_unlisted = |(_, address): &&(&str, IpAddr)| !settings.real_ip.is_proxy(*address);
            let unlisted: Vec<_> = others.iter().filter(is_unlisted).map(|(name, _)| *name).collect();
            if !settings.cluster_proxy_protocol {
                problems.push(all(key, "they send no PROXY header (cluster.proxy_protocol is off)"));
            } else if !unlisted.is_empty() {
                let unlisted = self::names(unlisted);
                problems.push(self.problem(key, &unlisted, "real_ip.allow_from does not list them"));
            }
        }
        problems.extend(self.denied(others));
        problems
    }

    /// A problem for each setting of the access list that denies other nodes.
    fn denied(&self, others: &[(&str, IpAddr)]) -> Vec<Diagnostic> {
        let mut by_key: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, address) in others {
            let verdict = self.listener.acl.explain(PeerIp::new(*address));
            let key = match verdict.rule {
                _ if verdict.allowed => continue,
                AccessRule::Allow(_) => "allow_from",
                AccessRule::Deny(_) => "deny_from",
                AccessRule::PolicyOfBoth { .. } | AccessRule::PolicyOfNeither(_) => "policy",
            };
            let node = format!("{name} ({address})");
            match by_key.iter_mut().find(|(known, _)| *known == key) {
                Some((_, nodes)) => nodes.push(node),
                None => by_key.push((key, vec![node])),
            }
        }
        let problem = |(key, nodes): (&str, Vec<String>)| {
            let nodes = names(nodes.iter().map(String::as_str));
            self.problem(key, &nodes, "the access list denies their addresses")
        };
        by_key.into_iter().map(problem).collect()
    }

    fn problem(&self, key: &str, nodes: &str, reason: &str) -> Diagnostic {
        let (key, origin) = self.config.listener_setting(self.number, key);
        let name = &self.listener.name;
        let place = &self.text;
        let message = format!(
            "the other nodes of the cluster connect to {place}, where the listener '{name}' rejects them: {nodes}: \
             {reason}"
        );
        Diagnostic::error(origin, key, message)
    }
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

impl AppState {
    /// The name of the other node with this address.
    pub fn other_node(&self, peer: PeerIp) -> Option<String> {
        let table = self.nodes.get().ok()?;
        let node = table.name_of(peer.address())?;
        let is_own = table.find(&self.config.settings.node_name).is_some_and(|(own, _)| own == node);
        (!is_own).then(|| node.to_owned())
    }

    /// Logs a rejected connection or call of another node, once an hour for each reason.
    pub fn note_refused_node(&self, peer: PeerIp, listener: &str, reason: &str) {
        let Some(node) = self.other_node(peer) else { return };
        let subject = format!("{node} {listener} {reason}");
        if let Some(left_out) = log_limit::is_due(LogTopic::Node, &subject) {
            tracing::warn!(
                peer = %peer.address(), node, listener,
                "another node of the cluster is rejected: {reason}; the requests that it forwards to this node \
                 fail{left_out}"
            );
        }
    }
}

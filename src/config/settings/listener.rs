//! A listener: a socket with its own access list, TLS, certificates of clients, route scope and limits.

use std::path::PathBuf;
use std::sync::Arc;

use super::listen::policy;
use super::{ClientCertificates, ListenAddress, ListenSettings};
use crate::config::diagnostic::ValueOrigin;
use crate::config::setting::ValueKind::{Bool, List, Text};
use crate::config::setting::{COUNT, PORT_OR_ANY, Setting};
use crate::net::acl::AccessList;
use crate::net::allowed_hosts::AllowedHosts;

type Row = Setting<ListenerSettings>;

/// The keys of a `[[listener]]` table.
pub const LISTENER_ROWS: &[Setting<ListenerSettings>] = &[
    Row::new("name", "", Text, |l, v| v.parsed(&mut l.name, name))
        .doc("the name in the log and over reloads"),
    Row::new("address", "::", Text, |l, v| v.parsed(&mut l.listen.address, ListenAddress::parse))
        .doc("as `listen.address`"),
    Row::new("port", "", PORT_OR_ANY, |l, v| v.number(&mut l.listen.port))
        .doc("0 takes a free one and logs it"),
    Row::new("tls", "true", Bool, |l, v| v.truth(&mut l.tls))
        .doc("false serves plain HTTP, for a proxy in front that terminates TLS"),
    Row::new("proxy_protocol", "false", Bool, |l, v| v.truth(&mut l.proxy_protocol))
        .doc("as `listen.proxy_protocol`"),
    Row::new("hosts", "", List, |l, v| v.parsed(&mut l.hosts, AllowedHosts::parse))
        .inherits("listen.hosts")
        .doc("names that requests may have in `Host`; an empty list: all"),
    Row::new("allow_from", "", List, |l, v| v.addresses(&mut l.acl.allow))
        .inherits("acl.allow_from")
        .doc("see *Address lists*"),
    Row::new("deny_from", "", List, |l, v| v.addresses(&mut l.acl.deny))
        .inherits("acl.deny_from")
        .doc("see *Address lists*"),
    Row::new("policy", "", Text, |l, v| v.parsed(&mut l.acl.policy, policy))
        .inherits("acl.policy")
        .doc("what happens to an address in both lists or in none"),
    Row::new("client_certificates", "", Text, |l, v| {
        v.parsed(&mut l.clients.mode, ClientCertificates::parse)
    })
    .inherits("tls.client_certificates")
    .doc("`off`, `optional`, `required`"),
    Row::new("client_ca", "", Text, |l, v| v.path(&mut l.clients.authorities))
        .inherits("tls.client_ca")
        .doc("PEM file with the CAs of client certificates"),
    Row::new("client_crl", "", Text, |l, v| v.path(&mut l.clients.revocation_lists))
        .inherits("tls.client_crl")
        .doc("file with the revocation lists"),
    Row::new("route_scope", "", Text, |l, v| v.optional(&mut l.route_scope, |text| Ok(text.to_owned())))
        .renamed_from("routes")
        .doc("the route scope that this listener serves"),
    Row::new("connections", "0", COUNT, |l, v| v.number(&mut l.limits.connections))
        .doc("connections at the same time at this listener, then `503`"),
    Row::new("connections_per_address", "", COUNT, |l, v| v.number(&mut l.limits.connections_per_address))
        .inherits("limits.connections_per_address")
        .doc("connections of an address, then `429`; 0: off"),
    Row::new("requests_per_address", "", COUNT, |l, v| v.number(&mut l.limits.requests_per_address))
        .inherits("limits.requests_per_address")
        .doc("requests in flight of an address, then `429`; 0: off"),
];

/// The name of the listener that `[listen]` describes.
pub const FIRST: &str = "listen";
/// `connections_per_address` of a listener with a route scope, if no setting gives it.
pub(in crate::config) const SCOPED_CONNECTIONS_PER_ADDRESS: &str = "64";
const MAX_NAME_BYTES: usize = 32;

#[derive(Clone, Debug, Default)]
pub struct ListenerSettings {
    /// unique; a reload recognises the listener by it
    pub name: Arc<str>,
    pub listen: ListenSettings,
    pub acl: AccessList,
    /// without TLS the listener serves plain HTTP
    pub tls: bool,
    /// every connection begins with a PROXY header, and only trusted proxies connect
    pub proxy_protocol: bool,
    /// accepted host names, and the setting that lists them
    pub hosts: AllowedHosts,
    pub hosts_key: String,
    pub clients: ClientAuthPolicy,
    /// the route scope of this listener; `None` serves all routes
    pub route_scope: Option<String>,
    pub limits: ListenerLimits,
    /// the origins of the address and of the route scope
    pub origin: ValueOrigin,
    pub route_scope_origin: ValueOrigin,
}

/// Limits of a listener and of each of its clients. 0: the listener adds no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListenerLimits {
    pub connections: usize,
    pub connections_per_address: usize,
    /// in flight
    pub requests_per_address: usize,
}

/// The certificates that clients need.
#[derive(Clone, Debug, Default)]
pub struct ClientAuthPolicy {
    pub mode: ClientCertificates,
    /// the CAs, if nodegate asks for certificates
    pub authorities: Option<PathBuf>,
    /// the key that names the CAs, and where it is
    pub key: String,
    pub origin: ValueOrigin,
    /// the revocation lists of the CAs; the same for their key
    pub revocation_lists: Option<PathBuf>,
    pub lists_key: String,
    pub lists_origin: ValueOrigin,
}

impl ClientAuthPolicy {
    /// Whether nodegate asks for certificates without a CA to verify them.
    pub(in crate::config) fn is_without_authorities(&self) -> bool {
        self.mode != ClientCertificates::Off && self.authorities.is_none()
    }

    /// The files that verify certificates.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.authorities.iter().chain(&self.revocation_lists)
    }

    /// Whether the other policy accepts the same certificates. Revocation lists are verified
    /// again all the time.
    pub fn takes_certificates_of(&self, other: &Self) -> bool {
        self.mode == other.mode
            && (self.mode == ClientCertificates::Off || self.authorities == other.authorities)
    }
}

/// Whether both require the same of clients, independent of the origin of the values.
impl PartialEq for ClientAuthPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.takes_certificates_of(other)
            && (self.mode == ClientCertificates::Off || self.revocation_lists == other.revocation_lists)
    }
}

fn name(text: &str) -> Result<Arc<str>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(Arc::from(text))
    } else {
        Err(format!("must be 1 to {MAX_NAME_BYTES} letters, digits, '-' or '_', not '{text}'"))
    }
}

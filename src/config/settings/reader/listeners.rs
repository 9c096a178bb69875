//! The places that connections are taken from: that of `[listen]`, and the `[[listener]]` tables.

use std::sync::Arc;

use super::{SettingsReader, absolute, policy, truth};
use crate::config::diagnostic::{Diagnostic, Severity, ValueOrigin};
use crate::config::keys;
use crate::config::layers::{ListenerTable, ResolvedValue, written};
use crate::config::settings::reader::forwarded::NO_PROXIES;
use crate::config::settings::{
    ClientAuthPolicy, ClientCertificates, FIRST, ListenAddress, ListenSettings, ListenerLimits,
    ListenerSettings,
};
use crate::net::acl::{AccessList, AclPolicy, AddressList};
use crate::net::allowed_hosts::AllowedHosts;
use crate::net::ip_range;

/// Tables that count: their sockets have to fit into one message to a successor.
const MOST: usize = 32;
/// What a limit of connections or requests may be.
const MOST_CONNECTIONS: usize = 1 << 20;
/// Bytes of a listener's name.
const NAME: usize = 32;

/// Reads one table and notes what is wrong with it.
struct ListenerTableReader<'t, 'r, 'l> {
    reader: &'t mut SettingsReader<'r>,
    written: &'l ListenerTable,
    number: usize,
}

impl SettingsReader<'_> {
    /// A listener with a problem is left out, or has a default: nothing is served with an error.
    pub(super) fn listeners(&mut self) -> Vec<ListenerSettings> {
        let layers = self.layers;
        let mut listeners = vec![self.first_listener()];
        if let Some(table) = layers.listeners.get(MOST) {
            let message = format!("there can be {MOST} at most");
            self.problems.push(Diagnostic::error(table.origin.clone(), written(MOST + 1, ""), message));
        }
        for (index, table) in layers.listeners.iter().take(MOST).enumerate() {
            let mut table = ListenerTableReader { reader: self, written: table, number: index + 1 };
            let listener = table.listener();
            if let Some(listener) = listener {
                table.compare(&listener, &listeners);
                listeners.push(listener);
            }
        }
        leave_v4_to_others(&mut listeners);
        listeners
    }

    /// What is wrong with its settings is noted where the settings themselves are read.
    fn first_listener(&self) -> ListenerSettings {
        let text = |key| self.layers.find(key);
        let address = ListenAddress::parse(&text("listen.address").text).unwrap_or(ListenAddress::Any);
        let list = |key| AddressList::new(ip_range::parse_list(&text(key).text).0);
        let policy = policy(&text("acl.policy").text).unwrap_or(AclPolicy::Allow);
        let (authorities, lists) = (text("tls.client_ca"), text("tls.client_crl"));
        ListenerSettings {
            name: Arc::from(FIRST),
            listen: ListenSettings {
                address,
                port: text("listen.port").text.trim().parse().unwrap_or_default(),
            },
            acl: AccessList::new(list("acl.allow_from"), list("acl.deny_from"), policy),
            tls: true,
            proxy_protocol: truth(&text("listen.proxy_protocol").text).unwrap_or(false),
            hosts: AllowedHosts::parse(&text("listen.hosts").text).unwrap_or_default(),
            hosts_key: "listen.hosts".to_owned(),
            clients: ClientAuthPolicy {
                mode: ClientCertificates::parse(&text("tls.client_certificates").text)
                    .unwrap_or(ClientCertificates::Off),
                authorities: absolute(&authorities.text, self.root).ok(),
                key: "tls.client_ca".to_owned(),
                origin: authorities.origin,
                revocation_lists: absolute(&lists.text, self.root).ok(),
                lists_key: "tls.client_crl".to_owned(),
                lists_origin: lists.origin,
            },
            route_scope: None,
            limits: ListenerLimits {
                connections: 0,
                connections_per_address: number(&text("limits.connections_per_address").text)
                    .unwrap_or_default(),
                requests_per_address: number(&text("limits.requests_per_address").text).unwrap_or_default(),
            },
            origin: text("listen.address").origin,
            route_scope_origin: ValueOrigin::Profile,
        }
    }
}

impl ListenerTableReader<'_, '_, '_> {
    fn listener(&mut self) -> Option<ListenerSettings> {
        let name = self.parsed("name", name);
        let address = self.parsed("address", ListenAddress::parse).unwrap_or(ListenAddress::Any);
        let port = self.parsed("port", port);
        let tls = self.parsed("tls", truth).unwrap_or(true);
        let proxy_protocol = self.parsed("proxy_protocol", truth).unwrap_or(false);
        if proxy_protocol && self.reader.text("real_ip.allow_from").text.trim().is_empty() {
            self.problem("proxy_protocol", self.find("proxy_protocol").origin, NO_PROXIES);
        }
        let acl = AccessList::new(
            self.addresses("allow_from"),
            self.addresses("deny_from"),
            self.parsed("policy", policy).unwrap_or(AclPolicy::Allow),
        );
        let clients = self.clients();
        if !tls && clients.mode != ClientCertificates::Off {
            let message = "without TLS no client can be asked for a certificate: write 'off' here";
            self.problem("client_certificates", self.find("client_certificates").origin, message);
        }
        let limits = ListenerLimits {
            connections: self.parsed("connections", number).unwrap_or_default(),
            connections_per_address: self.parsed("connections_per_address", number).unwrap_or_default(),
            requests_per_address: self.parsed("requests_per_address", number).unwrap_or_default(),
        };
        let route_scope = self.find("route_scope");
        let listener = ListenerSettings {
            name: Arc::from(name?.as_str()),
            listen: ListenSettings { address, port: port? },
            acl,
            tls,
            proxy_protocol,
            hosts: self.parsed("hosts", AllowedHosts::parse).unwrap_or_default(),
            hosts_key: self.key_of("hosts", "listen.hosts"),
            clients,
            route_scope: Some(route_scope.text).filter(|name| !name.is_empty()),
            limits,
            origin: self.written.origin.clone(),
            route_scope_origin: route_scope.origin,
        };
        self.warn_of_clear_text(&listener);
        Some(listener)
    }

    /// How the key is written that a value comes from: that of the table, or of the setting that it has it from.
    fn key_of(&self, key: &str, setting: &str) -> String {
        if self.written.given(key).is_some() { written(self.number, key) } else { setting.to_owned() }
    }

    fn find(&self, key: &str) -> ResolvedValue {
        self.written.find(key, self.reader.layers)
    }

    /// What is not given is that of a setting, whose mistakes are told there.
    fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let found = self.find(key);
        match parse(&found.text) {
            Ok(value) => Some(value),
            Err(message) => {
                if self.written.given(key).is_some() {
                    self.problem(key, found.origin, message);
                } else if keys::inherited(key).is_none() {
                    self.problem(key, self.written.origin.clone(), "is missing");
                }
                None
            }
        }
    }

    fn addresses(&mut self, key: &str) -> AddressList {
        let found = self.find(key);
        let (entries, errors) = ip_range::parse_list(&found.text);
        if self.written.given(key).is_some() {
            for error in errors {
                self.problem(key, found.origin.clone(), error.to_string());
            }
        }
        AddressList::new(entries)
    }

    fn clients(&mut self) -> ClientAuthPolicy {
        let mode = self.parsed("client_certificates", ClientCertificates::parse);
        let root = self.reader.root;
        let mut path = |key: &str| {
            let is_there = !self.find(key).text.is_empty();
            is_there.then(|| self.parsed(key, |text| absolute(text, root))).flatten()
        };
        let (authorities, revocation_lists) = (path("client_ca"), path("client_crl"));
        let demand = ClientAuthPolicy {
            mode: mode.unwrap_or(ClientCertificates::Off),
            authorities,
            key: self.key_of("client_ca", "tls.client_ca"),
            origin: self.find("client_ca").origin,
            revocation_lists,
            lists_key: self.key_of("client_crl", "tls.client_crl"),
            lists_origin: self.find("client_crl").origin,
        };
        if demand.is_without_authorities() && self.written.given("client_certificates").is_some() {
            let origin = self.find("client_certificates").origin;
            let message = "without client_ca (or tls.client_ca) no certificate of a client can be judged";
            self.problem("client_certificates", origin, message);
        }
        demand
    }

    fn warn_of_clear_text(&mut self, listener: &ListenerSettings) {
        let is_restricted = ["allow_from", "deny_from", "policy"].into_iter().any(|key| {
            let found = self.find(key);
            !found.text.trim().is_empty() && found.text.trim() != "allow"
        });
        if !listener.tls && !listener.listen.is_loopback() && !is_restricted {
            let message = "passwords and tickets go over the network in clear text, from and to anybody: name the \
                           proxy in front in allow_from, or listen on a loopback address";
            self.warning("tls", self.find("tls").origin, message);
        }
    }

    /// With those before it.
    fn compare(&mut self, listener: &ListenerSettings, others: &[ListenerSettings]) {
        if let Some(number) = others.iter().position(|other| other.name == listener.name) {
            let origin = self.find("name").origin;
            let taken =
                if number == 0 { "is the name of [listen]" } else { "is the name of another listener" };
            self.problem("name", origin, format!("'{}' {taken}", listener.name));
        }
        let twin = others.iter().find(|other| listener.listen.port > 0 && other.listen == listener.listen);
        if let Some(twin) = twin {
            let origin = self.find("port").origin;
            let ListenSettings { address, port } = &listener.listen;
            let message =
                format!("address {address} with port {port} is taken by the listener '{}'", twin.name);
            self.problem("port", origin, message);
        }
    }

    fn problem(&mut self, key: &str, origin: ValueOrigin, message: impl Into<String>) {
        let problem = Diagnostic::error(origin, written(self.number, key), message);
        self.reader.problems.push(problem);
    }

    fn warning(&mut self, key: &str, origin: ValueOrigin, message: &str) {
        let problem = Diagnostic::error(origin, written(self.number, key), message);
        self.reader.problems.push(Diagnostic { severity: Severity::Warning, ..problem });
    }
}

/// `::` is for IPv6 alone where another listener takes all IPv4 addresses of its port.
fn leave_v4_to_others(listeners: &mut [ListenerSettings]) {
    let ports: Vec<_> = listeners
        .iter()
        .filter(|listener| listener.listen.is_any_v4())
        .map(|listener| listener.listen.port)
        .collect();
    for ListenerSettings { listen, .. } in listeners {
        if listen.address == ListenAddress::Any && listen.port > 0 && ports.contains(&listen.port) {
            listen.address = ListenAddress::AnyV6;
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=NAME).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {NAME} letters, digits, '-' or '_', not '{text}'"))
    }
}

fn number(text: &str) -> Result<usize, String> {
    let parsed = text.trim().parse().ok().filter(|number| *number <= MOST_CONNECTIONS);
    parsed.ok_or_else(|| format!("must be a whole number from 0 to {MOST_CONNECTIONS}, not '{text}'"))
}

fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number from 0 to 65535, not '{text}'"))
}

//! The listeners: that of `[listen]`, and one for each `[[listener]]` table.

use std::sync::Arc;

use super::listener::LISTENER_ROWS;
use super::{
    ClientCertificates, FIRST, LimitSettings, ListenAddress, ListenSettings, ListenerLimits,
    ListenerSettings, Settings,
};
use crate::config::diagnostic::Diagnostic;
use crate::config::layers::{ListenerTable, ResolvedValue, SettingsLayers, written};
use crate::config::root::RootDirectory;
use crate::config::validate::NO_PROXIES;

/// Limit of listeners besides `[listen]`: their sockets must fit into one message to a new process.
const MAX_TABLES: usize = 32;

/// Reads one table and collects its mistakes.
struct TableReader<'a> {
    layers: &'a SettingsLayers,
    table: &'a ListenerTable,
    number: usize,
    problems: Vec<Diagnostic>,
}

impl Settings {
    /// All listeners. A table without a valid name or port is left out: with such an error nodegate does not serve.
    pub(super) fn read_listeners(
        &mut self,
        layers: &SettingsLayers,
        root: &RootDirectory,
    ) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let first = self.first_listener(layers);
        self.listeners.push(first);
        if let Some(table) = layers.listeners.get(MAX_TABLES) {
            let message = format!("there can be {MAX_TABLES} at most");
            problems.push(Diagnostic::error(table.origin.clone(), written(MAX_TABLES + 1, ""), message));
        }
        for (index, table) in layers.listeners.iter().take(MAX_TABLES).enumerate() {
            let mut reader = TableReader { layers, table, number: index + 1, problems: Vec::new() };
            if let Some(listener) = reader.listener(root) {
                reader.compare(&listener, &self.listeners);
                self.listeners.push(listener);
            }
            problems.append(&mut reader.problems);
        }
        leave_v4_to_others(&mut self.listeners);
        problems
    }

    fn first_listener(&mut self, layers: &SettingsLayers) -> ListenerSettings {
        let LimitSettings { connections_per_address, requests_per_address, .. } = self.limits;
        ListenerSettings {
            name: Arc::from(FIRST),
            listen: self.listen.clone(),
            tls: true,
            hosts: self.hosts.clone(),
            hosts_key: "listen.hosts".to_owned(),
            clients: self.tls.clients.clone(),
            limits: ListenerLimits { connections: 0, connections_per_address, requests_per_address },
            origin: layers.find("listen.address").origin,
            ..std::mem::take(&mut self.first)
        }
    }
}

impl TableReader<'_> {
    fn listener(&mut self, root: &RootDirectory) -> Option<ListenerSettings> {
        let mut listener = ListenerSettings { origin: self.table.origin.clone(), ..Default::default() };
        let mut is_complete = true;
        for row in LISTENER_ROWS {
            let found = self.table.find(row, self.layers);
            let messages = row.apply(&mut listener, &found.text, root);
            is_complete &= messages.is_empty() || !matches!(row.key, "name" | "port");
            if self.table.given(row.key).is_some() {
                for message in messages {
                    self.problem(row.key, message);
                }
            } else if row.inherits.is_none() && !messages.is_empty() {
                let key = written(self.number, row.key);
                self.problems.push(Diagnostic::error(self.table.origin.clone(), key, "is missing"));
            }
        }
        self.set_origins(&mut listener);
        self.verify(&listener);
        is_complete.then_some(listener)
    }

    fn set_origins(&self, listener: &mut ListenerSettings) {
        let origin = |key| self.find(key).origin;
        listener.hosts_key = self.key_of("hosts", "listen.hosts");
        listener.route_scope_origin = origin("route_scope");
        let clients = &mut listener.clients;
        (clients.key, clients.origin) = (self.key_of("client_ca", "tls.client_ca"), origin("client_ca"));
        clients.lists_key = self.key_of("client_crl", "tls.client_crl");
        clients.lists_origin = origin("client_crl");
    }

    /// Keys of the table that do not fit together.
    fn verify(&mut self, listener: &ListenerSettings) {
        if listener.proxy_protocol && self.layers.find("real_ip.allow_from").text.trim().is_empty() {
            self.problem("proxy_protocol", NO_PROXIES);
        }
        if !listener.tls && listener.clients.mode != ClientCertificates::Off {
            let message = "without TLS no client can be asked for a certificate: write 'off' here";
            self.problem("client_certificates", message);
        }
        if listener.clients.is_without_authorities() && self.table.given("client_certificates").is_some() {
            let message = "without client_ca (or tls.client_ca) no certificate of a client can be verified";
            self.problem("client_certificates", message);
        }
        let is_restricted = ["allow_from", "deny_from", "policy"].into_iter().any(|key| {
            let found = self.find(key);
            !found.text.trim().is_empty() && found.text.trim() != "allow"
        });
        if !listener.tls && !listener.listen.is_loopback() && !is_restricted {
            let message = "passwords and tickets go over the network in clear text: list the proxy in front in \
                           allow_from, or listen on a loopback address";
            let origin = self.find("tls").origin;
            self.problems.push(Diagnostic::warning(origin, written(self.number, "tls"), message));
        }
    }

    /// Verifies that the listener has a name and an address that no earlier one has.
    fn compare(&mut self, listener: &ListenerSettings, others: &[ListenerSettings]) {
        if let Some(number) = others.iter().position(|other| other.name == listener.name) {
            let taken =
                if number == 0 { "is the name of [listen]" } else { "is the name of another listener" };
            self.problem("name", format!("'{}' {taken}", listener.name));
        }
        let twin = others.iter().find(|other| listener.listen.port > 0 && other.listen == listener.listen);
        if let Some(twin) = twin {
            let ListenSettings { address, port } = &listener.listen;
            let message =
                format!("address {address} with port {port} is taken by the listener '{}'", twin.name);
            self.problem("port", message);
        }
    }

    /// The key of the value: that of the table, or of the setting that the table inherits.
    fn key_of(&self, key: &str, setting: &str) -> String {
        if self.table.given(key).is_some() { written(self.number, key) } else { setting.to_owned() }
    }

    fn find(&self, key: &str) -> ResolvedValue {
        let row = LISTENER_ROWS.iter().find(|row| row.key == key);
        row.map(|row| self.table.find(row, self.layers)).unwrap_or_default()
    }

    fn problem(&mut self, key: &str, message: impl Into<String>) {
        let origin = self.find(key).origin;
        self.problems.push(Diagnostic::error(origin, written(self.number, key), message));
    }
}

/// `::` is only IPv6 if another listener has all IPv4 addresses of its port.
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

//! Reads the keys one by one and collects what is wrong with them.

mod forwarded;
mod listeners;
mod monitoring;
mod security_headers;
mod tls;
mod tunnel;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{
    AllowedOrigins, BackendAddress, BackendSettings, LimitSettings, ListenAddress, ListenSettings, LogFormat,
    Settings, TimeoutSettings,
};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::config::keys;
use crate::config::keys::ValueKind;
use crate::config::layers::{ResolvedValue, SettingsLayers};
use crate::config::root::RootDirectory;
use crate::net::acl::{AccessList, AclPolicy, AddressList};
use crate::net::allowed_hosts::AllowedHosts;
use crate::net::ip_range;

/// Reads keys one by one and collects what is wrong.
pub(super) struct SettingsReader<'a> {
    layers: &'a SettingsLayers,
    root: &'a RootDirectory,
    problems: Vec<Diagnostic>,
}

impl Settings {
    /// Every setting parsed, and every problem found on the way; a value with a problem falls back to its default.
    pub fn resolve(layers: &SettingsLayers, root: &RootDirectory) -> (Self, Vec<Diagnostic>) {
        let mut reader = SettingsReader { layers, root, problems: Vec::new() };
        let settings = Self {
            listen: ListenSettings {
                address: reader.parsed("listen.address", ListenAddress::parse).unwrap_or(ListenAddress::Any),
                port: reader.number("listen.port"),
            },
            hosts: reader.parsed("listen.hosts", AllowedHosts::parse).unwrap_or_default(),
            acl: AccessList::new(
                reader.addresses("acl.allow_from"),
                reader.addresses("acl.deny_from"),
                reader.parsed("acl.policy", policy).unwrap_or(AclPolicy::Allow),
            ),
            listeners: reader.listeners(),
            tls: reader.tls(),
            compression: reader.truth("compression.enabled"),
            compression_api: reader.truth("compression.api"),
            real_ip: reader.real_ip(),
            workers: reader.workers(),
            backend: reader.backend(),
            unprivileged: reader.optional("backend.unprivileged", BackendAddress::parse),
            node_name: reader.node_name(),
            cluster_port: reader.number("cluster.port"),
            cluster_proxy_protocol: reader.truth("cluster.proxy_protocol"),
            tunnel: reader.tunnel(),
            user: reader.text("user").text,
            timeout: reader.timeouts(),
            limits: reader.limits(),
            console_ping: Some(reader.seconds("console.ping")).filter(|pause| !pause.is_zero()),
            console_recheck: Some(reader.seconds("console.recheck")).filter(|pause| !pause.is_zero()),
            console_origins: reader
                .parsed("console.origins", AllowedOrigins::parse_listed)
                .unwrap_or_default(),
            browser: reader.browser(),
            monitoring: reader.monitoring(),
            tracing: reader.tracing(),
            access_log: reader.path("log.access"),
            log_format: reader.parsed("log.format", LogFormat::parse).unwrap_or(LogFormat::Text),
            log_target: reader.number("log.target"),
        };
        (settings, reader.problems)
    }
}

impl SettingsReader<'_> {
    fn text(&self, key: &str) -> ResolvedValue {
        self.layers.find(key)
    }

    fn problem(&mut self, key: &str, origin: &ValueOrigin, message: impl Into<String>) {
        self.problems.push(Diagnostic::error(origin.clone(), keys::written(key, origin), message));
    }

    fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let found = self.text(key);
        parse(&found.text).map_err(|message| self.problem(key, &found.origin, message)).ok()
    }

    fn optional<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str, &RootDirectory) -> Result<T, String>,
    ) -> Option<T> {
        let root = self.root;
        if self.text(key).text.is_empty() { None } else { self.parsed(key, |text| parse(text, root)) }
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key, absolute)
    }

    fn paths(&mut self, key: &str) -> Vec<PathBuf> {
        let named = |text: &str, root: &RootDirectory| {
            let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
            paths.map(|path| absolute(path, root)).collect()
        };
        self.optional(key, named).unwrap_or_default()
    }

    fn number<T: TryFrom<u64> + FromStr + Default>(&mut self, key: &str) -> T {
        let (least, most) = match keys::find(key).map(|key| key.kind) {
            Some(ValueKind::Number(least, most)) => (least, most),
            _ => (0, u64::MAX),
        };
        let parse = |text: &str| match text.trim().parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => {
                T::try_from(number).map_err(|_| format!("{number} is too large"))
            }
            _ => Err(format!("must be a whole number from {least} to {most}, not '{text}'")),
        };
        let default = keys::find(key).and_then(|key| key.default.parse().ok()).unwrap_or_default();
        self.parsed(key, parse).unwrap_or(default)
    }

    fn seconds(&mut self, key: &str) -> Duration {
        Duration::from_secs(self.number(key))
    }

    fn timeouts(&mut self) -> TimeoutSettings {
        let header = self.seconds("timeout.header");
        let mut or_header = |key| Some(self.seconds(key)).filter(|time| !time.is_zero()).unwrap_or(header);
        let (first_byte, handshake) = (or_header("timeout.first_byte"), or_header("timeout.handshake"));
        TimeoutSettings {
            connect: self.seconds("timeout.connect"),
            answer: self.seconds("timeout.answer"),
            answer_unprivileged: self.seconds("timeout.answer_unprivileged"),
            first_byte,
            handshake,
            header,
            body: self.seconds("timeout.body"),
            login_body: self.seconds("timeout.login_body"),
            write: self.seconds("timeout.write"),
            idle: self.seconds("timeout.idle"),
            tunnel: Some(self.seconds("timeout.tunnel")).filter(|time| !time.is_zero()),
            stop: self.seconds("timeout.stop"),
            drain: self.seconds("timeout.drain"),
        }
    }

    fn limits(&mut self) -> LimitSettings {
        LimitSettings {
            body: self.number("limits.body"),
            login_body: self.number("limits.login_body"),
            buffered: self.number("limits.buffered"),
            request_body_min_rate: self.number("limits.request_body_min_rate"),
            response_min_rate: self.number("limits.response_min_rate"),
            uri_bytes: self.number("limits.uri_bytes"),
            header: self.number("limits.header"),
            headers: self.number("limits.headers"),
            connections: self.number("limits.connections"),
            connections_per_address: self.number("limits.connections_per_address"),
            requests_per_address: self.number("limits.requests_per_address"),
            uploads: self.number("limits.uploads"),
            upload_bytes_total: self.number("limits.upload_bytes_total"),
            login_failures: self.number("limits.login_failures"),
        }
    }

    fn truth(&mut self, key: &str) -> bool {
        let default = keys::find(key).is_some_and(|key| matches!(key.default, "1" | "true"));
        self.parsed(key, truth).unwrap_or(default)
    }

    fn addresses(&mut self, key: &str) -> AddressList {
        let found = self.text(key);
        let (entries, errors) = ip_range::parse_list(&found.text);
        for error in errors {
            self.problem(key, &found.origin, error.to_string());
        }
        AddressList::new(entries)
    }

    fn workers(&mut self) -> usize {
        let found = self.text("workers");
        if let Ok(number @ 1..=127) = found.text.trim().parse::<usize>() {
            return number;
        }
        let message = format!("'{}' is not from 1 to 127; using {DEFAULT_WORKERS}", found.text);
        let key = keys::written("workers", &found.origin);
        self.problems.push(Diagnostic::warning(found.origin, key, message));
        DEFAULT_WORKERS
    }

    fn backend(&mut self) -> BackendSettings {
        let root = self.root;
        let address = self
            .parsed("backend.address", |text| BackendAddress::parse(text, root))
            .unwrap_or_else(|| BackendAddress::Tcp("127.0.0.1:85".to_owned()));
        BackendSettings {
            address,
            keepalive: self.truth("backend.keepalive"),
            coalesce: self.truth("backend.coalesce"),
        }
    }

    fn node_name(&mut self) -> String {
        let name = self.text("node.name").text;
        if !name.is_empty() {
            return name;
        }
        let host =
            nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        host.split('.').next().unwrap_or_default().to_owned()
    }
}

const DEFAULT_WORKERS: usize = 3;

fn absolute(text: &str, root: &RootDirectory) -> Result<PathBuf, String> {
    if text.starts_with('/') { Ok(root.path(text)) } else { Err(format!("'{text}' is no absolute path")) }
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("must be 0, 1, false or true, not '{text}'")),
    }
}

fn policy(text: &str) -> Result<AclPolicy, String> {
    text.trim().parse().map_err(|_| format!("must be allow or deny, not '{text}'"))
}

/// `FIRST-LAST`.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match parsed {
        Some((first, last)) if first <= last && first > 0 => Ok(first..=last),
        _ => Err(format!("must be FIRST-LAST, such as 61000-61999, not '{text}'")),
    }
}

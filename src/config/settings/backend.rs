//! Settings about the daemons, the other nodes, and the process itself.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Row;
use crate::config::root::RootDirectory;
use crate::config::setting::ValueKind::{Bool, Milliseconds, Number, Text};
use crate::config::setting::{COUNT, PORT, ValueKind};

/// Requests at once at a daemon.
const WORKERS: ValueKind = Number(0, 1024);
/// From a millisecond to an hour.
const SLOW_CALL: ValueKind = Milliseconds(1, 3_600_000);

pub(super) const ROWS: &[Row] = &[
    Row::new("compression.enabled", "1", Bool, |s, v| v.truth(&mut s.compression))
        .legacy("COMPRESSION")
        .doc("0 compresses nothing and hides `Accept-Encoding` from the daemon"),
    Row::new("compression.api", "false", Bool, |s, v| v.truth(&mut s.compression_api))
        .doc("nodegate compresses answers of the API with zstd"),
    Row::new("workers", "3", Number(1, 127), |s, v| v.number(&mut s.workers))
        .legacy("MAX_WORKERS")
        .lenient()
        .doc("worker threads, 1 to 127"),
    Row::new("backend.address", "127.0.0.1:85", Text, |s, v| v.backend(&mut s.backend.address))
        .doc("the daemon: `ADDRESS:PORT`, `[IPv6]:PORT` or `unix:/path`"),
    Row::new("backend.unprivileged", "", Text, |s, v| v.optional_backend(&mut s.unprivileged))
        .doc("a daemon without root: `ADDRESS:PORT` or `unix:/path`"),
    Row::new("backend.keepalive", "false", Bool, |s, v| v.truth(&mut s.backend.keepalive))
        .doc("keeps connections to the daemon, for GET"),
    Row::new("backend.coalesce", "false", Bool, |s, v| v.truth(&mut s.backend.coalesce))
        .doc("sends the same call of one client to the daemon once"),
    Row::new("backend.workers", "3", WORKERS, |s, v| v.number(&mut s.backend.workers))
        .doc("workers of the daemon, so many requests at once; 0: no limit"),
    Row::new("backend.unprivileged_workers", "3", WORKERS, |s, v| {
        v.number(&mut s.backend.unprivileged_workers)
    })
    .doc("the same of the daemon without root"),
    Row::new("backend.slow_call", "0.5", SLOW_CALL, |s, v| v.decimal_seconds(&mut s.backend.slow_call))
        .doc("seconds after which a call counts as slow"),
    Row::new("backend.queue", "1024", COUNT, |s, v| v.number(&mut s.backend.queue))
        .doc("requests that wait for each daemon, then `503`"),
    Row::new("backend.queue_per_client", "256", COUNT, |s, v| v.number(&mut s.backend.queue_per_client))
        .doc("requests of one client that wait for each daemon, then `503`"),
    Row::new("node.name", "", Text, |s, v| v.text(&mut s.node_name))
        .doc("the name of this node in paths and tickets"),
    Row::new("cluster.port", "8006", PORT, |s, v| v.number(&mut s.cluster_port))
        .doc("port of the other nodes"),
    Row::new("cluster.proxy_protocol", "false", Bool, |s, v| v.truth(&mut s.cluster_proxy_protocol))
        .doc("sends other nodes the client's address in a PROXY header"),
    Row::new("routes.file", "", Text, |s, v| v.path(&mut s.routes_file))
        .doc("a route table that replaces the profile's"),
    Row::new("user", "www-data", Text, |s, v| v.text(&mut s.user))
        .doc("the user that nodegate becomes if you start it as root"),
];

#[derive(Clone, Debug, Default)]
pub struct BackendSettings {
    pub address: BackendAddress,
    pub keepalive: bool,
    /// whether equal calls at the same time are sent once
    pub coalesce: bool,
    /// requests at once at the daemon; 0 sets no limit
    pub workers: usize,
    /// requests at once at the daemon without root; 0 sets no limit
    pub unprivileged_workers: usize,
    /// a call that runs longer is slow
    pub slow_call: Duration,
    /// requests that may wait for one daemon
    pub queue: usize,
    /// requests of one client that may wait for one daemon
    pub queue_per_client: usize,
}

/// The address of a daemon, or of the listener for metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackendAddress {
    /// `host:port`
    Tcp(String),
    /// `unix:/path`
    Unix(PathBuf),
}

impl BackendAddress {
    pub(in crate::config) fn parse(text: &str, root: &RootDirectory) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(root.path(path)))
            } else {
                Err(format!("'{text}': write unix:/absolute/path"))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!("'{text}': write ADDRESS:PORT, [IPv6]:PORT or unix:/path")),
        }
    }
}

impl Default for BackendAddress {
    fn default() -> Self {
        Self::Tcp(String::new())
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

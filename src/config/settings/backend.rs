//! Settings about the daemons, the other nodes, and the process itself.

use std::fmt;
use std::path::PathBuf;

use super::Row;
use crate::config::root::RootDirectory;
use crate::config::setting::PORT;
use crate::config::setting::ValueKind::{Bool, Number, Text};

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
    Row::new("node.name", "", Text, |s, v| v.text(&mut s.node_name))
        .doc("the name of this node in paths and tickets"),
    Row::new("cluster.port", "8006", PORT, |s, v| v.number(&mut s.cluster_port))
        .doc("port of the other nodes"),
    Row::new("cluster.proxy_protocol", "false", Bool, |s, v| v.truth(&mut s.cluster_proxy_protocol))
        .doc("sends other nodes the client's address in a PROXY header"),
    Row::new("user", "www-data", Text, |s, v| v.text(&mut s.user))
        .doc("the user that nodegate becomes if you start it as root"),
];

#[derive(Clone, Debug, Default)]
pub struct BackendSettings {
    pub address: BackendAddress,
    pub keepalive: bool,
    /// whether equal calls at the same time are sent once
    pub coalesce: bool,
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

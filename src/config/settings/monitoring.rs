//! Settings of metrics, probes, tracing and the access log.

use std::str::FromStr as _;

use http::HeaderName;

use super::{BackendAddress, Row};
use crate::config::setting::ValueKind::{Bool, List, Number, Text};
use crate::net::acl::AddressList;
use crate::net::allowed_hosts::AllowedHosts;

pub(super) const ROWS: &[Row] = &[
    Row::new("metrics.listen", "", Text, |s, v| v.optional_backend(&mut s.monitoring.listen))
        .doc("where nodegate serves metrics and probes; empty: nowhere"),
    Row::new("metrics.allow_from", "127.0.0.0/8,::1", List, |s, v| v.addresses(&mut s.monitoring.allow_from))
        .doc("clients of `metrics.listen`; see *Address lists*"),
    Row::new("metrics.hosts", "", List, |s, v| v.parsed(&mut s.monitoring.hosts, AllowedHosts::parse))
        .doc("further host names that `metrics.listen` answers"),
    Row::new("metrics.status_allow_from", "127.0.0.0/8,::1", List, |s, v| {
        v.addresses(&mut s.monitoring.status_allow_from)
    })
    .doc("clients of `metrics.listen` that may see the status page; see *Address lists*"),
    Row::new("metrics.mask_addresses", "true", Bool, |s, v| v.truth(&mut s.monitoring.mask_addresses))
        .doc("names only the network of clients whose logins failed on the status page"),
    Row::new("health.live", "/-/health", Text, |s, v| v.parsed(&mut s.monitoring.health, probe_path))
        .doc("path of the liveness probe; empty: none"),
    Row::new("health.ready", "/-/ready", Text, |s, v| v.parsed(&mut s.monitoring.ready, probe_path))
        .doc("path of the readiness probe; empty: none"),
    Row::new("trace.request_id_header", "", Text, |s, v| v.optional(&mut s.tracing.number, own_header))
        .doc("header with the number of a request, such as `X-Request-Id`"),
    Row::new("trace.traceparent", "true", Bool, |s, v| v.truth(&mut s.tracing.traceparent))
        .renamed_from("trace.parent")
        .doc("passes a valid W3C `traceparent` of the client on to the daemon"),
    Row::new("log.access", "", Text, |s, v| v.path(&mut s.access_log)).doc("path of the access log"),
    Row::new("log.format", "text", Text, |s, v| v.parsed(&mut s.log_format, LogFormat::parse))
        .doc("`text` or `json`"),
    Row::new("log.target", "1024", Number(128, 65_534), |s, v| v.number(&mut s.log_target))
        .doc("bytes of a request target in a log line, 128 to 65534"),
];

/// The listener of metrics and probes, and its clients.
#[derive(Debug, Default)]
pub struct MonitoringSettings {
    /// `None` serves no metrics
    pub listen: Option<BackendAddress>,
    pub allow_from: AddressList,
    /// accepted host names, besides loopback and its own address
    pub hosts: AllowedHosts,
    /// clients of the status page
    pub status_allow_from: AddressList,
    /// whether the page names only the networks of clients whose logins failed
    pub mask_addresses: bool,
    /// paths of the probes; empty: none
    pub health: String,
    pub ready: String,
}

/// Headers that identify a request in the logs of other programs.
#[derive(Clone, Debug, Default)]
pub struct TraceSettings {
    /// the header with the number of a request, for the daemon and the client
    pub number: Option<HeaderName>,
    /// whether the client's `traceparent` goes to the daemon
    pub traceparent: bool,
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// the format of the originals
    #[default]
    Text,
    Json,
}

impl LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be text or json, not '{text}'")),
        }
    }

    /// Whether a line also names the upstream, TLS and the request's number.
    pub fn has_details(self) -> bool {
        match self {
            Self::Text => false,
            Self::Json => true,
        }
    }
}

fn probe_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    let is_path = text.starts_with('/') && text.bytes().all(is_plain);
    if is_path || text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is not a path of letters, digits, '-', '_', '.'"))
    }
}

/// A header without a meaning in other programs.
fn own_header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_str(text).ok().filter(|name| name.as_str().starts_with("x-"));
    name.ok_or_else(|| format!("'{text}' is not a header name that begins with X-"))
}

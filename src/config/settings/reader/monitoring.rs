//! Settings for those who watch: metrics, probes, what leads from one log to another.

use std::str::FromStr as _;

use http::HeaderName;

use super::SettingsReader;
use crate::config::settings::{BackendAddress, MonitoringSettings, TraceSettings};
use crate::net::allowed_hosts::AllowedHosts;

impl SettingsReader<'_> {
    pub(super) fn monitoring(&mut self) -> MonitoringSettings {
        MonitoringSettings {
            listen: self.optional("metrics.listen", BackendAddress::parse),
            allow_from: self.addresses("metrics.allow_from"),
            hosts: self.parsed("metrics.hosts", AllowedHosts::parse).unwrap_or_default(),
            health: self.parsed("health.live", probe_path).unwrap_or_default(),
            ready: self.parsed("health.ready", probe_path).unwrap_or_default(),
        }
    }

    pub(super) fn tracing(&mut self) -> TraceSettings {
        let number = self.optional("trace.request_id_header", |text, _| own_header(text));
        TraceSettings { number, traceparent: self.truth("trace.traceparent") }
    }
}

fn probe_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    let is_path = text.starts_with('/') && !text.starts_with("/api2") && text.bytes().all(is_plain);
    if is_path || text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is no path of letters, digits, '-', '_', '.' outside /api2"))
    }
}

/// A header that means nothing else to anybody.
fn own_header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_str(text).ok().filter(|name| name.as_str().starts_with("x-"));
    name.ok_or_else(|| format!("'{text}' is no header name that begins with X-"))
}

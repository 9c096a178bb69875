//! Limits. 0 switches a limit off if its range includes 0.

use super::Row;
use crate::config::setting::COUNT;
use crate::config::setting::ValueKind::Number;

pub(super) const ROWS: &[Row] = &[
    Row::new("limits.body", "524288", Number(0, 1 << 30), |s, v| v.number(&mut s.limits.body))
        .doc("bytes of an API request's body"),
    Row::new("limits.login_body", "16384", Number(256, 1 << 30), |s, v| v.number(&mut s.limits.login_body))
        .doc("bytes of the body of a call without login, then `413`"),
    Row::new("limits.buffered", "67108864", Number(1 << 20, 1 << 40), |s, v| {
        v.number(&mut s.limits.buffered)
    })
    .doc("bytes of all request bodies in memory, then `503`"),
    Row::new("limits.request_body_min_rate", "1000", Number(0, 1 << 30), |s, v| {
        v.number(&mut s.limits.request_body_min_rate)
    })
    .renamed_from("limits.body_rate")
    .doc("bytes a second that a body must reach on average; 0: none"),
    Row::new("limits.response_min_rate", "250", Number(0, 1 << 30), |s, v| {
        v.number(&mut s.limits.response_min_rate)
    })
    .renamed_from("limits.answer_rate")
    .doc("bytes a second that a client must take of an answer; 0: none"),
    Row::new("limits.uri_bytes", "32768", Number(256, 65_534), |s, v| v.number(&mut s.limits.uri_bytes))
        .renamed_from("limits.url")
        .doc("bytes of path and query, then `414`"),
    Row::new("limits.header", "8192", Number(256, 1 << 16), |s, v| v.number(&mut s.limits.header))
        .doc("bytes of a request head, without its first line"),
    Row::new("limits.headers", "64", Number(1, 100), |s, v| v.number(&mut s.limits.headers))
        .doc("lines of a request head, without its first line"),
    Row::new("limits.connections", "0", COUNT, |s, v| v.number(&mut s.limits.connections))
        .doc("connections at the same time, then `503`"),
    Row::new("limits.connections_per_address", "0", COUNT, |s, v| {
        v.number(&mut s.limits.connections_per_address)
    })
    .doc("connections of one client address, then `429`; 0: off"),
    Row::new("limits.requests_per_address", "0", COUNT, |s, v| v.number(&mut s.limits.requests_per_address))
        .doc("requests in flight of one address, then `429`; 0: off"),
    Row::new("limits.uploads", "64", Number(1, 1 << 16), |s, v| v.number(&mut s.limits.uploads))
        .doc("uploads at the same time, then `503`"),
    Row::new("limits.upload_bytes_total", "0", Number(0, 1 << 50), |s, v| {
        v.number(&mut s.limits.upload_bytes_total)
    })
    .renamed_from("limits.spool")
    .doc("bytes of all running uploads together, then `503`"),
    Row::new("limits.login_failures", "20", COUNT, |s, v| v.number(&mut s.limits.login_failures))
        .doc("failed logins of an address in a minute, then `429`; 0: off"),
];

#[derive(Clone, Copy, Debug, Default)]
pub struct LimitSettings {
    /// bytes
    pub body: usize,
    /// bytes of a call without login
    pub login_body: usize,
    /// bytes of all bodies in memory
    pub buffered: usize,
    /// bytes a second
    pub request_body_min_rate: u64,
    /// bytes a second
    pub response_min_rate: u64,
    /// bytes of path and query
    pub uri_bytes: usize,
    /// bytes
    pub header: usize,
    /// lines
    pub headers: usize,
    /// 0: as many as the descriptors allow
    pub connections: usize,
    pub connections_per_address: usize,
    /// in flight
    pub requests_per_address: usize,
    /// at the same time
    pub uploads: usize,
    /// bytes of all running uploads
    pub upload_bytes_total: u64,
    /// of an address within a minute
    pub login_failures: usize,
}

impl LimitSettings {
    /// Bytes for all bodies together. A body of the largest size has to fit into the share of one client.
    pub fn body_budget(&self) -> usize {
        self.buffered.max(self.body.saturating_mul(4)).max(self.login_body.saturating_mul(16))
    }
}

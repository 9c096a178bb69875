//! A line of the access log as a JSON object, for log shippers.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat};
use serde::Serialize;

use super::LogEntry;
use super::request_text::{self, TextRules};
use crate::os::log_text::shortened;

/// Unknown values are null.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    client: String,
    user: Option<Cow<'a, str>>,
    request: Cow<'a, str>,
    status: u16,
    bytes: u64,
    /// seconds from the head of the request to the last byte of the answer
    latency: Option<f64>,
    upstream: Option<&'a str>,
    /// seconds to the head of its answer
    upstream_latency: Option<f64>,
    /// milliseconds that it waited for a worker of a daemon of this machine
    queued_ms: Option<u64>,
    tls: Option<&'a str>,
    cipher: Option<&'a str>,
    /// of the client certificate
    client_subject: Option<Cow<'a, str>>,
    client_fingerprint: Option<&'a str>,
    request_id: Option<String>,
    /// the name of the listener that accepted the connection
    listener: Option<&'a str>,
}

pub(crate) fn line_into(line: &mut String, entry: &LogEntry<'_>, text: TextRules<'_>, now: DateTime<Local>) {
    let details = entry.details;
    let upstream = details.and_then(|details| details.upstream.as_ref());
    let tls = details.and_then(|details| details.tls.as_ref());
    let identity = tls.and_then(|tls| tls.identity.as_deref());
    let fields = JsonLine {
        time: now.to_rfc3339_opts(SecondsFormat::Millis, false),
        client: entry.client.to_string(),
        user: entry.user.map(|user| shortened(user, text.limit)),
        request: request_text::shown(entry.request, text),
        status: entry.status,
        bytes: entry.bytes.unwrap_or_default(),
        latency: entry.started.map(|started| started.elapsed().as_secs_f64()),
        upstream: upstream.map(|(name, _)| name.as_str()),
        upstream_latency: upstream.map(|(_, took)| took.as_secs_f64()),
        queued_ms: details.and_then(|details| details.queued).map(milliseconds),
        tls: tls.map(|tls| tls.version),
        cipher: tls.map(|tls| tls.cipher),
        client_subject: identity.map(|identity| shortened(&identity.subject, text.limit)),
        client_fingerprint: identity.map(|identity| identity.fingerprint.as_str()),
        request_id: details.map(|details| details.id.to_string()),
        listener: details.map(|details| &*details.listener),
    };
    // Only texts and numbers, which always serialize.
    line.push_str(&serde_json::to_string(&fields).unwrap_or_default());
    line.push('\n');
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

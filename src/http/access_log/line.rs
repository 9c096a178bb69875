//! The forms of a line of the access log, and the choice between them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat};
use serde::Serialize;

use super::LogEntry;
use super::request_text::{self, TextRules};
use crate::config::settings::LogFormat;
use crate::os::log_text::shortened;

/// Appends a line with its end.
pub(super) type LineWriter = fn(&mut String, &LogEntry<'_>, TextRules<'_>, LineTime<'_>);

/// The time of a line.
#[derive(Clone, Copy)]
pub(super) struct LineTime<'a> {
    now: DateTime<Local>,
    /// `22/11/2026:00:34:50 +0000`
    text: &'a str,
}

/// Formats the time of a line once a second.
#[derive(Default)]
pub(super) struct TimeFormatter {
    second: Option<i64>,
    text: String,
}

impl TimeFormatter {
    pub(super) fn at(&mut self, now: DateTime<Local>) -> LineTime<'_> {
        if self.second.replace(now.timestamp()) != Some(now.timestamp()) {
            self.text.clear();
            let _ = write!(self.text, "{}", now.format("%d/%m/%Y:%H:%M:%S %z"));
        }
        LineTime { now, text: &self.text }
    }
}

pub(super) fn writer(format: LogFormat) -> LineWriter {
    match format {
        LogFormat::Text => write_text,
        LogFormat::Json => write_json,
    }
}

/// The form of the originals. Quotes in the request line are escaped, and secrets are masked.
fn write_text(line: &mut String, entry: &LogEntry<'_>, text: TextRules<'_>, time: LineTime<'_>) {
    let user = entry.user.unwrap_or("-");
    let _ = write!(line, "{} - ", entry.client);
    escape_into(line, &shortened(user, text.limit));
    line.push_str(" [");
    line.push_str(time.text);
    line.push_str("] \"");
    line.push_str(&request_text::shown_escaped(entry.request, text));
    let mut digits = itoa::Buffer::new();
    line.push_str("\" ");
    line.push_str(digits.format(entry.status));
    line.push(' ');
    line.push_str(entry.bytes.map_or("-", |bytes| digits.format(bytes)));
    line.push('\n');
}

fn escape_into(line: &mut String, text: &str) {
    if request_text::is_plain(text) {
        line.push_str(text);
    } else {
        line.push_str(&request_text::escaped(text));
    }
}

/// A JSON object for log shippers. Unknown values are null.
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

fn write_json(line: &mut String, entry: &LogEntry<'_>, text: TextRules<'_>, time: LineTime<'_>) {
    let details = entry.details;
    let upstream = details.and_then(|details| details.upstream.as_ref());
    let tls = details.and_then(|details| details.tls.as_ref());
    let identity = tls.and_then(|tls| tls.identity.as_deref());
    let fields = JsonLine {
        time: time.now.to_rfc3339_opts(SecondsFormat::Millis, false),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(entry: &LogEntry<'_>) -> String {
        let mut line = String::new();
        let rules = TextRules { limit: 1024, masked: &[] };
        write_text(&mut line, entry, rules, TimeFormatter::default().at(Local::now()));
        line
    }

    fn entry(request: &str) -> LogEntry<'_> {
        let client = "192.0.2.7".parse().unwrap();
        LogEntry { user: Some("root@pam"), bytes: Some(1234), ..LogEntry::new(client, request, 200) }
    }

    #[test]
    fn the_line_has_the_form_that_filters_know() {
        let text = line(&entry("GET /api2/json/version HTTP/1.1"));
        let form = regex::Regex::new(
            r#"^192\.0\.2\.7 - root@pam \[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /api2/json/version HTTP/1\.1" 200 1234\n$"#,
        );
        assert!(form.unwrap().is_match(&text), "{text}");
        let nothing = LogEntry { user: None, bytes: None, request: "-", status: 403, ..entry("") };
        let text = line(&nothing);
        assert!(text.starts_with("192.0.2.7 - - [") && text.ends_with("] \"-\" 403 -\n"), "{text}");
    }

    #[test]
    fn a_request_cannot_write_lines_of_its_own() {
        let text = line(&entry("GET /a\"b\nc HTTP/1.1"));
        assert!(text.contains("\"GET /a%22b%0Ac HTTP/1.1\""), "{text}");
    }
}

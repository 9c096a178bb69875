//! Responses over the wire, in the original's form.

use std::time::{Duration, SystemTime};

use async_compression::tokio::bufread::GzipEncoder;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::order::{json_text, shuffled};

pub(crate) const JSON: &str = "application/json;charset=UTF-8";

const HTML: &str = "text/html;charset=UTF-8";

/// An error that a call ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Extjs,
    /// A file for SPICE viewers.
    SpiceConfig,
    /// A page; its attributes have no order, as they come from hashes.
    Html,
    /// The body of `extjs`, escaped as a page, for forms that upload.
    Htmljs,
}

/// One thing to do on the connection.
#[derive(Debug)]
pub(crate) enum Step {
    Write(Vec<u8>),
    /// So many bytes of the deterministic content.
    Content(usize),
    Wait(Duration),
    /// Until the client leaves.
    Hang,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) steps: Vec<Step>,
    pub(crate) close: bool,
}

impl Reply {
    pub(crate) fn then_close(steps: Vec<Step>) -> Self {
        Self { steps, close: true }
    }
}

#[derive(Debug)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) content_type: Option<String>,
    /// The members of this response beyond the usual block.
    pub(crate) extra: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// A file from the disk: nothing in its head forbids to keep it.
    pub(crate) is_file: bool,
}

impl Answer {
    pub(crate) fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            reason: "OK".to_owned(),
            content_type: Some(content_type.to_owned()),
            extra: Vec::new(),
            body: body.into(),
            is_file: false,
        }
    }

    pub(crate) fn html(title: &str, data: &Value) -> Self {
        Self::ok(HTML, page(title, &json!({ "data": data }).to_string()))
    }

    pub(crate) fn data(format: Format, data: &Value) -> Self {
        let body = match format {
            Format::Json => json!({"data": data}),
            Format::Htmljs => return Self::data(Format::Extjs, data).into_page(),
            Format::Extjs => json!({"data": data, "success": 1}),
            Format::Html => return Self::html("Standin API", data),
            Format::SpiceConfig => {
                let lines =
                    data.as_object().into_iter().flatten().map(|(name, value)| match value.as_str() {
                        Some(text) => format!("{name}={text}\n"),
                        None => format!("{name}={value}\n"),
                    });
                let file = format!("[virt-viewer]\n{}", lines.collect::<String>());
                return Self::ok("application/x-virt-viewer;charset=UTF-8", file);
            }
        };
        Self::ok(JSON, json_text(&body))
    }

    /// A refusal from before any call was reached: no body.
    pub(crate) fn bare(failure: &Failure) -> Self {
        Self {
            status: failure.status,
            reason: failure.message.clone(),
            content_type: None,
            extra: Vec::new(),
            body: Vec::new(),
            is_file: false,
        }
    }

    /// A call's own error: in extjs it is a success at HTTP's level.
    pub(crate) fn error(format: Format, failure: &Failure) -> Self {
        let Failure { status, message } = failure;
        let line = format!("{message}\n");
        match format {
            Format::Json | Format::SpiceConfig => Self {
                status: *status,
                reason: message.clone(),
                ..Self::ok(JSON, json_text(&json!({"data": null, "message": line})))
            },
            Format::Html => {
                Self { status: *status, reason: message.clone(), ..Self::ok(HTML, page("Error", message)) }
            }
            Format::Htmljs => Self::error(Format::Extjs, failure).into_page(),
            Format::Extjs => {
                let body = json!({"data": null, "success": 0, "status": status, "message": line});
                Self::ok(JSON, json_text(&body))
            }
        }
    }

    fn into_page(self) -> Self {
        Self::ok(HTML, escaped(&String::from_utf8_lossy(&self.body)))
    }

    /// Where a page sends its visitor to.
    pub(crate) fn moved(location: &str) -> Self {
        Self::bare(&Failure::new(301, "Moved")).with("Location", location)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) async fn gzipped(mut self) -> Self {
        let mut packed = Vec::new();
        GzipEncoder::new(self.body.as_slice()).read_to_end(&mut packed).await.unwrap();
        self.body = packed;
        self.with("Content-Encoding", "gzip")
    }

    /// After an error the original closes the connection.
    pub(crate) fn into_reply(self, method: &str, keep_alive: bool) -> Reply {
        let keep_alive = keep_alive && self.status < 400;
        let framing = match self.body.len() {
            0 if !keep_alive => Framing::UntilClose,
            length => Framing::Length(length),
        };
        let mut bytes = self.head(&framing, keep_alive);
        if method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        Reply { steps: vec![Step::Write(bytes)], close: !keep_alive }
    }

    /// In two chunks.
    pub(crate) fn into_chunks(self, keep_alive: bool) -> Reply {
        let mut bytes = self.head(&Framing::Chunked, keep_alive);
        let (first, second) = self.body.split_at(self.body.len() / 2);
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            bytes.extend(
                format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"),
            );
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Reply { steps: vec![Step::Write(bytes)], close: !keep_alive }
    }

    /// A stream whose length the daemon does not know: its end is the connection's.
    pub(crate) fn into_stream(self, method: &str) -> Reply {
        let mut bytes = self.head(&Framing::UntilClose, false);
        if method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        Reply::then_close(vec![Step::Write(bytes)])
    }

    pub(crate) fn head(&self, framing: &Framing, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "Keep-Alive" } else { "close" };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut lines = vec![
            format!("HTTP/1.1 {} {}", self.status, self.reason),
            "Cache-Control: max-age=0".to_owned(),
            format!("Connection: {connection}"),
            format!("Date: {date}"),
            "Pragma: no-cache".to_owned(),
            "Server: pve-api-daemon/3.0".to_owned(),
        ];
        match framing {
            Framing::Length(length) => lines.push(format!("Content-Length: {length}")),
            Framing::Chunked => lines.push("Transfer-Encoding: chunked".to_owned()),
            Framing::UntilClose => {}
        }
        if let Some(kind) = &self.content_type {
            lines.push(format!("Content-Type: {kind}"));
        }
        lines.push(format!("Expires: {date}"));
        if self.is_file {
            lines.retain(|line| {
                !["Cache-Control", "Pragma", "Expires"].iter().any(|name| line.starts_with(name))
            });
        }
        let extra = self.extra.iter();
        lines.extend(extra.map(|(name, value)| format!("{name}: {value}")));
        (lines.join("\r\n") + "\r\n\r\n").into_bytes()
    }
}

/// As Perl's `HTML::Entities` escapes.
fn escaped(text: &str) -> String {
    let entity = |character: char| match character {
        '"' => "&quot;".to_owned(),
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '\u{fc}' => "&uuml;".to_owned(),
        plain if plain == '\n' || (' '..='~').contains(&plain) => plain.to_string(),
        other => format!("&#x{:X};", u32::from(other)),
    };
    text.chars().map(entity).collect()
}

fn page(title: &str, text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let attributes = ["class=\"table table-striped\"", "id='content'", "data-size=3", "hidden"];
    let attributes = shuffled(attributes.to_vec()).join(" ");
    format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><div {attributes}><a href=\"/api2/html\">up</a>\
         <br><pre>{escaped}</pre></div></body></html>\n"
    )
}

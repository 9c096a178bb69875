//! Why there is no tunnel, and how the client is told.

use std::time::Duration;

use nodegate_spice::{HeadError, TicketError};

use crate::limits::Excess;
use crate::upstream::peer::PeerError;
use crate::watched_file::FileError;

/// Why there is no tunnel. The client is told no more than the text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    #[error("the request head is too large")]
    HeadTooLarge,
    #[error("method '{0}' not available, only CONNECT")]
    Method(String),
    #[error("CONNECT target and Host header disagree, or there is no Host")]
    HostDiffers,
    #[error("invalid ticket")]
    Ticket(#[source] TicketError),
    #[error("{0}")]
    Excess(Excess),
    #[error("port {0} is not in the allowed range")]
    Port(u16),
    #[error("tickets cannot be judged: the secret cannot be read")]
    Secret(#[source] FileError),
    #[error("the list of nodes cannot be read")]
    Nodes(#[source] FileError),
    #[error("proxy loop detected")]
    Loop,
    #[error("no such node '{node}'; nodes are: {known}")]
    UnknownNode { node: String, known: String },
    #[error("node '{0}' has no address yet")]
    NoAddress(String),
    #[error("cannot connect to {to}: {cause}")]
    Connect { to: String, cause: String },
    #[error("no connection to {to} within {} s", limit.as_secs())]
    ConnectTimeout { to: String, limit: Duration },
    #[error("no certificate of node '{node}' is known that it could be asked with over TLS")]
    Pin {
        node: String,
        #[source]
        cause: PeerError,
    },
    #[error("node '{node}' refused with status {status}")]
    NextHop { node: String, status: u16 },
}

impl Refusal {
    pub(super) fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Malformed(_) | Self::HostDiffers => (400, "Bad Request"),
            Self::Ticket(_) | Self::NextHop { status: 401, .. } => (401, "invalid ticket"),
            Self::Port(_) | Self::NextHop { status: 403, .. } => (403, "Forbidden"),
            Self::Excess(excess) if excess.status().as_u16() == 429 => (429, "Too Many Requests"),
            Self::Excess(_) => (503, "Service Unavailable"),
            Self::Method(_) => (405, "Method Not Allowed"),
            Self::HeadTimeout => (408, "Request Timeout"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::Loop => (500, "proxy loop detected"),
            Self::Secret(_) | Self::Nodes(_) => (500, "Internal Server Error"),
            Self::ConnectTimeout { .. } => (504, "Gateway Timeout"),
            Self::UnknownNode { .. }
            | Self::NoAddress(_)
            | Self::Connect { .. }
            | Self::Pin { .. }
            | Self::NextHop { .. } => (502, "Bad Gateway"),
        }
    }

    /// Whether somebody tried a ticket that was never made: not one that is too old.
    pub(super) fn is_guess(&self) -> bool {
        matches!(self, Self::Ticket(TicketError::Malformed | TicketError::Signature | TicketError::OtherPort))
    }

    pub(super) fn of_head(error: &HeadError) -> Self {
        match error {
            HeadError::TooLarge | HeadError::TooManyHeaders => Self::HeadTooLarge,
            HeadError::Malformed(what) => Self::Malformed(what),
            HeadError::Closed | HeadError::Io(_) => Self::Malformed("head"),
        }
    }

    /// The whole answer, in the version of the request.
    pub(super) fn answer(&self, version: u8) -> String {
        let (status, reason) = self.status();
        let body = self.to_string();
        let allow = if status == 405 { "Allow: CONNECT\r\n" } else { "" };
        let retry = if let Self::Excess(excess) = self {
            format!("Retry-After: {}\r\n", excess.retry_after())
        } else {
            String::new()
        };
        format!(
            "HTTP/1.{version} {status} {reason}\r\n{allow}{retry}Connection: close\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

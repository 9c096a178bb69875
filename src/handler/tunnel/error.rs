//! Why there is no tunnel, and how the client is told.

use std::time::Duration;

use http::StatusCode;
use nodegate_spice::{HeadError, TicketError};

use crate::fs::cached_file::FileError;
use crate::http::reason_phrase;
use crate::limits::LimitExceeded;
use crate::upstream::nodes::UnknownNode;
use crate::upstream::peer::PeerError;

/// Why there is no tunnel. The client is told no more than the text.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
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
    Excess(LimitExceeded),
    #[error("port {0} is not in the allowed range")]
    Port(u16),
    #[error("tickets cannot be judged: the secret cannot be read")]
    Secret(#[source] FileError),
    #[error("the list of nodes cannot be read")]
    Nodes(#[source] FileError),
    #[error("proxy loop detected")]
    Loop,
    #[error("{0}")]
    UnknownNode(UnknownNode),
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
    #[error("node '{node}' refused with status {status}{}", detail(*status, reason, body))]
    NextHop { node: String, status: u16, reason: String, body: String },
}

/// Whether a phrase says no more than its status.
fn is_usual(status: u16, phrase: &str) -> bool {
    phrase.is_empty() || usual(status) == Some(phrase)
}

fn usual(status: u16) -> Option<&'static str> {
    StatusCode::from_u16(status).ok()?.canonical_reason()
}

/// Behind a colon, what another node said: its phrase, its body, or both where each says something of its own.
fn detail(status: u16, reason: &str, body: &str) -> String {
    match (reason, body) {
        ("", "") => String::new(),
        (reason, "") => format!(": {reason}"),
        (reason, body) if is_usual(status, reason) || body.contains(reason) => format!(": {body}"),
        (reason, body) => format!(": {reason}: {body}"),
    }
}

impl TunnelError {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::HostDiffers => 400,
            Self::Ticket(_) => 401,
            Self::Port(_) => 403,
            Self::Excess(excess) => excess.status().as_u16(),
            Self::Method(_) => 405,
            Self::HeadTimeout => 408,
            Self::HeadTooLarge => 431,
            Self::Loop | Self::Secret(_) | Self::Nodes(_) => 500,
            Self::ConnectTimeout { .. } => 504,
            // Statuses below 400 are no refusal.
            Self::NextHop { status: status @ 400..=599, .. } => *status,
            Self::UnknownNode(_)
            | Self::NoAddress(_)
            | Self::Connect { .. }
            | Self::Pin { .. }
            | Self::NextHop { .. } => 502,
        }
    }

    /// The phrases that the original has, else the usual one of the status. What another node said comes through: its
    /// phrase, or its body where the phrase says no more than the status.
    fn reason(&self) -> Vec<u8> {
        let status = self.status();
        let text = if let Self::NextHop { reason, body, .. } = self {
            let body = Some(body).filter(|body| is_usual(status, reason) && !body.is_empty());
            body.unwrap_or(reason).clone()
        } else if matches!(self, Self::Ticket(_) | Self::Loop) {
            self.to_string()
        } else {
            String::new()
        };
        reason_phrase::reason_phrase(&text)
            .map_or_else(|| usual(status).unwrap_or("Refused").into(), |phrase| phrase.as_bytes().to_vec())
    }

    /// Whether somebody tried a ticket that was never made: not one that is too old.
    pub(super) fn is_guess(&self) -> bool {
        matches!(self, Self::Ticket(TicketError::Malformed | TicketError::Signature | TicketError::OtherPort))
    }

    /// Whether the log has a line of it as a failed login, where the address is counted.
    pub(super) fn is_failed_login(&self) -> bool {
        self.is_guess()
            || matches!(
                self,
                Self::Excess(
                    LimitExceeded::Failures { .. } | LimitExceeded::LoginsOfAddress | LimitExceeded::Waiting
                )
            )
    }

    pub(super) fn of_head(error: &HeadError) -> Self {
        match error {
            HeadError::TooLarge | HeadError::TooManyHeaders => Self::HeadTooLarge,
            HeadError::Malformed(what) => Self::Malformed(what),
            HeadError::Closed | HeadError::Io(_) => Self::Malformed("head"),
        }
    }

    /// The whole answer, in the version of the request.
    pub(super) fn answer(&self, version: u8) -> Vec<u8> {
        let status = self.status();
        let body = self.to_string();
        let allow = if status == 405 { "Allow: CONNECT\r\n" } else { "" };
        let retry = if let Self::Excess(excess) = self {
            format!("Retry-After: {}\r\n", excess.retry_after())
        } else {
            String::new()
        };
        let rest = format!(
            "\r\n{allow}{retry}Connection: close\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        [format!("HTTP/1.{version} {status} ").as_bytes(), &self.reason(), rest.as_bytes()].concat()
    }
}

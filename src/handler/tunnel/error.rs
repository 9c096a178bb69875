//! The errors of a tunnel, and their answers.

use std::time::Duration;

use http::StatusCode;
use nodegate_spice::{HeadError, TicketError};

use crate::fs::cached_file::FileError;
use crate::http::reason_phrase;
use crate::limits::LimitExceeded;
use crate::upstream::nodes::UnknownNode;
use crate::upstream::peer::PeerError;

/// The reason why there is no tunnel. The client gets the text, without its source.
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
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    #[error("port {0} is not in the allowed range")]
    Port(u16),
    #[error("tickets cannot be verified: the secret cannot be read")]
    Secret(#[source] FileError),
    #[error("the list of nodes cannot be read")]
    Nodes(#[source] FileError),
    #[error("proxy loop detected")]
    Loop,
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
    #[error("node '{0}' has no address yet")]
    NoAddress(String),
    #[error("cannot connect to {to}: {cause}")]
    Connect { to: String, cause: String },
    #[error("no connection to {to} within {} s", limit.as_secs())]
    ConnectTimeout { to: String, limit: Duration },
    #[error("no certificate of node '{node}' is known, so it cannot be asked over TLS")]
    Pin {
        node: String,
        #[source]
        cause: PeerError,
    },
    #[error("node '{node}' refused with status {status}{}", detail(*status, reason, body))]
    NextHop { node: String, status: u16, reason: String, body: String },
}

/// Whether a phrase is empty or the usual one of its status.
fn is_canonical(status: u16, phrase: &str) -> bool {
    phrase.is_empty() || canonical_reason(status) == Some(phrase)
}

fn canonical_reason(status: u16) -> Option<&'static str> {
    StatusCode::from_u16(status).ok()?.canonical_reason()
}

/// `: PHRASE: BODY` of another node's answer, without the part that the other one contains.
fn detail(status: u16, reason: &str, body: &str) -> String {
    match (reason, body) {
        ("", "") => String::new(),
        (reason, "") => format!(": {reason}"),
        (reason, body) if is_canonical(status, reason) || body.contains(reason) => format!(": {body}"),
        (reason, body) => format!(": {reason}: {body}"),
    }
}

impl TunnelError {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::HostDiffers => 400,
            Self::Ticket(_) => 401,
            Self::Port(_) => 403,
            Self::Limit(exceeded) => exceeded.status().as_u16(),
            Self::Method(_) => 405,
            Self::HeadTimeout => 408,
            Self::HeadTooLarge => 431,
            Self::Loop | Self::Secret(_) | Self::Nodes(_) => 500,
            Self::ConnectTimeout { .. } => 504,
            // A status below 400 is no error status.
            Self::NextHop { status: status @ 400..=599, .. } => *status,
            Self::UnknownNode(_)
            | Self::NoAddress(_)
            | Self::Connect { .. }
            | Self::Pin { .. }
            | Self::NextHop { .. } => 502,
        }
    }

    /// The phrases of the original proxy, otherwise the usual one of the status. From another node's answer it is the
    /// phrase, or the body if the phrase is the usual one.
    fn reason(&self) -> Vec<u8> {
        let status = self.status();
        let text = if let Self::NextHop { reason, body, .. } = self {
            let body = Some(body).filter(|body| is_canonical(status, reason) && !body.is_empty());
            body.unwrap_or(reason).clone()
        } else if matches!(self, Self::Ticket(_) | Self::Loop) {
            self.to_string()
        } else {
            String::new()
        };
        reason_phrase::reason_phrase(&text).map_or_else(
            || canonical_reason(status).unwrap_or("Refused").into(),
            |phrase| phrase.as_bytes().to_vec(),
        )
    }

    /// Whether the ticket was never valid. An expired ticket is not forged.
    pub(super) fn is_forged_ticket(&self) -> bool {
        matches!(self, Self::Ticket(TicketError::Malformed | TicketError::Signature | TicketError::OtherPort))
    }

    /// Whether this error is logged as a failed login, if the address is subject to the login limit.
    pub(super) fn is_failed_login(&self) -> bool {
        self.is_forged_ticket()
            || matches!(
                self,
                Self::Limit(
                    LimitExceeded::Failures { .. } | LimitExceeded::LoginsOfAddress | LimitExceeded::Waiting
                )
            )
    }

    pub(super) fn from_head_error(error: &HeadError) -> Self {
        match error {
            HeadError::TooLarge | HeadError::TooManyHeaders => Self::HeadTooLarge,
            HeadError::Malformed(what) => Self::Malformed(what),
            HeadError::Closed | HeadError::Io(_) => Self::Malformed("head"),
        }
    }

    /// Encodes the whole answer, in the HTTP/1 minor version of the request.
    pub(super) fn encode_response(&self, version: u8) -> Vec<u8> {
        let status = self.status();
        let body = self.to_string();
        let allow = if status == 405 { "Allow: CONNECT\r\n" } else { "" };
        let retry = if let Self::Limit(exceeded) = self {
            format!("Retry-After: {}\r\n", exceeded.retry_after())
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

//! The closed label sets of the metrics, and the label of each member.

use std::fmt;

use enum_map::Enum;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use super::sessions::SessionKind;

/// The destination of a request.
#[derive(Clone, Copy, Debug, Default, Enum, Eq, PartialEq)]
pub enum RequestDestination {
    /// rejected before the destination was known, or no such path
    #[default]
    Nowhere,
    Daemon,
    Unprivileged,
    Node,
    Upload,
    Console,
    Page,
    File,
    Probe,
    Tunnel,
}

impl EncodeLabelSet for RequestDestination {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let route = match self {
            Self::Nowhere => "none",
            Self::Daemon => "daemon",
            Self::Unprivileged => "unprivileged",
            Self::Node => "node",
            Self::Upload => "upload",
            Self::Console => "console",
            Self::Page => "page",
            Self::File => "file",
            Self::Probe => "probe",
            Self::Tunnel => "tunnel",
        };
        [("route", route)].encode(encoder)
    }
}

/// The first digit of a status.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum StatusClass {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    /// `None` for a number that is no status of HTTP.
    pub fn from_status(status: u16) -> Option<Self> {
        Some(match status {
            100..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500..600 => Self::ServerError,
            _ => return None,
        })
    }
}

impl EncodeLabelSet for StatusClass {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let status = match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        };
        [("status", status)].encode(encoder)
    }
}

/// The labels of a response.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Enum, Eq, PartialEq)]
pub struct ResponseLabels {
    #[prometheus(flatten)]
    pub route: RequestDestination,
    #[prometheus(flatten)]
    pub status: StatusClass,
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum LimitLabel {
    LoginFailures,
    LoginsAtOnce,
    LoginsWaiting,
    Connections,
    ConnectionsOfAddress,
    RequestsOfAddress,
    Calls,
    Buffered,
    Strangers,
    Handshakes,
    Uploads,
    Spool,
    Body,
    BodyTime,
    Head,
    Url,
    Frames,
}

impl LimitLabel {
    pub fn name(self) -> &'static str {
        match self {
            Self::LoginFailures => "login_failures",
            Self::LoginsAtOnce => "logins_at_once",
            Self::LoginsWaiting => "logins_waiting",
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_per_address",
            Self::RequestsOfAddress => "requests_per_address",
            Self::Calls => "calls",
            Self::Buffered => "buffered",
            Self::Strangers => "strangers",
            Self::Handshakes => "handshakes",
            Self::Uploads => "uploads",
            Self::Spool => "spool",
            Self::Body => "body",
            Self::BodyTime => "body_time",
            Self::Head => "header",
            Self::Url => "url",
            Self::Frames => "frames",
        }
    }
}

impl EncodeLabelSet for LimitLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("limit", self.name())].encode(encoder)
    }
}

/// The phase in which an upstream failed.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum FailurePhase {
    Connect,
    Handshake,
    Answer,
    Body,
    Parse,
}

impl FailurePhase {
    /// Whether the upstream may have read the request.
    pub fn follows_request(self) -> bool {
        match self {
            Self::Connect | Self::Handshake => false,
            Self::Answer | Self::Body | Self::Parse => true,
        }
    }
}

impl EncodeLabelSet for FailurePhase {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let phase = match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Answer => "answer",
            Self::Body => "body",
            Self::Parse => "parse",
        };
        [("phase", phase)].encode(encoder)
    }
}

/// The first flight of a TLS connection.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum HandshakeResult {
    Tls12,
    Tls12Resumed,
    Tls13,
    Tls13Resumed,
    /// older versions, if the system's settings allow them
    Other,
    Failed,
}

impl HandshakeResult {
    pub fn new(version: &str, resumed: bool) -> Self {
        match (version, resumed) {
            ("TLSv1.2", false) => Self::Tls12,
            ("TLSv1.2", true) => Self::Tls12Resumed,
            ("TLSv1.3", false) => Self::Tls13,
            ("TLSv1.3", true) => Self::Tls13Resumed,
            (_, _) => Self::Other,
        }
    }
}

impl EncodeLabelSet for HandshakeResult {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let (version, resumed) = match self {
            Self::Tls12 => ("1.2", "false"),
            Self::Tls12Resumed => ("1.2", "true"),
            Self::Tls13 => ("1.3", "false"),
            Self::Tls13Resumed => ("1.3", "true"),
            Self::Other => ("other", "false"),
            Self::Failed => ("none", "false"),
        };
        [("version", version), ("resumed", resumed)].encode(encoder)
    }
}

/// A daemon of this machine.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum LocalBackend {
    Daemon,
    Unprivileged,
}

impl EncodeLabelSet for LocalBackend {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let backend = match self {
            Self::Daemon => "daemon",
            Self::Unprivileged => "unprivileged",
        };
        [("backend", backend)].encode(encoder)
    }
}

/// The labels of the bytes of sessions.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Enum, Eq, PartialEq)]
pub struct ByteLabels {
    #[prometheus(flatten)]
    pub kind: SessionKind,
    #[prometheus(flatten)]
    pub direction: Direction,
}

/// The direction of bytes, seen from the client.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum Direction {
    Up,
    Down,
}

impl EncodeLabelSet for Direction {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let direction = match self {
            Self::Up => "up",
            Self::Down => "down",
        };
        [("direction", direction)].encode(encoder)
    }
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum ReloadLabel {
    Done,
    Refused,
    /// not confirmed in time
    Reverted,
    /// the former name of `Reverted`, for one release
    TakenBack,
}

impl EncodeLabelSet for ReloadLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let outcome = match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Reverted => "reverted",
            Self::TakenBack => "taken_back",
        };
        [("outcome", outcome)].encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    use prometheus_client::encoding::prometheus_text;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::family::LabeledFamily;
    use crate::metrics::queues::QueueRejectionLabels;

    fn samples<L: Enum + EncodeLabelSet + Debug + 'static>() -> Vec<String>
    where
        LabeledFamily<L, Counter>: Send + Sync,
    {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("x", "X", LabeledFamily::<L, Counter>::default());
        prometheus_text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn every_label_value_is_unique() {
        let sets = [
            samples::<ResponseLabels>(),
            samples::<LimitLabel>(),
            samples::<FailurePhase>(),
            samples::<QueueRejectionLabels>(),
            samples::<HandshakeResult>(),
            samples::<ReloadLabel>(),
        ];
        assert_eq!(sets.each_ref().map(Vec::len), [10 * 5, 17, 5, 2 * 3, 6, 4]);
        for set in sets {
            assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), set.len(), "{set:?}");
        }
    }
}

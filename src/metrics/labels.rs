//! The closed label sets of the metrics, and the label of each member.

/// The destination of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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

impl RequestDestination {
    pub const COUNT: usize = 10;

    pub const ALL: [Self; Self::COUNT] = [
        Self::Nowhere,
        Self::Daemon,
        Self::Unprivileged,
        Self::Node,
        Self::Upload,
        Self::Console,
        Self::Page,
        Self::File,
        Self::Probe,
        Self::Tunnel,
    ];

    pub fn name(self) -> &'static str {
        match self {
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
        }
    }
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    pub const COUNT: usize = 17;

    pub const ALL: [Self; Self::COUNT] = [
        Self::LoginFailures,
        Self::LoginsAtOnce,
        Self::LoginsWaiting,
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::RequestsOfAddress,
        Self::Calls,
        Self::Buffered,
        Self::Strangers,
        Self::Handshakes,
        Self::Uploads,
        Self::Spool,
        Self::Body,
        Self::BodyTime,
        Self::Head,
        Self::Url,
        Self::Frames,
    ];

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

/// The phase in which an upstream failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailurePhase {
    Connect,
    Handshake,
    Answer,
    Body,
    Parse,
}

impl FailurePhase {
    pub const COUNT: usize = 5;

    pub const ALL: [Self; Self::COUNT] =
        [Self::Connect, Self::Handshake, Self::Answer, Self::Body, Self::Parse];

    /// Whether the upstream may have read the request.
    pub fn is_asked(self) -> bool {
        match self {
            Self::Connect | Self::Handshake => false,
            Self::Answer | Self::Body | Self::Parse => true,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Answer => "answer",
            Self::Body => "body",
            Self::Parse => "parse",
        }
    }
}

/// The first flight of a TLS connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    pub const COUNT: usize = 6;

    pub const ALL: [Self; Self::COUNT] =
        [Self::Tls12, Self::Tls12Resumed, Self::Tls13, Self::Tls13Resumed, Self::Other, Self::Failed];

    pub fn new(version: &str, resumed: bool) -> Self {
        match (version, resumed) {
            ("TLSv1.2", false) => Self::Tls12,
            ("TLSv1.2", true) => Self::Tls12Resumed,
            ("TLSv1.3", false) => Self::Tls13,
            ("TLSv1.3", true) => Self::Tls13Resumed,
            (_, _) => Self::Other,
        }
    }

    /// The version, and whether the session was resumed.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Tls12 => ("1.2", "false"),
            Self::Tls12Resumed => ("1.2", "true"),
            Self::Tls13 => ("1.3", "false"),
            Self::Tls13Resumed => ("1.3", "true"),
            Self::Other => ("other", "false"),
            Self::Failed => ("none", "false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_label_value_is_unique() {
        let destinations: BTreeSet<_> = RequestDestination::ALL.iter().map(|it| it.name()).collect();
        let limits: BTreeSet<_> = LimitLabel::ALL.iter().map(|it| it.name()).collect();
        let phases: BTreeSet<_> = FailurePhase::ALL.iter().map(|it| it.name()).collect();
        let handshakes: BTreeSet<_> = HandshakeResult::ALL.iter().map(|it| it.names()).collect();
        let counts = [destinations.len(), limits.len(), phases.len(), handshakes.len()];
        assert_eq!(
            counts,
            [RequestDestination::COUNT, LimitLabel::COUNT, FailurePhase::COUNT, HandshakeResult::COUNT]
        );
    }
}

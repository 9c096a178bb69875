//! Timeouts.

use std::time::Duration;

use super::Row;
use crate::config::setting::{SECONDS, SECONDS_OR_OFF};

pub(super) const ROWS: &[Row] = &[
    Row::new("timeout.connect", "10", SECONDS, |s, v| v.seconds(&mut s.timeout.connect))
        .doc("seconds to connect to the daemon"),
    Row::new("timeout.answer", "30", SECONDS, |s, v| v.seconds(&mut s.timeout.answer))
        .doc("seconds for an answer of the daemon with root or of another node"),
    Row::new("timeout.answer_unprivileged", "600", SECONDS, |s, v| {
        v.seconds(&mut s.timeout.answer_unprivileged)
    })
    .doc("seconds for an answer to a call that needs no root"),
    Row::new("timeout.queue", "30", SECONDS, |s, v| v.seconds(&mut s.timeout.queue))
        .doc("seconds that a request waits for a worker of the daemon, then `503`"),
    Row::new("timeout.first_byte", "0", SECONDS_OR_OFF, |s, v| v.seconds(&mut s.timeout.first_byte))
        .doc("seconds for a connection's first byte; 0: as `timeout.header`"),
    Row::new("timeout.handshake", "0", SECONDS_OR_OFF, |s, v| v.seconds(&mut s.timeout.handshake))
        .doc("seconds for the TLS handshake; 0: as `timeout.header`"),
    Row::new("timeout.header", "10", SECONDS, |s, v| v.seconds(&mut s.timeout.header))
        .doc("seconds for a whole request head"),
    Row::new("timeout.body", "30", SECONDS, |s, v| v.seconds(&mut s.timeout.body))
        .doc("seconds for the body of an API request"),
    Row::new("timeout.login_body", "10", SECONDS, |s, v| v.seconds(&mut s.timeout.login_body))
        .doc("seconds for the whole body of a call without login, then `408`"),
    Row::new("timeout.write", "60", SECONDS, |s, v| v.seconds(&mut s.timeout.write))
        .doc("seconds in which a client takes no byte of its answer"),
    Row::new("timeout.idle", "65", SECONDS, |s, v| v.seconds(&mut s.timeout.idle))
        .doc("seconds between two requests; announced as `Keep-Alive: timeout=`"),
    Row::new("timeout.tunnel", "0", SECONDS_OR_OFF, |s, v| v.seconds_or_off(&mut s.timeout.tunnel))
        .doc("seconds without a byte before a SPICE tunnel is closed; 0: never"),
    Row::new("timeout.stop", "10", SECONDS, |s, v| v.seconds(&mut s.timeout.stop))
        .doc("seconds for running requests when nodegate stops"),
    Row::new("timeout.drain", "86400", SECONDS, |s, v| v.seconds(&mut s.timeout.drain))
        .doc("seconds that open sessions may last in a draining worker or process"),
];

#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutSettings {
    pub connect: Duration,
    /// of a call that needs root, or that another node answers
    pub answer: Duration,
    /// of a call that needs no root, whichever daemon of this machine answers it
    pub answer_unprivileged: Duration,
    /// of a request that waits for a worker of a daemon of this machine
    pub queue: Duration,
    pub first_byte: Duration,
    pub handshake: Duration,
    pub header: Duration,
    /// of a body, before its rate counts
    pub body: Duration,
    /// of the whole body of a call without login
    pub login_body: Duration,
    /// of a client that takes no byte of its response
    pub write: Duration,
    pub idle: Duration,
    /// of a tunnel in which no byte moves
    pub tunnel: Option<Duration>,
    pub stop: Duration,
    pub drain: Duration,
}

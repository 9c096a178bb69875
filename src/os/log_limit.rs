//! Limits the log lines that clients can cause. Each topic has a limit of lines for one subject and one for all;
//! further lines are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::log_text::shortened;
use crate::os::log_throttle::{LineRate, LogThrottle};

const SECOND: Duration = Duration::from_secs(1);
/// Limit of bytes of a text that a client chose, such as a method or an origin.
pub const MAX_CLIENT_TEXT_BYTES: usize = 256;
/// Limit of bytes of a line that is kept for later.
const MAX_KEPT_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogTopic {
    /// failed logins of an IPv4 address; fail2ban reads these lines
    Login,
    /// those of a /64: an owner of many of these must not crowd out IPv4 addresses
    LoginIpv6,
    /// rejected tunnels of an address
    Tunnel,
    /// a daemon or a node that does not respond
    Upstream,
    /// a file that cannot be read, or any other fault of this machine
    Fault,
    /// a page that cannot be rendered
    Page,
    /// the origin of a page that asked for a console
    Origin,
    /// another node that is rejected
    Node,
    /// a host that a listener does not serve
    Host,
    /// an address that has reached its connection limit
    Crowd,
    /// a daemon whose workers are all busy
    Saturation,
    /// rejected client certificates of an address
    ClientCertificate,
}

/// The IPv4 address, or the /64 of an IPv6 one. Otherwise an attacker with a /64 would get a line for each of its
/// addresses.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The limits of a topic.
struct TopicLimits {
    rate: LineRate,
    /// the summary if there are more subjects than are remembered
    lost: &'static str,
}

impl LogTopic {
    fn limits(self) -> TopicLimits {
        let (minute, hour) = (60 * SECOND, 3600 * SECOND);
        let (burst, interval, per_second, subjects, lost) = match self {
            // As many as fail2ban's own `maxretry`. By default the journal accepts 10,000 lines of a service in 30 s.
            Self::Login => (5, SECOND, 50, 4096, "failed logins of too many addresses"),
            Self::LoginIpv6 => (5, SECOND, 25, 4096, "failed logins of too many IPv6 networks"),
            Self::Tunnel => (5, SECOND, 25, 4096, "refused tunnels of too many addresses"),
            Self::Upstream => (10, SECOND, 25, 256, "failures of too many upstreams"),
            Self::Fault => (1, minute, 10, 256, "faults of too many files"),
            Self::Page => (1, minute, 10, 256, "faults of too many pages"),
            Self::Origin => (1, hour, 10, 1024, "consoles for too many origins"),
            Self::Node => (1, hour, 10, 1024, "refusals of too many nodes"),
            Self::Host => (1, hour, 10, 1024, "foreign hosts at too many listeners"),
            Self::Crowd => (1, minute, 10, 256, "rejected connections of too many addresses"),
            Self::Saturation => (1, minute, 10, 256, "saturation of too many daemons"),
            Self::ClientCertificate => {
                (5, SECOND, 25, 4096, "rejected client certificates of too many addresses")
            }
        };
        TopicLimits { rate: LineRate { burst, interval, per_second, subjects }, lost }
    }
}

// The log belongs to the process, and so do its limits.
static THROTTLES: Mutex<BTreeMap<LogTopic, LogThrottle>> = Mutex::new(BTreeMap::new());

fn throttles() -> MutexGuard<'static, BTreeMap<LogTopic, LogThrottle>> {
    THROTTLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn admit(topic: LogTopic, subject: &str, line: impl FnOnce() -> Option<Box<str>>) -> Option<LeftOut> {
    let mut throttles = throttles();
    let throttle = throttles.entry(topic).or_insert_with(|| LogThrottle::new(topic.limits().rate));
    throttle.admit(subject, Instant::now(), line).map(LeftOut)
}

/// The count of suppressed lines, at the end of a line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more of this kind were not logged)"),
        }
    }
}

/// Whether a line with its own fields may be logged now. The caller logs it with the returned count.
pub fn is_due(topic: LogTopic, subject: &str) -> Option<LeftOut> {
    admit(topic, subject, || None)
}

/// Logs a warning, or keeps it for `log_kept` if its subject has reached the limit.
pub fn warn(topic: LogTopic, subject: &str, message: &dyn fmt::Display) {
    log(topic, subject, Level::WARN, message);
}

/// The same with the level of errors; a kept line becomes a warning.
pub fn error(topic: LogTopic, subject: &str, message: &dyn fmt::Display) {
    log(topic, subject, Level::ERROR, message);
}

fn log(topic: LogTopic, subject: &str, level: Level, message: &dyn fmt::Display) {
    let keep = || Some(shortened(&message.to_string(), MAX_KEPT_BYTES).into());
    match admit(topic, subject, keep) {
        Some(left_out) if level == Level::ERROR => tracing::error!("{message}{left_out}"),
        Some(left_out) => tracing::warn!("{message}{left_out}"),
        None => tracing::debug!("{message}"),
    }
}

/// Logs the kept lines that are due. Call it once a second.
pub fn log_kept() {
    log_due(Instant::now());
}

/// Logs the lines that are still kept when the process ends.
pub fn log_remaining() {
    log_due(Instant::now() + 3600 * SECOND);
}

fn log_due(now: Instant) {
    let due: Vec<_> = throttles().iter_mut().map(|(topic, throttle)| (*topic, throttle.due(now))).collect();
    for (topic, due) in due {
        for line in due.lines {
            tracing::warn!("{}{}", line.text, LeftOut(line.left_out));
        }
        if due.lost > 0 {
            tracing::warn!("{}: {} lines were not logged", topic.limits().lost, due.lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_site_share_a_subject() {
        let subject = |text: &str| site(text.parse().unwrap()).to_string();
        assert_eq!(subject("2001:db8:0:1::7"), "2001:db8:0:1::");
        assert_eq!(subject("2001:db8:0:1:ffff::8"), "2001:db8:0:1::");
        assert_eq!(subject("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn suppressed_lines_are_counted_behind_the_line() {
        assert_eq!(LeftOut(0).to_string(), "");
        assert_eq!(LeftOut(7).to_string(), " (7 more of this kind were not logged)");
    }

    /// Each of them once a minute, however many calls wait, and the next line counts those that were not logged.
    #[test]
    fn saturated_daemons_are_logged_once_a_minute() {
        let (mut throttle, begin) = (LogThrottle::new(LogTopic::Saturation.limits().rate), Instant::now());
        let mut is_due =
            |daemon, second| throttle.admit(daemon, begin + second * SECOND, || None).map(LeftOut);
        assert_eq!(is_due("127.0.0.1:85", 0), Some(LeftOut(0)));
        for second in 0..59 {
            assert_eq!(is_due("127.0.0.1:85", second), None, "after {second} s");
        }
        assert_eq!(is_due("127.0.0.1:86", 59), Some(LeftOut(0)), "another daemon");
        assert_eq!(is_due("127.0.0.1:85", 60), Some(LeftOut(59)));
        assert_eq!(is_due("127.0.0.1:85", 119), None);
        assert_eq!(is_due("127.0.0.1:85", 120), Some(LeftOut(1)));
    }

    #[test]
    fn topics_do_not_crowd_each_other_out() {
        assert_eq!(is_due(LogTopic::Origin, "a test"), Some(LeftOut(0)));
        assert_eq!(is_due(LogTopic::Origin, "a test"), None);
        assert_eq!(is_due(LogTopic::Node, "a test"), Some(LeftOut(0)));
    }
}

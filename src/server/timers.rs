//! Periodic work of the main thread.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::metrics::latency_window::ADVANCE_INTERVAL;
use crate::os::systemd;

/// New certificates are in use within a minute, even if it takes two checks.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(15);
const EXPIRY_INTERVAL: Duration = Duration::from_hours(24);
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
const KEPT_LINES_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DueTimer {
    /// systemd waits for a keep-alive
    Watchdog,
    Status,
    Certificates,
    /// certificates that expire soon are logged each day
    Expiry,
    /// log lines that were kept because of the limit
    KeptLines,
    /// an interval of the latencies and of the history ends
    History,
}

pub(super) struct SupervisorTimers {
    watchdog: Option<Interval>,
    status: Option<Interval>,
    certificates: Interval,
    expiry: Interval,
    kept_lines: Interval,
    history: Interval,
}

impl SupervisorTimers {
    pub(super) fn start() -> Self {
        Self {
            watchdog: systemd::watchdog().map(|period| every(period / 2)),
            status: systemd::is_present().then(|| every(STATUS_INTERVAL)),
            certificates: every(CERTIFICATE_INTERVAL),
            expiry: every(EXPIRY_INTERVAL),
            kept_lines: every(KEPT_LINES_INTERVAL),
            history: every(ADVANCE_INTERVAL),
        }
    }

    pub(super) async fn next(&mut self) -> DueTimer {
        tokio::select! {
            biased;
            Some(_) = OptionFuture::from(self.watchdog.as_mut().map(Interval::tick)) => DueTimer::Watchdog,
            Some(_) = OptionFuture::from(self.status.as_mut().map(Interval::tick)) => DueTimer::Status,
            _ = self.certificates.tick() => DueTimer::Certificates,
            _ = self.expiry.tick() => DueTimer::Expiry,
            _ = self.kept_lines.tick() => DueTimer::KeptLines,
            _ = self.history.tick() => DueTimer::History,
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

//! What the main thread does from time to time.

use std::future::pending;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::process::service_manager;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// systemd waits for a sign of life
    Watchdog,
}

pub(super) struct Timers {
    watchdog: Option<Interval>,
}

impl Timers {
    pub(super) fn start() -> Self {
        let watchdog = service_manager::watchdog().map(|period| {
            let mut interval = interval(period / 2);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { watchdog }
    }

    pub(super) async fn next(&mut self) -> Due {
        match &mut self.watchdog {
            Some(interval) => interval.tick().await,
            None => pending().await,
        };
        Due::Watchdog
    }
}

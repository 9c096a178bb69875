//! Keep-alive of a console: nodegate pings a quiet client, and closes the session of a client that is gone. The two
//! directions of a relay share this state.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::frame::ControlPayload;

/// A client that reads no byte for this long is gone, even if its kernel still answers.
const STALL_TIMEOUT: Duration = Duration::from_mins(10);

/// The keep-alive of one console, shared by its two directions.
pub(super) struct KeepAlive {
    state: Cell<KeepAliveState>,
    pong: RefCell<Option<ControlPayload>>,
    ping_due: Cell<bool>,
    due: Notify,
}

/// The times from which the next step follows.
#[derive(Clone, Copy, Debug)]
struct KeepAliveState {
    interval: Option<Duration>,
    /// the time of the last byte from the client
    received: Instant,
    /// the time of the last queued ping
    pinged: Instant,
    /// the time of the oldest ping without an answer
    unanswered: Option<Instant>,
    /// the time since which writes to the client block
    client_blocked_since: Option<Instant>,
    /// writes to the console block, so nodegate reads no answers of the client
    console_blocked: bool,
}

#[derive(Debug, Eq, PartialEq)]
enum NextStep {
    Ping,
    GiveUp,
    Wait(Instant),
}

/// A control frame that has to be sent now.
pub(super) enum DueFrame {
    Pong(ControlPayload),
    Ping,
}

impl KeepAlive {
    /// Without an interval there are no pings.
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self {
            state: Cell::new(KeepAliveState::new(interval, Instant::now())),
            pong: RefCell::new(None),
            ping_due: Cell::new(false),
            due: Notify::new(),
        }
    }

    fn update(&self, update: impl FnOnce(&mut KeepAliveState)) {
        let mut state = self.state.get();
        update(&mut state);
        self.state.set(state);
    }

    pub(super) fn record_received(&self) {
        self.update(|state| state.record_received(Instant::now()));
    }

    pub(super) fn record_ping_sent(&self) {
        self.update(|state| state.unanswered = state.unanswered.or(Some(Instant::now())));
    }

    /// Records whether a write to the client blocks.
    pub(super) fn set_client_blocked(&self, blocked: bool) {
        self.update(|state| match (state.client_blocked_since, blocked) {
            (None, true) => state.client_blocked_since = Some(Instant::now()),
            (Some(_), false) => {
                state.client_blocked_since = None;
                state.record_received(Instant::now()); // a client that reads is alive
            }
            (Some(_), true) | (None, false) => (),
        });
    }

    /// Records whether a write to the console blocks.
    pub(super) fn set_console_blocked(&self, blocked: bool) {
        self.update(|state| {
            state.console_blocked = blocked;
            if !blocked {
                state.unanswered = state.unanswered.map(|_| Instant::now());
            }
        });
    }

    /// Queues the answer to a ping. It replaces the answer to an older one.
    pub(super) fn queue_pong(&self, ping: ControlPayload) {
        self.pong.replace(Some(ping));
        self.due.notify_one();
    }

    pub(super) fn take_due_frame(&self) -> Option<DueFrame> {
        let pong = self.pong.take().map(DueFrame::Pong);
        pong.or_else(|| self.ping_due.replace(false).then_some(DueFrame::Ping))
    }

    /// Returns when a control frame may be due.
    pub(super) async fn wait_until_due(&self) {
        self.due.notified().await;
    }

    /// Queues pings. Returns when the client is gone.
    pub(super) async fn run_until_dead(&self) {
        loop {
            let now = Instant::now();
            match self.state.get().next_step(now) {
                NextStep::GiveUp => return,
                NextStep::Wait(until) => sleep_until(until).await,
                NextStep::Ping => {
                    self.update(|state| state.pinged = now);
                    self.ping_due.set(true);
                    self.due.notify_one();
                }
            }
        }
    }
}

impl KeepAliveState {
    fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self {
            interval,
            received: now,
            pinged: now,
            unanswered: None,
            client_blocked_since: None,
            console_blocked: false,
        }
    }

    fn record_received(&mut self, now: Instant) {
        self.received = now;
        self.unanswered = None;
    }

    fn next_step(&self, now: Instant) -> NextStep {
        if let Some(since) = self.client_blocked_since {
            let end = since + STALL_TIMEOUT;
            // A ping would block as well. Check again when one would be due.
            let pause = self.interval.unwrap_or(STALL_TIMEOUT);
            return if now >= end { NextStep::GiveUp } else { NextStep::Wait(end.min(now + pause)) };
        }
        let Some(interval) = self.interval else { return NextStep::Wait(now + STALL_TIMEOUT) };
        let due = self.received.max(self.pinged) + interval;
        let end = self.unanswered.filter(|_| !self.console_blocked).map(|since| since + 2 * interval);
        match end {
            Some(end) if now >= end => NextStep::GiveUp,
            // The answer to a ping this late would arrive after the end.
            Some(end) if due + interval / 2 > end => NextStep::Wait(end),
            _ if now >= due => NextStep::Ping,
            _ => NextStep::Wait(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state() -> (KeepAliveState, Instant) {
        let now = Instant::now();
        (KeepAliveState::new(Some(10 * SECOND), now), now)
    }

    #[test]
    fn a_quiet_client_is_pinged_then_closed() {
        let (mut state, now) = state();
        assert_eq!(state.next_step(now), NextStep::Wait(now + 10 * SECOND));
        state.record_received(now + 5 * SECOND);
        assert_eq!(state.next_step(now + 10 * SECOND), NextStep::Wait(now + 15 * SECOND));
        assert_eq!(state.next_step(now + 15 * SECOND), NextStep::Ping);
        (state.pinged, state.unanswered) = (now + 15 * SECOND, Some(now + 15 * SECOND));
        assert_eq!(state.next_step(now + 25 * SECOND), NextStep::Ping);
        state.pinged = now + 25 * SECOND;
        assert_eq!(state.next_step(now + 34 * SECOND), NextStep::Wait(now + 35 * SECOND));
        // The first ping left a little late. There is no third one before the end.
        let late = KeepAliveState { unanswered: Some(now + 16 * SECOND), ..state };
        assert_eq!(late.next_step(now + 35 * SECOND), NextStep::Wait(now + 36 * SECOND));
        assert_eq!(state.next_step(now + 35 * SECOND), NextStep::GiveUp);
        state.record_received(now + 34 * SECOND);
        assert_eq!(state.next_step(now + 35 * SECOND), NextStep::Wait(now + 44 * SECOND));
    }

    #[test]
    fn a_blocked_console_delays_the_end() {
        let (mut state, now) = state();
        (state.unanswered, state.pinged, state.console_blocked) = (Some(now), now, true);
        assert_eq!(state.next_step(now + 100 * SECOND), NextStep::Ping);
    }

    #[test]
    fn a_blocked_client_gets_the_stall_timeout() {
        let (mut state, now) = state();
        (state.unanswered, state.client_blocked_since) = (Some(now), Some(now));
        assert_eq!(state.next_step(now + 100 * SECOND), NextStep::Wait(now + 110 * SECOND));
        assert_eq!(state.next_step(now + STALL_TIMEOUT), NextStep::GiveUp);
    }

    #[test]
    fn without_an_interval_only_stalls_end_sessions() {
        let (mut state, now) = state();
        state.interval = None;
        assert_eq!(state.next_step(now + 1000 * SECOND), NextStep::Wait(now + 1000 * SECOND + STALL_TIMEOUT));
        state.client_blocked_since = Some(now);
        assert_eq!(state.next_step(now + STALL_TIMEOUT), NextStep::GiveUp);
    }
}

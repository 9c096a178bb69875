//! Whether the client still lives: when it is pinged, and when it is given up. What the two directions of a bridge
//! tell each other.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::frame::ControlPayload;

/// A client that takes not one byte for this long is gone, whatever its system says.
const STALLED: Duration = Duration::from_mins(10);

/// Shared by the two directions.
pub(crate) struct KeepAlive {
    state: Cell<KeepAliveState>,
    pong: RefCell<Option<ControlPayload>>,
    ping_due: Cell<bool>,
    due: Notify,
}

/// What is known, and until when to wait for more.
#[derive(Clone, Copy, Debug)]
struct KeepAliveState {
    interval: Option<Duration>,
    /// the last sign of life
    alive: Instant,
    /// the last time a ping was asked for
    pinged: Instant,
    /// when the oldest ping without an answer was sent
    unanswered: Option<Instant>,
    /// since when the client takes nothing
    client_full: Option<Instant>,
    /// the console takes nothing, so the client is not read from: its answers cannot be seen
    console_full: bool,
}

#[derive(Debug, Eq, PartialEq)]
enum NextStep {
    Ping,
    GiveUp,
    Wait(Instant),
}

/// A control frame that is to be sent now.
pub(crate) enum DueFrame {
    Pong(ControlPayload),
    Ping,
}

impl KeepAlive {
    /// Without an interval nothing is pinged.
    pub(crate) fn new(interval: Option<Duration>) -> Self {
        Self {
            state: Cell::new(KeepAliveState::new(interval, Instant::now())),
            pong: RefCell::new(None),
            ping_due: Cell::new(false),
            due: Notify::new(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut KeepAliveState)) {
        let mut state = self.state.get();
        change(&mut state);
        self.state.set(state);
    }

    /// The client has sent something.
    pub(crate) fn heard(&self) {
        self.change(|state| state.heard(Instant::now()));
    }

    pub(crate) fn ping_sent(&self) {
        self.change(|state| state.unanswered = state.unanswered.or(Some(Instant::now())));
    }

    /// Whether a write to the client has to wait.
    pub(crate) fn client_full(&self, full: bool) {
        self.change(|state| match (state.client_full, full) {
            (None, true) => state.client_full = Some(Instant::now()),
            (Some(_), false) => {
                state.client_full = None;
                state.heard(Instant::now()); // what takes bytes lives
            }
            (Some(_), true) | (None, false) => (),
        });
    }

    /// Whether a write to the console has to wait.
    pub(crate) fn console_full(&self, full: bool) {
        self.change(|state| {
            state.console_full = full;
            if !full {
                state.unanswered = state.unanswered.map(|_| Instant::now());
            }
        });
    }

    /// A ping of the client wants an answer; an older one does not any more.
    pub(crate) fn answer(&self, ping: ControlPayload) {
        self.pong.replace(Some(ping));
        self.due.notify_one();
    }

    pub(crate) fn take_due(&self) -> Option<DueFrame> {
        let pong = self.pong.take().map(DueFrame::Pong);
        pong.or_else(|| self.ping_due.replace(false).then_some(DueFrame::Ping))
    }

    /// Returns when there may be something due.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Asks for pings; returns when the client is given up.
    pub(crate) async fn watch(&self) {
        loop {
            let now = Instant::now();
            match self.state.get().next(now) {
                NextStep::GiveUp => return,
                NextStep::Wait(until) => sleep_until(until).await,
                NextStep::Ping => {
                    self.change(|state| state.pinged = now);
                    self.ping_due.set(true);
                    self.due.notify_one();
                }
            }
        }
    }
}

impl KeepAliveState {
    fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self { interval, alive: now, pinged: now, unanswered: None, client_full: None, console_full: false }
    }

    fn heard(&mut self, now: Instant) {
        self.alive = now;
        self.unanswered = None;
    }

    fn next(&self, now: Instant) -> NextStep {
        if let Some(since) = self.client_full {
            let end = since + STALLED;
            // No ping gets through either; look again when one would be due.
            let pause = self.interval.unwrap_or(STALLED);
            return if now >= end { NextStep::GiveUp } else { NextStep::Wait(end.min(now + pause)) };
        }
        let Some(interval) = self.interval else { return NextStep::Wait(now + STALLED) };
        let due = self.alive.max(self.pinged) + interval;
        let end = self.unanswered.filter(|_| !self.console_full).map(|since| since + 2 * interval);
        match end {
            Some(end) if now >= end => NextStep::GiveUp,
            // The answer to a ping so late would come too late.
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
    fn a_quiet_client_is_pinged_and_given_up_two_intervals_later() {
        let (mut state, now) = state();
        assert_eq!(state.next(now), NextStep::Wait(now + 10 * SECOND));
        state.heard(now + 5 * SECOND);
        assert_eq!(state.next(now + 10 * SECOND), NextStep::Wait(now + 15 * SECOND));
        assert_eq!(state.next(now + 15 * SECOND), NextStep::Ping);
        (state.pinged, state.unanswered) = (now + 15 * SECOND, Some(now + 15 * SECOND));
        assert_eq!(state.next(now + 25 * SECOND), NextStep::Ping);
        state.pinged = now + 25 * SECOND;
        assert_eq!(state.next(now + 34 * SECOND), NextStep::Wait(now + 35 * SECOND));
        // The first ping went out a moment after it was due; no third one goes before the end.
        let late = KeepAliveState { unanswered: Some(now + 16 * SECOND), ..state };
        assert_eq!(late.next(now + 35 * SECOND), NextStep::Wait(now + 36 * SECOND));
        assert_eq!(state.next(now + 35 * SECOND), NextStep::GiveUp);
        state.heard(now + 34 * SECOND);
        assert_eq!(state.next(now + 35 * SECOND), NextStep::Wait(now + 44 * SECOND));
    }

    #[test]
    fn a_client_that_cannot_be_read_is_pinged_but_not_given_up() {
        let (mut state, now) = state();
        (state.unanswered, state.pinged, state.console_full) = (Some(now), now, true);
        assert_eq!(state.next(now + 100 * SECOND), NextStep::Ping);
    }

    #[test]
    fn a_client_that_takes_nothing_is_not_pinged_and_given_up_late() {
        let (mut state, now) = state();
        (state.unanswered, state.client_full) = (Some(now), Some(now));
        assert_eq!(state.next(now + 100 * SECOND), NextStep::Wait(now + 110 * SECOND));
        assert_eq!(state.next(now + STALLED), NextStep::GiveUp);
    }

    #[test]
    fn without_an_interval_only_a_stall_ends_it() {
        let (mut state, now) = state();
        state.interval = None;
        assert_eq!(state.next(now + 1000 * SECOND), NextStep::Wait(now + 1000 * SECOND + STALLED));
        state.client_full = Some(now);
        assert_eq!(state.next(now + STALLED), NextStep::GiveUp);
    }
}

//! Finds the deadline of a client that has passed.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::client_timeouts::{ClientState, ClientTimeouts, TimedOut, TimeoutTracker};

/// After this time without a request a connection releases its buffers.
pub(super) const HIBERNATE_AFTER: Duration = Duration::from_secs(1);
/// The same after the first request: most connections that are idle for long have sent one request.
pub(super) const HIBERNATE_AFTER_FIRST: Duration = Duration::from_millis(20);
/// A request runs this long before nodegate checks whether its client is still connected.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// Shortest sleep between two checks.
const MIN_WAIT: Duration = Duration::from_millis(5);

/// Whether an idle connection is to release its buffers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum IdleAction {
    Hibernate,
    Wait,
}

impl TimeoutTracker {
    /// Returns when a deadline of the client has passed.
    pub async fn expired(&self) -> TimedOut {
        self.wait_for_expiry(IdleAction::Wait).await
    }

    /// The same, and also when the connection is to release its buffers.
    pub async fn expired_or_hibernate(&self) -> TimedOut {
        self.wait_for_expiry(IdleAction::Hibernate).await
    }

    async fn wait_for_expiry(&self, idle_action: IdleAction) -> TimedOut {
        loop {
            match self.check(idle_action) {
                Ok(expired) => return expired,
                Err(wait) => {
                    tokio::select! {
                        biased;
                        () = poll_fn(|context| self.poll_evicted(context)) => (),
                        () = tokio::time::sleep(wait) => (),
                    }
                }
            }
        }
    }

    /// The deadline that has passed, or the time until the next check.
    fn check(&self, idle_action: IdleAction) -> Result<TimedOut, Duration> {
        if self.unauthenticated.as_ref().is_some_and(|unauthenticated| unauthenticated.is_evicted()) {
            return Ok(TimedOut::Evicted);
        }
        let ClientTimeouts { header, idle, write } = &*self.deadlines;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.since.get());
        let is_new = idle_action == IdleAction::Hibernate && self.requests.get() <= 1;
        let hibernate_after = match idle_action {
            IdleAction::Hibernate if is_new => HIBERNATE_AFTER_FIRST,
            IdleAction::Hibernate => HIBERNATE_AFTER,
            IdleAction::Wait => Duration::MAX,
        };
        let waits_for_head = self.write_waits.get().is_none() && self.draining.get() == 0;
        let (limit, cause) = match self.state.get() {
            ClientState::Idle => (*idle, TimedOut::Idle),
            ClientState::Head => (*header, TimedOut::Head),
            ClientState::Busy => {
                self.check_due.set(self.check_due.get() || elapsed >= CHECK_AFTER);
                (Duration::MAX, TimedOut::Idle)
            }
        };
        if waits_for_head && elapsed >= limit {
            return Ok(cause);
        }
        if waits_for_head && self.state.get() == ClientState::Idle && elapsed >= hibernate_after {
            return Ok(TimedOut::Hibernate);
        }
        if self.is_write_late(now) {
            return Ok(TimedOut::Write);
        }
        // The state may change during the sleep, so it is no longer than the shortest deadline. A long first request is
        // checked less and less often.
        let age = now.saturating_duration_since(self.started);
        let hibernate_after =
            if is_new { hibernate_after.max(age / 4).min(HIBERNATE_AFTER) } else { hibernate_after };
        let shortest = (*header).min(*idle).min(write.grace).min(hibernate_after);
        let remaining = limit.saturating_sub(elapsed).min(shortest);
        Err(if waits_for_head { remaining } else { shortest }.max(MIN_WAIT))
    }

    /// Whether this write has waited too long, or all writes of the response for the bytes that were sent.
    pub(super) fn is_write_late(&self, now: Instant) -> bool {
        let waiting = self.write_waits.get().map(|since| now.saturating_duration_since(since));
        waiting.is_some_and(|waiting| waiting >= self.response.get().next_wait())
    }

    fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        self.unauthenticated
            .as_ref()
            .map_or(Poll::Pending, |unauthenticated| unauthenticated.poll_evicted(context))
    }
}

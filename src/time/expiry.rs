//! Finds the deadline of a client that has passed.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::client_timeouts::{HEAD, IDLE, TimedOut, TimeoutTracker};
use super::deadlines::ClientTimeouts;

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
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        let elapsed = self.started.elapsed();
        let is_new = idle_action == IdleAction::Hibernate && self.requests.load(Ordering::Relaxed) <= 1;
        let hibernate_after = match idle_action {
            IdleAction::Hibernate if is_new => HIBERNATE_AFTER_FIRST,
            IdleAction::Hibernate => HIBERNATE_AFTER,
            IdleAction::Wait => Duration::MAX,
        };
        let (limit, cause) = match self.state.load(Ordering::Relaxed) {
            IDLE => (*idle, Some(TimedOut::Idle)),
            HEAD => (*header, Some(TimedOut::Head)),
            _ => (Duration::MAX, None),
        };
        if cause.is_none() && elapsed >= since.saturating_add(CHECK_AFTER) {
            self.check_due.store(true, Ordering::Relaxed);
        }
        let write_waits = self.write_waits.load(Ordering::Relaxed);
        let waits_for_head = write_waits == 0 && self.draining.load(Ordering::Relaxed) == 0;
        if let Some(cause) = cause
            && waits_for_head
            && elapsed >= since.saturating_add(limit)
        {
            return Ok(cause);
        }
        if cause == Some(TimedOut::Idle) && waits_for_head && elapsed >= since.saturating_add(hibernate_after)
        {
            return Ok(TimedOut::Hibernate);
        }
        if self.is_write_late(elapsed) {
            return Ok(TimedOut::Write);
        }
        // The state may change during the sleep, so it is no longer than the shortest deadline. A long first request is
        // checked less and less often.
        let hibernate_after =
            if is_new { hibernate_after.max(elapsed / 4).min(HIBERNATE_AFTER) } else { hibernate_after };
        let shortest = (*header).min(*idle).min(write.grace).min(hibernate_after);
        let remaining = since.saturating_add(limit).saturating_sub(elapsed);
        let remaining = if waits_for_head { remaining.min(shortest) } else { shortest };
        Err(remaining.max(MIN_WAIT))
    }

    /// Whether this write has waited too long, or all writes of the response for the bytes that were sent.
    pub(super) fn is_write_late(&self, elapsed: Duration) -> bool {
        let since = self.write_waits.load(Ordering::Relaxed);
        if since == 0 {
            return false;
        }
        let waiting = elapsed.saturating_sub(Duration::from_millis(since));
        let waited = waiting + Duration::from_millis(self.waited.load(Ordering::Relaxed));
        let allowed = self.deadlines.write.time_for(self.written.load(Ordering::Relaxed));
        waiting >= self.deadlines.write.grace || allowed.is_some_and(|allowed| waited >= allowed)
    }

    fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        self.unauthenticated
            .as_ref()
            .map_or(Poll::Pending, |unauthenticated| unauthenticated.poll_evicted(context))
    }
}

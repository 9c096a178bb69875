//! What a client is keeping us waiting for, and since when: one deadline for each state of a connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use crate::time::deadlines::ClientTimeouts;
pub use crate::time::draining::DrainGuard;
use crate::time::request_heads::BodyLength;
pub use crate::time::timed_stream::{TimedStream, UntimedStream};

use crate::limits::unauthenticated::{ConnectionPhase, UnauthenticatedConnection};

/// Between two requests.
pub(crate) const IDLE: u8 = 0;
/// The first byte of a head has come, not yet the last.
pub(crate) const HEAD: u8 = 1;
/// A request is being answered.
pub(crate) const BUSY: u8 = 2;

/// A client that has asked nothing for so long costs no more than its stream, until it asks again.
const QUIET: Duration = Duration::from_secs(1);
/// The same of one that has asked but once, as most do that are then idle for long.
const QUIET_AT_FIRST: Duration = Duration::from_millis(20);

/// So long a request runs before its connection is checked for the first time; most are answered by then.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// Which wait took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimedOut {
    /// nothing was asked for a while: keep the connection, but no buffers for it
    Quiet,
    /// nothing was asked: close without a word
    Idle,
    /// half a head: 408
    Head,
    /// the answer is not taken, or too slowly
    Write,
    /// strangers hold too much memory: close at once
    TurnedOut,
}

/// What it means that nothing is asked for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum IdlePurpose {
    Ends,
    IsFine,
}

/// Shared between a connection's stream, its requests and the task that waits for deadlines.
pub struct TimeoutTracker {
    started: Instant,
    pub(crate) state: AtomicU8,
    /// milliseconds after `started`
    since: AtomicU64,
    /// milliseconds after `started` + 1; 0 while no write waits
    pub(crate) write_waits: AtomicU64,
    /// milliseconds that writes of this answer have waited before
    waited: AtomicU64,
    /// bytes of this answer that went out
    pub(crate) written: AtomicU64,
    /// bodies that are taken in beside their answers
    pub(crate) draining: AtomicU64,
    /// there are several requests at once, and bytes that belong to none
    multiplexed: AtomicBool,
    /// requests so far, as far as that counts
    asks: AtomicU8,
    /// bytes of the body behind the last head, or one of the two values below
    body: AtomicU64,
    /// every answer has gone out
    pub(crate) settled: AtomicBool,
    /// the request takes so long that the stream is to find out whether its client is still there
    pub(crate) check_due: AtomicBool,
    /// the client has closed its connection in the middle of a request
    pub(crate) left: AtomicBool,
    deadlines: Arc<ClientTimeouts>,
    /// the connection's, unless its client has shown a credential
    stranger: Option<Arc<UnauthenticatedConnection>>,
}

/// A body whose length is known when it has ended.
const UNKNOWN: u64 = u64::MAX;
/// There was no request since the last head.
const NO_REQUEST: u64 = u64::MAX - 1;

impl TimeoutTracker {
    /// A connection on which a request is awaited. The very first head has the header's time only.
    pub fn new(deadlines: Arc<ClientTimeouts>) -> Self {
        Self {
            started: Instant::now(),
            state: AtomicU8::new(HEAD),
            since: AtomicU64::new(0),
            write_waits: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            written: AtomicU64::new(0),
            draining: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            asks: AtomicU8::new(0),
            body: AtomicU64::new(NO_REQUEST),
            settled: AtomicBool::new(true),
            check_due: AtomicBool::new(false),
            left: AtomicBool::new(false),
            deadlines,
            stranger: None,
        }
    }

    /// The same where the connection counts as one of a stranger.
    pub fn of_stranger(deadlines: Arc<ClientTimeouts>, stranger: Arc<UnauthenticatedConnection>) -> Self {
        stranger.reach(ConnectionPhase::Head);
        Self { stranger: Some(stranger), ..Self::new(deadlines) }
    }

    /// Milliseconds after `started`.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn enter(&self, state: u8) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
        self.tell_phase();
    }

    /// What the connection takes of memory now.
    fn tell_phase(&self) {
        let Some(stranger) = &self.stranger else { return };
        let state = self.state.load(Ordering::Relaxed);
        let writes = self.write_waits.load(Ordering::Relaxed) > 0;
        let drains = self.draining.load(Ordering::Relaxed) > 0;
        stranger.reach(match self.multiplexed.load(Ordering::Relaxed) {
            true if writes => ConnectionPhase::MultiplexedWriting,
            true if drains || state == BUSY => ConnectionPhase::Multiplexed,
            false if writes => ConnectionPhase::Writing,
            false if drains => ConnectionPhase::Draining,
            false if state == BUSY => ConnectionPhase::Busy,
            false if state == IDLE => ConnectionPhase::Idle,
            _ => ConnectionPhase::Head,
        });
    }

    /// A write waits for the client.
    pub(crate) fn stalled(&self) {
        self.write_waits.store(self.now() + 1, Ordering::Relaxed);
        self.tell_phase();
    }

    fn poll_turned_out(&self, context: &Context<'_>) -> Poll<()> {
        self.stranger.as_ref().map_or(Poll::Pending, |stranger| stranger.poll_turned_out(context))
    }

    /// From now on `asked` and `answered` tell of the first and the last of the requests that there are at once, and no byte
    /// that comes or goes between them means anything.
    pub fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    fn is_idle_of_one(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE && !self.multiplexed.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) {
        if self.is_idle_of_one() && self.draining.load(Ordering::Relaxed) == 0 {
            self.enter(HEAD);
        }
    }

    /// Something of an answer went out. What hyper holds already goes out after `answered`.
    pub(crate) fn progressed(&self, bytes: usize) {
        let since = self.write_waits.load(Ordering::Relaxed);
        if since > 0 {
            self.write_waits.store(0, Ordering::Relaxed);
            add(&self.waited, self.now().saturating_sub(since - 1));
            self.tell_phase();
        }
        add(&self.written, u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.is_idle_of_one() {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether a write has waited for too long: this one, or all those of its answer together for what went out.
    fn is_write_late(&self, elapsed: Duration) -> bool {
        let since = self.write_waits.load(Ordering::Relaxed);
        if since == 0 {
            return false;
        }
        let waits = elapsed.saturating_sub(Duration::from_millis(since));
        let waited = waits + Duration::from_millis(self.waited.load(Ordering::Relaxed));
        let allowed = self.deadlines.write.time_for(self.written.load(Ordering::Relaxed));
        waits >= self.deadlines.write.grace || allowed.is_some_and(|allowed| waited >= allowed)
    }

    /// While the guard lives, what arrives belongs to a body and is no head; the wait for the next one begins
    /// when it is dropped.
    pub fn draining(clock: &Arc<Self>) -> DrainGuard {
        clock.draining.fetch_add(1, Ordering::Relaxed);
        clock.tell_phase();
        DrainGuard(Arc::clone(clock))
    }

    /// The head of a request has been understood; `length` is that of its body, where that is known.
    pub fn understood(&self, length: Option<u64>) {
        let length = length.filter(|length| *length < NO_REQUEST);
        self.body.store(length.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.settled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn take_body_length(&self) -> BodyLength {
        match self.body.swap(NO_REQUEST, Ordering::Relaxed) {
            UNKNOWN => BodyLength::Unknown,
            NO_REQUEST => BodyLength::NoRequest,
            length => BodyLength::Known(length),
        }
    }

    /// The library that writes answers holds nothing back any more.
    pub(crate) fn flushed(&self) {
        if self.state.load(Ordering::Relaxed) != BUSY {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    /// A whole head has been read.
    pub fn asked(&self) {
        self.waited.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        self.check_due.store(false, Ordering::Relaxed);
        self.left.store(false, Ordering::Relaxed);
        self.asks.store(self.asks.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        self.enter(BUSY);
    }

    /// How long the request has been running.
    pub(crate) fn busy_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.since.load(Ordering::Relaxed)))
    }

    /// Whether the client has closed its connection while it waits for an answer. Known after a second or two.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The client has given up this request.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Returns when the client has left. For a future within the connection's own task, which the deadlines wake at least
    /// once a second.
    pub async fn client_left(&self) {
        poll_fn(|_| if self.has_left() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The last byte of an answer has been handed over.
    pub fn answered(&self) {
        self.enter(IDLE);
    }

    /// Returns when the client has kept us waiting too long.
    pub async fn expired(&self) -> TimedOut {
        self.expired_or(IdlePurpose::IsFine).await
    }

    /// The same, or when the client has asked nothing for a while.
    pub async fn expired_or_quiet(&self) -> TimedOut {
        self.expired_or(IdlePurpose::Ends).await
    }

    async fn expired_or(&self, quiet: IdlePurpose) -> TimedOut {
        loop {
            match self.look(quiet) {
                Ok(expired) => return expired,
                Err(wait) => {
                    tokio::select! {
                        biased;
                        () = poll_fn(|context| self.poll_turned_out(context)) => (),
                        () = tokio::time::sleep(wait) => (),
                    }
                }
            }
        }
    }

    /// What has taken too long, or how long to wait before looking again.
    fn look(&self, quiet: IdlePurpose) -> Result<TimedOut, Duration> {
        if self.stranger.as_ref().is_some_and(|stranger| stranger.is_turned_out()) {
            return Ok(TimedOut::TurnedOut);
        }
        let ClientTimeouts { header, idle, write } = &*self.deadlines;
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        let elapsed = self.started.elapsed();
        let is_new = quiet == IdlePurpose::Ends && self.asks.load(Ordering::Relaxed) <= 1;
        let quiet = match quiet {
            IdlePurpose::Ends if is_new => QUIET_AT_FIRST,
            IdlePurpose::Ends => QUIET,
            IdlePurpose::IsFine => Duration::MAX,
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
        if cause == Some(TimedOut::Idle) && waits_for_head && elapsed >= since.saturating_add(quiet) {
            return Ok(TimedOut::Quiet);
        }
        if self.is_write_late(elapsed) {
            return Ok(TimedOut::Write);
        }
        // Never sleep past the shortest deadline, since the state may change while asleep. What takes long from the
        // beginning is looked at more and more seldom.
        let quiet = if is_new { quiet.max(elapsed / 4).min(QUIET) } else { quiet };
        let shortest = (*header).min(*idle).min(write.grace).min(quiet);
        let left = since.saturating_add(limit).saturating_sub(elapsed);
        let left = if waits_for_head { left.min(shortest) } else { shortest };
        Err(left.max(Duration::from_millis(5)))
    }
}

/// One thread at a time writes it.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::min_rate::MinRate;
    use crate::limits::unauthenticated::{StrangerLimits, StrangerOrigin, UnauthenticatedConnections};

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_hours(1);

    fn with(header: Duration, idle: Duration, write: MinRate) -> TimeoutTracker {
        TimeoutTracker::new(Arc::new(ClientTimeouts { header, idle, write }))
    }

    fn clock(header: Duration, idle: Duration) -> TimeoutTracker {
        with(header, idle, MinRate { grace: LONG, rate: 0 })
    }

    fn run(clock: &TimeoutTracker, prepare: impl FnOnce(&TimeoutTracker)) -> Option<TimedOut> {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
            return None;
        };
        prepare(clock);
        runtime.block_on(async { tokio::time::timeout(SHORT * 20, clock.expired()).await.ok() })
    }

    #[test]
    fn each_state_has_its_own_deadline() {
        assert_eq!(run(&clock(SHORT, LONG), |_| ()), Some(TimedOut::Head));
        assert_eq!(run(&clock(SHORT, SHORT), TimeoutTracker::answered), Some(TimedOut::Idle));
        assert_eq!(run(&clock(SHORT, LONG), TimeoutTracker::answered), None);
        assert_eq!(run(&clock(SHORT, SHORT), TimeoutTracker::asked), None);
    }

    #[test]
    fn only_clients_without_pending_data_hibernate() {
        let quiet = |prepare: fn(&TimeoutTracker)| {
            let clock = clock(LONG, LONG);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            prepare(&clock);
            runtime.block_on(async { tokio::time::timeout(QUIET / 2, clock.expired_or_quiet()).await.ok() })
        };
        let answered = |clock: &TimeoutTracker| (clock.asked(), clock.answered()).1;
        assert_eq!(quiet(answered), Some(TimedOut::Quiet));
        assert_eq!(quiet(|_| ()), None);
        assert_eq!(quiet(TimeoutTracker::asked), None);
        assert_eq!(quiet(|clock| (clock.asked(), clock.answered(), clock.received()).2), None);
        assert_eq!(quiet(|clock| (clock.asked(), clock.answered(), clock.asked(), clock.answered()).3), None);
    }

    #[test]
    fn a_response_in_flight_is_not_idle() {
        let clock = clock(SHORT, SHORT);
        clock.answered();
        clock.write_waits.store(1, Ordering::Relaxed);
        assert_eq!(run(&clock, |_| ()), None);
        assert_eq!(run(&clock, |clock| clock.progressed(0)), Some(TimedOut::Idle));
    }

    #[test]
    fn a_body_uses_no_head_timeout() {
        let clock = Arc::new(clock(SHORT, SHORT));
        clock.answered();
        let draining = TimeoutTracker::draining(&clock);
        assert_eq!(run(&clock, TimeoutTracker::received), None);
        drop(draining);
        assert_eq!(run(&clock, |_| ()), Some(TimedOut::Idle));
    }

    #[test]
    fn a_connection_counts_for_all_that_it_holds() {
        let strangers = Arc::new(UnauthenticatedConnections::default());
        let room = StrangerLimits { bytes: usize::MAX, places: usize::MAX, listener_places: usize::MAX };
        let origin = StrangerOrigin { listener: &Arc::from("listen"), source: None, has_place: true };
        let stranger = Arc::new(strangers.enter(room, &origin));
        let deadlines = ClientTimeouts { header: LONG, idle: LONG, write: MinRate { grace: LONG, rate: 0 } };
        let clock = Arc::new(TimeoutTracker::of_stranger(Arc::new(deadlines), stranger));
        let kilobytes = || strangers.bytes() >> 10;
        clock.asked();
        let busy = kilobytes();
        let draining = TimeoutTracker::draining(&clock);
        clock.answered();
        clock.received();
        assert!(kilobytes() >= busy, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < busy);
        clock.multiplex();
        clock.asked();
        let multiplexed = kilobytes();
        assert!(multiplexed > busy);
        clock.stalled();
        assert!(kilobytes() > multiplexed, "streams, and what the client does not take");
        clock.progressed(1);
        assert_eq!(kilobytes(), multiplexed);
        let draining = TimeoutTracker::draining(&clock);
        clock.answered();
        assert_eq!(kilobytes(), multiplexed, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < multiplexed);
    }

    #[test]
    fn clients_must_read_responses_fast_enough() {
        let pace = MinRate { grace: Duration::from_mins(1), rate: 1000 };
        let clock = with(LONG, LONG, pace);
        clock.asked();
        let late = |seconds| clock.is_write_late(Duration::from_secs(seconds));
        assert!(!late(1000), "nothing waits");
        clock.write_waits.store(1, Ordering::Relaxed);
        assert_eq!((late(59), late(61)), (false, true));
        // Of several waits that are short enough each, bytes pay for a second a thousand.
        clock.waited.store(50_000, Ordering::Relaxed);
        assert_eq!((late(9), late(11)), (false, true));
        clock.written.store(20_000, Ordering::Relaxed);
        assert_eq!((late(29), late(31)), (false, true));
        clock.asked();
        assert!(!late(31));
        clock.progressed(0);
        assert!(!late(1000));
    }
}

//! Tracks the deadlines of a client. Each state of a connection has one deadline.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

pub use crate::time::deadlines::ClientTimeouts;
pub use crate::time::draining::DrainGuard;
use crate::time::request_heads::BodyLength;
pub use crate::time::timed_stream::{TimedStream, UntimedStream};

use crate::limits::unauthenticated::{ConnectionPhase, UnauthenticatedConnection};

/// Between two requests.
pub(crate) const IDLE: u8 = 0;
/// A head has begun and is not complete.
pub(crate) const HEAD: u8 = 1;
/// A request is running.
pub(crate) const BUSY: u8 = 2;

/// The deadline that has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimedOut {
    /// no request for a while: the connection stays and releases its buffers
    Hibernate,
    /// no request: close without a response
    Idle,
    /// incomplete head: 408
    Head,
    /// the client does not read its response, or too slowly
    Write,
    /// unauthenticated clients hold too much memory: close at once
    Evicted,
}

/// The state of one connection and the time of its last change. The connection's stream, its requests and the task
/// that waits for deadlines share it.
pub struct TimeoutTracker {
    pub(super) started: Instant,
    pub(crate) state: AtomicU8,
    /// milliseconds after `started`
    pub(super) since: AtomicU64,
    /// milliseconds after `started` + 1; 0 while no write waits
    pub(crate) write_waits: AtomicU64,
    /// milliseconds of earlier waits of this response
    pub(super) waited: AtomicU64,
    /// bytes of this response that were sent
    pub(crate) written: AtomicU64,
    /// bodies that are drained beside their responses
    pub(crate) draining: AtomicU64,
    /// HTTP/2: several requests at once, and bytes that belong to none
    multiplexed: AtomicBool,
    /// requests so far, up to 255
    pub(super) requests: AtomicU8,
    /// bytes of the body of the last head, or one of the two values below
    body: AtomicU64,
    /// every response has been sent
    pub(crate) settled: AtomicBool,
    /// the stream is to check whether the client of a long request is still connected
    pub(crate) check_due: AtomicBool,
    /// the client has closed its connection during a request
    pub(crate) left: AtomicBool,
    pub(super) deadlines: Arc<ClientTimeouts>,
    /// until the client has sent a valid credential
    pub(super) unauthenticated: Option<Arc<UnauthenticatedConnection>>,
}

/// The length is known at the end of the body.
const UNKNOWN: u64 = u64::MAX;
/// No request since the last head.
const NO_REQUEST: u64 = u64::MAX - 1;

impl TimeoutTracker {
    /// A new connection. Its first head has the header timeout from now on.
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
            requests: AtomicU8::new(0),
            body: AtomicU64::new(NO_REQUEST),
            settled: AtomicBool::new(true),
            check_due: AtomicBool::new(false),
            left: AtomicBool::new(false),
            deadlines,
            unauthenticated: None,
        }
    }

    /// A new connection that counts as unauthenticated.
    pub fn for_unauthenticated(
        deadlines: Arc<ClientTimeouts>,
        unauthenticated: Arc<UnauthenticatedConnection>,
    ) -> Self {
        unauthenticated.set_phase(ConnectionPhase::Head);
        Self { unauthenticated: Some(unauthenticated), ..Self::new(deadlines) }
    }

    /// Milliseconds after `started`.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn enter(&self, state: u8) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
        self.report_phase();
    }

    /// Reports how much memory the connection takes now.
    fn report_phase(&self) {
        let Some(unauthenticated) = &self.unauthenticated else { return };
        let state = self.state.load(Ordering::Relaxed);
        let writes = self.write_waits.load(Ordering::Relaxed) > 0;
        let drains = self.draining.load(Ordering::Relaxed) > 0;
        unauthenticated.set_phase(match self.multiplexed.load(Ordering::Relaxed) {
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
    pub(crate) fn note_write_blocked(&self) {
        self.write_waits.store(self.now() + 1, Ordering::Relaxed);
        self.report_phase();
    }

    /// Marks an HTTP/2 connection: `begin_request` is for the first and `end_response` for the last of concurrent
    /// requests, and single bytes do not change the state.
    pub fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    fn is_idle_http1(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE && !self.multiplexed.load(Ordering::Relaxed)
    }

    pub(crate) fn note_read(&self) {
        if self.is_idle_http1() && self.draining.load(Ordering::Relaxed) == 0 {
            self.enter(HEAD);
        }
    }

    /// Counts bytes sent. Bytes that hyper holds are sent after `end_response`.
    pub(crate) fn note_written(&self, bytes: usize) {
        let since = self.write_waits.load(Ordering::Relaxed);
        if since > 0 {
            self.write_waits.store(0, Ordering::Relaxed);
            add(&self.waited, self.now().saturating_sub(since - 1));
            self.report_phase();
        }
        add(&self.written, u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.is_idle_http1() {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// While the guard lives, bytes belong to a body. The wait for the next head begins when the guard is dropped.
    pub fn draining(clock: &Arc<Self>) -> DrainGuard {
        clock.draining.fetch_add(1, Ordering::Relaxed);
        clock.report_phase();
        DrainGuard(Arc::clone(clock))
    }

    /// Stores the length of the body of a parsed head, if it is known.
    pub fn set_body_length(&self, length: Option<u64>) {
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

    /// The library has flushed everything it held.
    pub(crate) fn note_flush(&self) {
        if self.state.load(Ordering::Relaxed) != BUSY {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    /// A whole head has been read.
    pub fn begin_request(&self) {
        self.waited.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        self.check_due.store(false, Ordering::Relaxed);
        self.left.store(false, Ordering::Relaxed);
        self.requests.store(self.requests.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        self.enter(BUSY);
    }

    /// Time since the request began.
    pub(crate) fn busy_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.since.load(Ordering::Relaxed)))
    }

    /// Whether the client has closed its connection before the response. Known after a second or two.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The client has cancelled this request.
    pub fn mark_client_left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Returns when the client has left. Poll it in the connection's own task: its deadlines wake that task at least
    /// once a second.
    pub async fn client_left(&self) {
        poll_fn(|_| if self.has_left() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The last byte of a response has been handed to the library.
    pub fn end_response(&self) {
        self.enter(IDLE);
    }
}

/// Not atomic as a whole: one thread at a time writes the count.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::min_rate::MinRate;
    use crate::limits::unauthenticated::{
        UnauthenticatedConnections, UnauthenticatedLimits, UnauthenticatedOrigin,
    };
    use crate::time::expiry::HIBERNATE_AFTER;

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
        assert_eq!(run(&clock(SHORT, SHORT), TimeoutTracker::end_response), Some(TimedOut::Idle));
        assert_eq!(run(&clock(SHORT, LONG), TimeoutTracker::end_response), None);
        assert_eq!(run(&clock(SHORT, SHORT), TimeoutTracker::begin_request), None);
    }

    #[test]
    fn only_clients_without_pending_data_hibernate() {
        let quiet = |prepare: fn(&TimeoutTracker)| {
            let clock = clock(LONG, LONG);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            prepare(&clock);
            runtime.block_on(async {
                tokio::time::timeout(HIBERNATE_AFTER / 2, clock.expired_or_hibernate()).await.ok()
            })
        };
        let answered = |clock: &TimeoutTracker| (clock.begin_request(), clock.end_response()).1;
        assert_eq!(quiet(answered), Some(TimedOut::Hibernate));
        assert_eq!(quiet(|_| ()), None);
        assert_eq!(quiet(TimeoutTracker::begin_request), None);
        assert_eq!(quiet(|clock| (clock.begin_request(), clock.end_response(), clock.note_read()).2), None);
        assert_eq!(
            quiet(|clock| (
                clock.begin_request(),
                clock.end_response(),
                clock.begin_request(),
                clock.end_response()
            )
                .3),
            None
        );
    }

    #[test]
    fn a_response_in_flight_is_not_idle() {
        let clock = clock(SHORT, SHORT);
        clock.end_response();
        clock.write_waits.store(1, Ordering::Relaxed);
        assert_eq!(run(&clock, |_| ()), None);
        assert_eq!(run(&clock, |clock| clock.note_written(0)), Some(TimedOut::Idle));
    }

    #[test]
    fn a_body_uses_no_head_timeout() {
        let clock = Arc::new(clock(SHORT, SHORT));
        clock.end_response();
        let draining = TimeoutTracker::draining(&clock);
        assert_eq!(run(&clock, TimeoutTracker::note_read), None);
        drop(draining);
        assert_eq!(run(&clock, |_| ()), Some(TimedOut::Idle));
    }

    #[test]
    fn a_connection_counts_for_all_that_it_holds() {
        let connections = Arc::new(UnauthenticatedConnections::default());
        let room = UnauthenticatedLimits {
            bytes: usize::MAX,
            permits: usize::MAX,
            listener_connections: usize::MAX,
        };
        let origin = UnauthenticatedOrigin { listener: &Arc::from("listen"), source: None, has_permit: true };
        let connection = Arc::new(connections.register(room, &origin));
        let deadlines = ClientTimeouts { header: LONG, idle: LONG, write: MinRate { grace: LONG, rate: 0 } };
        let clock = Arc::new(TimeoutTracker::for_unauthenticated(Arc::new(deadlines), connection));
        let kilobytes = || connections.bytes() >> 10;
        clock.begin_request();
        let busy = kilobytes();
        let draining = TimeoutTracker::draining(&clock);
        clock.end_response();
        clock.note_read();
        assert!(kilobytes() >= busy, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < busy);
        clock.set_multiplexed();
        clock.begin_request();
        let multiplexed = kilobytes();
        assert!(multiplexed > busy);
        clock.note_write_blocked();
        assert!(kilobytes() > multiplexed, "streams, and what the client does not take");
        clock.note_written(1);
        assert_eq!(kilobytes(), multiplexed);
        let draining = TimeoutTracker::draining(&clock);
        clock.end_response();
        assert_eq!(kilobytes(), multiplexed, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < multiplexed);
    }

    #[test]
    fn clients_must_read_responses_fast_enough() {
        let pace = MinRate { grace: Duration::from_mins(1), rate: 1000 };
        let clock = with(LONG, LONG, pace);
        clock.begin_request();
        let late = |seconds| clock.is_write_late(Duration::from_secs(seconds));
        assert!(!late(1000), "nothing waits");
        clock.write_waits.store(1, Ordering::Relaxed);
        assert_eq!((late(59), late(61)), (false, true));
        // Of several waits that are short enough each, bytes pay for a second a thousand.
        clock.waited.store(50_000, Ordering::Relaxed);
        assert_eq!((late(9), late(11)), (false, true));
        clock.written.store(20_000, Ordering::Relaxed);
        assert_eq!((late(29), late(31)), (false, true));
        clock.begin_request();
        assert!(!late(31));
        clock.note_written(0);
        assert!(!late(1000));
    }
}

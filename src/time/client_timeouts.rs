//! Tracks the deadlines of a client. Each state of a connection has one deadline.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::settings::Settings;
use crate::limits::min_rate::{MinRate, RateTracker};
use crate::limits::unauthenticated::{ConnectionPhase, UnauthenticatedConnection};
use crate::time::request_heads::BodyLength;
pub use crate::time::timed_stream::{TimedStream, UntimedStream};

/// The timeouts of a client. All connections of a configuration share them.
pub struct ClientTimeouts {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: MinRate,
}

impl ClientTimeouts {
    pub fn new(settings: &Settings) -> Self {
        let write = MinRate { grace: settings.timeout.write, rate: settings.limits.response_min_rate };
        Self { header: settings.timeout.header, idle: settings.timeout.idle, write }
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientState {
    /// between two requests
    Idle,
    /// a head has begun and is not complete
    Head,
    /// a request is running
    Busy,
}

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
    pub(super) deadlines: Arc<ClientTimeouts>,
    pub(super) started: Instant,
    pub(super) state: Cell<ClientState>,
    pub(super) since: Cell<Instant>,
    /// the beginning of a write that waits
    pub(super) write_waits: Cell<Option<Instant>>,
    /// the bytes of this response, and its earlier waits
    pub(super) response: Cell<RateTracker>,
    /// bodies that are drained beside their responses
    pub(super) draining: Cell<usize>,
    /// HTTP/2: several requests at once, and bytes that belong to none
    multiplexed: Cell<bool>,
    /// requests so far, up to 255
    pub(super) requests: Cell<u8>,
    /// the body of the last head
    body: Cell<BodyLength>,
    /// every response has been sent
    pub(super) settled: Cell<bool>,
    /// the stream is to check whether the client of a long request is still connected
    pub(super) check_due: Cell<bool>,
    /// the client has closed its connection during a request
    left: Cell<bool>,
    /// until the client has sent a valid credential
    pub(super) unauthenticated: Option<Arc<UnauthenticatedConnection>>,
}

impl TimeoutTracker {
    /// A new connection. Its first head has the header timeout from now on.
    pub fn new(deadlines: Arc<ClientTimeouts>) -> Self {
        let now = Instant::now();
        Self {
            response: Cell::new(RateTracker::new(deadlines.write)),
            deadlines,
            started: now,
            state: Cell::new(ClientState::Head),
            since: Cell::new(now),
            write_waits: Cell::new(None),
            draining: Cell::new(0),
            multiplexed: Cell::new(false),
            requests: Cell::new(0),
            body: Cell::new(BodyLength::NoRequest),
            settled: Cell::new(true),
            check_due: Cell::new(false),
            left: Cell::new(false),
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

    fn enter(&self, state: ClientState) {
        self.since.set(Instant::now());
        self.state.set(state);
        self.report_phase();
    }

    /// Reports how much memory the connection takes now.
    fn report_phase(&self) {
        let Some(unauthenticated) = &self.unauthenticated else { return };
        let state = self.state.get();
        let writes = self.write_waits.get().is_some();
        let drains = self.draining.get() > 0;
        unauthenticated.set_phase(match self.multiplexed.get() {
            true if writes => ConnectionPhase::MultiplexedWriting,
            true if drains || state == ClientState::Busy => ConnectionPhase::Multiplexed,
            false if writes => ConnectionPhase::Writing,
            false if drains => ConnectionPhase::Draining,
            false if state == ClientState::Busy => ConnectionPhase::Busy,
            false if state == ClientState::Idle => ConnectionPhase::Idle,
            _ => ConnectionPhase::Head,
        });
    }

    /// Marks an HTTP/2 connection: `begin_request` is for the first and `end_response` for the last of concurrent
    /// requests, and single bytes do not change the state.
    pub fn set_multiplexed(&self) {
        self.multiplexed.set(true);
    }

    fn is_idle_http1(&self) -> bool {
        self.state.get() == ClientState::Idle && !self.multiplexed.get()
    }

    pub(super) fn note_read(&self) {
        if self.is_idle_http1() && self.draining.get() == 0 {
            self.enter(ClientState::Head);
        }
    }

    /// A write waits for the client.
    pub(super) fn note_write_blocked(&self) {
        if self.write_waits.get().is_none() {
            self.write_waits.set(Some(Instant::now()));
            self.report_phase();
        }
    }

    /// Counts bytes sent. Bytes that hyper holds are sent after `end_response`.
    pub(super) fn note_written(&self, bytes: usize) {
        let mut response = self.response.get();
        response.add_bytes(bytes);
        if let Some(since) = self.write_waits.take() {
            response.add_wait(since.elapsed());
            self.report_phase();
        }
        self.response.set(response);
        if self.is_idle_http1() {
            self.since.set(Instant::now());
        }
    }

    /// While the guard lives, bytes belong to a body. The wait for the next head begins when the guard is dropped.
    pub fn draining(tracker: &Rc<Self>) -> DrainGuard {
        tracker.draining.set(tracker.draining.get() + 1);
        tracker.report_phase();
        DrainGuard(Rc::clone(tracker))
    }

    /// Stores the length of the body of a parsed head, if it is known.
    pub fn set_body_length(&self, length: Option<u64>) {
        self.body.set(length.map_or(BodyLength::Unknown, BodyLength::Known));
        self.settled.set(false);
    }

    pub(super) fn take_body_length(&self) -> BodyLength {
        self.body.replace(BodyLength::NoRequest)
    }

    /// The library has flushed everything it held.
    pub(super) fn note_flush(&self) {
        if self.state.get() != ClientState::Busy {
            self.settled.set(true);
        }
    }

    /// A whole head has been read.
    pub fn begin_request(&self) {
        self.response.set(RateTracker::new(self.deadlines.write));
        self.check_due.set(false);
        self.left.set(false);
        self.requests.set(self.requests.get().saturating_add(1));
        self.enter(ClientState::Busy);
    }

    /// Whether the client has closed its connection before the response. Known after a second or two.
    pub fn has_left(&self) -> bool {
        self.left.get()
    }

    /// The client has cancelled this request.
    pub fn mark_client_left(&self) {
        self.left.set(true);
    }

    /// Returns when the client has left. Poll it in the connection's own task: its deadlines wake that task at least
    /// once a second.
    pub async fn client_left(&self) {
        poll_fn(|_| if self.has_left() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The last byte of a response has been handed to the library.
    pub fn end_response(&self) {
        self.enter(ClientState::Idle);
    }
}

/// Guard of a body that is drained; see `TimeoutTracker::draining`.
pub struct DrainGuard(Rc<TimeoutTracker>);

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.0.draining.set(self.0.draining.get().saturating_sub(1));
        if self.0.state.get() != ClientState::Busy {
            self.0.enter(ClientState::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::unauthenticated::{
        UnauthenticatedConnections, UnauthenticatedLimits, UnauthenticatedOrigin,
    };
    use crate::time::expiry::HIBERNATE_AFTER;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_hours(1);

    fn with(header: Duration, idle: Duration, write: MinRate) -> TimeoutTracker {
        TimeoutTracker::new(Arc::new(ClientTimeouts { header, idle, write }))
    }

    fn tracker(header: Duration, idle: Duration) -> TimeoutTracker {
        with(header, idle, MinRate { grace: LONG, rate: 0 })
    }

    fn run(tracker: &TimeoutTracker, prepare: impl FnOnce(&TimeoutTracker)) -> Option<TimedOut> {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
            return None;
        };
        prepare(tracker);
        runtime.block_on(async { tokio::time::timeout(SHORT * 20, tracker.expired()).await.ok() })
    }

    #[test]
    fn each_state_has_its_own_deadline() {
        assert_eq!(run(&tracker(SHORT, LONG), |_| ()), Some(TimedOut::Head));
        assert_eq!(run(&tracker(SHORT, SHORT), TimeoutTracker::end_response), Some(TimedOut::Idle));
        assert_eq!(run(&tracker(SHORT, LONG), TimeoutTracker::end_response), None);
        assert_eq!(run(&tracker(SHORT, SHORT), TimeoutTracker::begin_request), None);
    }

    #[test]
    fn only_clients_without_pending_data_hibernate() {
        fn request(tracker: &TimeoutTracker) {
            tracker.begin_request();
            tracker.end_response();
        }
        let cases: [(fn(&TimeoutTracker), _); 5] = [
            (request, Some(TimedOut::Hibernate)),
            (|_| (), None),
            (TimeoutTracker::begin_request, None),
            (|tracker| (request(tracker), tracker.note_read()).1, None),
            (|tracker| (request(tracker), request(tracker)).1, None),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (index, (prepare, expected)) in cases.into_iter().enumerate() {
            let tracker = tracker(LONG, LONG);
            prepare(&tracker);
            let hibernate = async {
                tokio::time::timeout(HIBERNATE_AFTER / 2, tracker.expired_or_hibernate()).await.ok()
            };
            assert_eq!(runtime.block_on(hibernate), expected, "{index}");
        }
    }

    #[test]
    fn a_response_in_flight_is_not_idle() {
        let tracker = tracker(SHORT, SHORT);
        tracker.end_response();
        tracker.note_write_blocked();
        assert_eq!(run(&tracker, |_| ()), None);
        assert_eq!(run(&tracker, |tracker| tracker.note_written(0)), Some(TimedOut::Idle));
    }

    #[test]
    fn a_body_uses_no_head_timeout() {
        let tracker = Rc::new(tracker(SHORT, SHORT));
        tracker.end_response();
        let draining = TimeoutTracker::draining(&tracker);
        assert_eq!(run(&tracker, TimeoutTracker::note_read), None);
        drop(draining);
        assert_eq!(run(&tracker, |_| ()), Some(TimedOut::Idle));
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
        let tracker = Rc::new(TimeoutTracker::for_unauthenticated(Arc::new(deadlines), connection));
        let kilobytes = || connections.bytes() >> 10;
        tracker.begin_request();
        let busy = kilobytes();
        let draining = TimeoutTracker::draining(&tracker);
        tracker.end_response();
        tracker.note_read();
        assert!(kilobytes() >= busy, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < busy);
        tracker.set_multiplexed();
        tracker.begin_request();
        let multiplexed = kilobytes();
        assert!(multiplexed > busy);
        tracker.note_write_blocked();
        assert!(kilobytes() > multiplexed, "streams, and what the client does not take");
        tracker.note_written(1);
        assert_eq!(kilobytes(), multiplexed);
        let draining = TimeoutTracker::draining(&tracker);
        tracker.end_response();
        assert_eq!(kilobytes(), multiplexed, "a body is taken in beside its answer");
        drop(draining);
        assert!(kilobytes() < multiplexed);
    }
}

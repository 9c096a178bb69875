//! What a client is keeping us waiting for, and since when: one deadline for each state of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::settings::Settings;
use crate::limits::pace::Pace;

/// Between two requests.
const IDLE: u8 = 0;
/// The first byte of a head has come, not yet the last.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

/// Which wait took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expired {
    /// nothing was asked for a while: keep the connection, but no buffers for it
    Quiet,
    /// nothing was asked: close without a word
    Idle,
    /// half a head: 408
    Head,
    /// the answer is not taken, or too slowly
    Write,
}

/// Shared between a connection's stream, its requests and the task that waits for deadlines.
pub struct Clock {
    started: Instant,
    state: AtomicU8,
    /// milliseconds after `started`
    since: AtomicU64,
    /// milliseconds after `started` + 1; 0 while no write waits
    write_waits: AtomicU64,
    /// milliseconds that writes of this answer have waited before
    waited: AtomicU64,
    /// bytes of this answer that went out
    written: AtomicU64,
    /// bodies that are taken in beside their answers
    draining: AtomicU64,
    /// there are several requests at once, and bytes that belong to none
    multiplexed: AtomicBool,
    header: Duration,
    idle: Duration,
    write: Pace,
}

impl Clock {
    /// A connection on which a request is awaited. The very first head has the header's time only.
    pub fn new(settings: &Settings) -> Self {
        let write = Pace { grace: settings.timeout.write, rate: settings.limits.answer_rate };
        Self::with(settings.timeout.header, settings.timeout.idle, write)
    }

    fn with(header: Duration, idle: Duration, write: Pace) -> Self {
        Self {
            started: Instant::now(),
            state: AtomicU8::new(HEAD),
            since: AtomicU64::new(0),
            write_waits: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            written: AtomicU64::new(0),
            draining: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            header,
            idle,
            write,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, state: u8) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
    }

    /// From now on `asked` and `answered` tell of the first and the last of the requests that there are at once, and no byte
    /// that comes or goes between them means anything.
    pub fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    fn is_idle_of_one(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE && !self.multiplexed.load(Ordering::Relaxed)
    }

    fn received(&self) {
        if self.is_idle_of_one() && self.draining.load(Ordering::Relaxed) == 0 {
            self.enter(HEAD);
        }
    }

    /// Something of an answer went out. What hyper holds already goes out after `answered`.
    fn progressed(&self, bytes: usize) {
        let since = self.write_waits.load(Ordering::Relaxed);
        if since > 0 {
            self.write_waits.store(0, Ordering::Relaxed);
            add(&self.waited, self.now().saturating_sub(since - 1));
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
        let allowed = self.write.time_for(self.written.load(Ordering::Relaxed));
        waits >= self.write.grace || allowed.is_some_and(|allowed| waited >= allowed)
    }

    /// While the guard lives, what arrives belongs to a body and is no head; the wait for the next one begins
    /// when it is dropped.
    pub fn draining(clock: &Arc<Self>) -> Draining {
        clock.draining.fetch_add(1, Ordering::Relaxed);
        Draining(Arc::clone(clock))
    }

    /// A whole head has been read.
    pub fn asked(&self) {
        self.waited.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        self.enter(BUSY);
    }

    /// The last byte of an answer has been handed over.
    pub fn answered(&self) {
        self.enter(IDLE);
    }

    /// Returns when the client has kept us waiting too long, or has asked nothing for as long as `quiet`.
    pub async fn expired(&self, quiet: Duration) -> Expired {
        loop {
            let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
            let elapsed = self.started.elapsed();
            let (limit, cause) = match self.state.load(Ordering::Relaxed) {
                IDLE => (self.idle, Some(Expired::Idle)),
                HEAD => (self.header, Some(Expired::Head)),
                _ => (Duration::MAX, None),
            };
            let write_waits = self.write_waits.load(Ordering::Relaxed);
            let waits_for_head = write_waits == 0 && self.draining.load(Ordering::Relaxed) == 0;
            if let Some(cause) = cause
                && waits_for_head
                && elapsed >= since.saturating_add(limit)
            {
                return cause;
            }
            if cause == Some(Expired::Idle) && waits_for_head && elapsed >= since.saturating_add(quiet) {
                return Expired::Quiet;
            }
            if self.is_write_late(elapsed) {
                return Expired::Write;
            }
            // Never sleep past the shortest deadline, since the state may change while asleep.
            let shortest = self.header.min(self.idle).min(self.write.grace).min(quiet);
            let left = since.saturating_add(limit).saturating_sub(elapsed);
            let left = if waits_for_head { left.min(shortest) } else { shortest };
            tokio::time::sleep(left.max(Duration::from_millis(5))).await;
        }
    }
}

/// One thread at a time writes it.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
}

/// A body is being taken in; see `Clock::draining`.
pub struct Draining(Arc<Clock>);

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::Relaxed);
        if self.0.state.load(Ordering::Relaxed) != BUSY {
            self.0.enter(IDLE);
        }
    }
}

/// A stream that tells its clock what happens on it.
pub struct Clocked<S> {
    stream: S,
    clock: Arc<Clock>,
    /// was read before, and comes first
    early: Bytes,
}

impl<S> Clocked<S> {
    pub fn new(stream: S, early: Bytes, clock: Arc<Clock>) -> Self {
        Self { stream, clock, early }
    }

    /// The stream, no longer watched.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn note_write(&self, written: Poll<usize>) {
        if let Poll::Ready(bytes) = written {
            self.clock.progressed(bytes);
        } else if self.clock.write_waits.load(Ordering::Relaxed) == 0 {
            self.clock.write_waits.store(self.clock.now() + 1, Ordering::Relaxed);
        }
    }
}

fn written(polled: &Poll<io::Result<usize>>) -> Poll<usize> {
    match polled {
        Poll::Ready(Ok(bytes)) => Poll::Ready(*bytes),
        Poll::Ready(Err(_)) => Poll::Ready(0),
        Poll::Pending => Poll::Pending,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Clocked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early.split_to(count));
            self.clock.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.clock.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Clocked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(written(&polled));
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // Without a wait before or now nothing went out.
        if polled.is_pending() || self.clock.write_waits.load(Ordering::Relaxed) > 0 {
            self.note_write(if polled.is_ready() { Poll::Ready(0) } else { Poll::Pending });
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(written(&polled));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_hours(1);

    fn clock(header: Duration, idle: Duration) -> Clock {
        Clock::with(header, idle, Pace { grace: LONG, rate: 0 })
    }

    fn run(clock: &Clock, prepare: impl FnOnce(&Clock)) -> Option<Expired> {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
            return None;
        };
        prepare(clock);
        runtime.block_on(async { tokio::time::timeout(SHORT * 20, clock.expired(LONG)).await.ok() })
    }

    #[test]
    fn each_state_has_its_own_deadline() {
        assert_eq!(run(&clock(SHORT, LONG), |_| ()), Some(Expired::Head));
        assert_eq!(run(&clock(SHORT, SHORT), Clock::answered), Some(Expired::Idle));
        assert_eq!(run(&clock(SHORT, LONG), Clock::answered), None);
        assert_eq!(run(&clock(SHORT, SHORT), Clock::asked), None);
    }

    #[test]
    fn only_a_client_that_owes_nothing_is_quiet() {
        let quiet = |prepare: fn(&Clock)| {
            let clock = clock(LONG, LONG);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            prepare(&clock);
            runtime.block_on(async { tokio::time::timeout(SHORT * 20, clock.expired(SHORT)).await.ok() })
        };
        assert_eq!(quiet(Clock::answered), Some(Expired::Quiet));
        assert_eq!(quiet(|_| ()), None);
        assert_eq!(quiet(Clock::asked), None);
        assert_eq!(quiet(|clock| (clock.answered(), clock.received()).1), None);
    }

    #[test]
    fn what_was_read_before_comes_first() {
        let clock = Arc::new(clock(LONG, LONG));
        clock.answered();
        let mut stream = Clocked::new(&b"lo"[..], Bytes::from_static(b"hel"), Arc::clone(&clock));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut text = String::new();
        runtime.block_on(stream.read_to_string(&mut text)).unwrap();
        assert_eq!((text.as_str(), clock.state.load(Ordering::Relaxed)), ("hello", HEAD));
    }

    #[test]
    fn an_answer_that_is_still_going_out_is_no_idleness() {
        let clock = clock(SHORT, SHORT);
        clock.answered();
        clock.write_waits.store(1, Ordering::Relaxed);
        assert_eq!(run(&clock, |_| ()), None);
        assert_eq!(run(&clock, |clock| clock.progressed(0)), Some(Expired::Idle));
    }

    #[test]
    fn a_body_that_is_taken_in_is_no_head() {
        let clock = Arc::new(clock(SHORT, SHORT));
        clock.answered();
        let draining = Clock::draining(&clock);
        assert_eq!(run(&clock, Clock::received), None);
        drop(draining);
        assert_eq!(run(&clock, |_| ()), Some(Expired::Idle));
    }

    #[test]
    fn a_client_takes_something_of_its_answer_in_time_and_all_of_it_fast_enough() {
        let pace = Pace { grace: Duration::from_mins(1), rate: 1000 };
        let clock = Clock::with(LONG, LONG, pace);
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

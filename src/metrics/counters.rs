//! The counters. Each thread adds to its own shard, so threads do not share cache lines.

mod totals;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::labels::{FailurePhase, HandshakeResult, LimitLabel, RequestDestination};
use crate::metrics::histogram::HistogramShard;
use crate::metrics::latency_window;
use crate::metrics::latency_window::LatencyShard;
pub use totals::{CounterTotals, totals};

/// Further threads share the shards; there are at most as many workers.
const ROWS: usize = 128;
const UNAUTHORIZED: u16 = 401;

static TABLE: [CounterShard; ROWS] = [const { CounterShard::new() }; ROWS];
static NEXT: AtomicUsize = AtomicUsize::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static DRAINING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static ROW: Option<&'static CounterShard> = TABLE.get(NEXT.fetch_add(1, Ordering::Relaxed) % ROWS);
}

/// Aligned, so that it shares no cache line.
#[repr(align(128))]
struct CounterShard {
    opened: AtomicU64,
    closed: AtomicU64,
    denied: AtomicU64,
    refused: AtomicU64,
    /// responses by destination and first digit of the status: 1xx to 5xx
    answers: [[AtomicU64; 5]; RequestDestination::COUNT],
    /// durations of the responses with a latency
    times: [HistogramShard; RequestDestination::COUNT],
    /// bytes of response bodies
    bytes: AtomicU64,
    handshakes: [AtomicU64; HandshakeResult::COUNT],
    limits: [AtomicU64; LimitLabel::COUNT],
    upstream_errors: [AtomicU64; FailurePhase::COUNT],
    upstream_times: HistogramShard,
    coalesced: AtomicU64,
    uploads: UpDownCounter,
    spool: UpDownCounter,
    latencies: LatencyShard,
}

impl CounterShard {
    const fn new() -> Self {
        Self {
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            answers: [const { [const { AtomicU64::new(0) }; 5] }; RequestDestination::COUNT],
            times: [const { HistogramShard::new() }; RequestDestination::COUNT],
            bytes: AtomicU64::new(0),
            handshakes: [const { AtomicU64::new(0) }; HandshakeResult::COUNT],
            limits: [const { AtomicU64::new(0) }; LimitLabel::COUNT],
            upstream_errors: [const { AtomicU64::new(0) }; FailurePhase::COUNT],
            upstream_times: HistogramShard::new(),
            coalesced: AtomicU64::new(0),
            uploads: UpDownCounter::new(),
            spool: UpDownCounter::new(),
            latencies: LatencyShard::new(),
        }
    }
}

/// A number that grows and shrinks, perhaps in different threads.
struct UpDownCounter {
    taken: AtomicU64,
    given_back: AtomicU64,
}

impl UpDownCounter {
    const fn new() -> Self {
        Self { taken: AtomicU64::new(0), given_back: AtomicU64::new(0) }
    }
}

/// Counts a connection. Dropping it ends the count.
pub struct ConnectionCount(());

impl ConnectionCount {
    #[expect(clippy::new_without_default, reason = "it counts: nobody should get one by the way")]
    pub fn new() -> Self {
        add(|row| &row.opened);
        Self(())
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        add(|row| &row.closed);
    }
}

/// Counts a client that the access list rejected.
pub fn denied() {
    add(|row| &row.denied);
}

/// A response that was sent.
#[derive(Clone, Copy, Debug)]
pub struct FinishedResponse {
    pub destination: RequestDestination,
    pub status: u16,
    /// of the body
    pub bytes: u64,
    /// when its request began; `None` if it has no latency
    pub started: Option<Instant>,
}

/// Counts a response. nodegate itself delays a rejected login, so that time is no latency.
pub fn answered(answer: FinishedResponse) {
    let now = Instant::now();
    let class = usize::from(answer.status / 100).saturating_sub(1);
    let destination = index(&RequestDestination::ALL, answer.destination);
    with_row(|row| {
        if let Some(count) = row.answers.get(destination).and_then(|classes| classes.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        row.bytes.fetch_add(answer.bytes, Ordering::Relaxed);
        if answer.status == UNAUTHORIZED {
            row.refused.fetch_add(1, Ordering::Relaxed);
        } else if let Some(started) = answer.started {
            let latency = now.duration_since(started);
            row.latencies.add(latency_window::span_at(now.duration_since(*BEGAN)), latency);
            if let Some(times) = row.times.get(destination) {
                times.add(latency);
            }
        }
    });
}

pub fn shook_hands(handshake: HandshakeResult) {
    add_at(|row| &row.handshakes, index(&HandshakeResult::ALL, handshake));
}

/// Counts a request or connection over a limit.
pub fn limited(limit: LimitLabel) {
    add_at(|row| &row.limits, index(&LimitLabel::ALL, limit));
}

/// Counts a failed request to a daemon or a node.
pub fn upstream_failed(phase: FailurePhase) {
    add_at(|row| &row.upstream_errors, index(&FailurePhase::ALL, phase));
}

/// Counts the head of an upstream's response.
pub fn upstream_answered(after: Duration) {
    with_row(|row| row.upstream_times.add(after));
}

/// Counts a request that shared the response to another.
pub fn coalesced() {
    add(|row| &row.coalesced);
}

pub fn upload_began() {
    add(|row| &row.uploads.taken);
}

/// Counts the end of an upload that held so many bytes.
pub fn upload_ended(held: u64) {
    with_row(|row| {
        row.uploads.given_back.fetch_add(1, Ordering::Relaxed);
        row.spool.given_back.fetch_add(held, Ordering::Relaxed);
    });
}

/// Adds bytes that an upload holds.
pub fn spooled(bytes: u64) {
    with_row(|row| {
        row.spool.taken.fetch_add(bytes, Ordering::Relaxed);
    });
}

/// Marks this process as draining.
pub fn drains() {
    DRAINING.store(true, Ordering::Relaxed);
}

pub fn is_draining() -> bool {
    DRAINING.load(Ordering::Relaxed)
}

/// Starts the uptime.
pub fn begin() {
    LazyLock::force(&BEGAN);
}

/// The time since `begin`.
pub fn uptime() -> Duration {
    BEGAN.elapsed()
}

fn add(count: impl FnOnce(&CounterShard) -> &AtomicU64) {
    with_row(|row| {
        count(row).fetch_add(1, Ordering::Relaxed);
    });
}

fn add_at<const N: usize>(counts: impl FnOnce(&CounterShard) -> &[AtomicU64; N], at: usize) {
    with_row(|row| {
        if let Some(count) = counts(row).get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn index<T: Copy + PartialEq>(all: &[T], one: T) -> usize {
    all.iter().position(|known| *known == one).unwrap_or(all.len())
}

/// A thread that is about to end may have no shard any more; its count is lost.
fn with_row(work: impl FnOnce(&CounterShard)) {
    let _ = ROW.try_with(|row| row.map(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, started: Option<Instant>) {
        let answer = FinishedResponse { destination: RequestDestination::File, status, bytes: 7, started };
        answered(answer);
    }

    #[test]
    fn counts_of_all_threads_are_summed() {
        let before = totals();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    let _open = ConnectionCount::new();
                    denied();
                    answer(200, Some(Instant::now()));
                    answer(404, None);
                    answer(401, None);
                    answer(999, None);
                })
            })
            .collect();
        for thread in threads {
            assert!(thread.join().is_ok());
        }
        let after = totals();
        assert!(after.connections >= before.connections + 4);
        assert!(after.denied >= before.denied + 4 && after.refused >= before.refused + 4);
        let [_, good, _, bad, _] = after.classes;
        let [_, good_before, _, bad_before, _] = before.classes;
        assert!(good >= good_before + 4 && bad >= bad_before + 8);
        assert!(after.latencies.count() >= before.latencies.count());
    }
}

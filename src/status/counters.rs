//! What is counted. Each thread adds to a row of its own, so that threads do not take it from each other.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::latencies::{self, Histogram, Latencies};

/// Threads beyond share the rows; as many as there may be workers.
const ROWS: usize = 128;
const UNAUTHORIZED: u16 = 401;

static TABLE: [Row; ROWS] = [const { Row::new() }; ROWS];
static NEXT: AtomicUsize = AtomicUsize::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static ROW: Option<&'static Row> = TABLE.get(NEXT.fetch_add(1, Ordering::Relaxed) % ROWS);
    /// the ten seconds that it is, and their end: to compare costs less than to subtract
    static SPAN_NOW: Cell<(u64, Instant)> = Cell::new((0, *BEGAN));
}

/// On cache lines of its own.
#[repr(align(128))]
struct Row {
    opened: AtomicU64,
    closed: AtomicU64,
    denied: AtomicU64,
    refused: AtomicU64,
    /// answers by the first digit of their status: 1xx to 5xx
    classes: [AtomicU64; 5],
    latencies: Latencies,
}

impl Row {
    const fn new() -> Self {
        Self {
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            classes: [const { AtomicU64::new(0) }; 5],
            latencies: Latencies::new(),
        }
    }
}

/// Counts a connection for as long as it lives.
pub struct Connection(());

impl Connection {
    #[expect(clippy::new_without_default, reason = "it counts: nobody should get one by the way")]
    pub fn new() -> Self {
        add(|row| &row.opened);
        Self(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        add(|row| &row.closed);
    }
}

/// The access list has turned a client away.
pub fn denied() {
    add(|row| &row.denied);
}

/// An answer is out, to a request that began at `started`, where it has a latency. How long a refused login took is our
/// own doing, and none.
pub fn answered(status: u16, started: Option<Instant>) {
    let class = usize::from(status / 100).saturating_sub(1);
    with_row(|row| {
        if let Some(count) = row.classes.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if status == UNAUTHORIZED {
            row.refused.fetch_add(1, Ordering::Relaxed);
        } else if let Some(started) = started {
            let now = Instant::now();
            row.latencies.add(span_number(now), now.duration_since(started));
        }
    });
}

/// What all threads have counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub open: u64,
    pub connections: u64,
    pub denied: u64,
    pub refused: u64,
    /// 1xx to 5xx
    pub classes: [u64; 5],
    /// of the last minute
    pub latencies: Histogram,
}

pub fn totals() -> Totals {
    let mut totals = Totals::default();
    let now = BEGAN.elapsed();
    let mut closed = 0;
    for row in &TABLE {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        closed += read(&row.closed);
        totals.connections += read(&row.opened);
        totals.denied += read(&row.denied);
        totals.refused += read(&row.refused);
        for (total, count) in totals.classes.iter_mut().zip(&row.classes) {
            *total += read(count);
        }
        row.latencies.read_into(&mut totals.latencies, now);
    }
    // One that closed in the meantime may have been seen to close but not to open.
    totals.open = totals.connections.saturating_sub(closed);
    totals
}

/// From now on, that is from the start.
pub fn begin() {
    LazyLock::force(&BEGAN);
}

/// How long this process has been counting.
pub fn uptime() -> Duration {
    BEGAN.elapsed()
}

fn span_number(now: Instant) -> u64 {
    SPAN_NOW.with(|span| {
        let (number, end) = span.get();
        if now < end {
            return number;
        }
        let number = latencies::span_at(now.duration_since(*BEGAN));
        span.set((number, *BEGAN + Duration::from_secs(number * latencies::SPAN)));
        number
    })
}

fn add(count: impl FnOnce(&Row) -> &AtomicU64) {
    with_row(|row| {
        count(row).fetch_add(1, Ordering::Relaxed);
    });
}

/// A thread that is about to end may count no more.
fn with_row(work: impl FnOnce(&Row)) {
    let _ = ROW.try_with(|row| row.map(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_summed() {
        let before = totals();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    let _open = Connection::new();
                    denied();
                    answered(200, Some(Instant::now()));
                    answered(404, None);
                    answered(401, None);
                    answered(999, None);
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

//! Durations since the start, in the buckets of a Prometheus histogram.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of all buckets but the last, which has none: microseconds, and the seconds as text.
pub(super) const ENDS: [(u64, &str); 12] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
];
const BUCKETS: usize = ENDS.len() + 1;

/// The durations of one thread.
pub(super) struct HistogramShard {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl HistogramShard {
    pub(super) const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], micros: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = ENDS.iter().position(|(end, _)| micros <= *end).unwrap_or(ENDS.len());
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn read_into(&self, times: &mut HistogramTotals) {
        for (sum, count) in times.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        times.micros += self.micros.load(Ordering::Relaxed);
    }
}

/// The durations of all threads.
#[derive(Clone, Debug, Default)]
pub struct HistogramTotals {
    /// of each bucket, not cumulative
    pub(super) counts: [u64; BUCKETS],
    pub(super) micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_its_smallest_bucket() {
        let buckets = HistogramShard::new();
        for micros in [0, 1_000, 1_001, 30_000_000, 30_000_001] {
            buckets.add(Duration::from_micros(micros));
        }
        let mut times = HistogramTotals::default();
        buckets.read_into(&mut times);
        assert_eq!(times.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.micros, 60_002_002);
    }
}

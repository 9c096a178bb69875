//! Latencies of the last minute: a histogram since the start, less the one of a minute ago.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two calls of `advance`.
pub const ADVANCE_INTERVAL: Duration = Duration::from_secs(10);
/// A minute, and the interval that is being filled.
const INTERVALS: usize = 7;
/// Each doubling of the time has eight buckets, so a value is exact to an eighth.
const BUCKETS_PER_DOUBLING: u32 = 8;
/// Exponents of microseconds: one bucket below the first, and one beyond the last.
const FIRST_EXPONENT: u32 = 5;
const LAST_EXPONENT: u32 = 26;
const BINS: usize = 176;

/// The latencies of all threads.
pub struct LatencyWindow {
    /// since the start
    bins: [AtomicU64; BINS],
    /// `bins` at the ends of the last intervals, the oldest first
    ends: Mutex<VecDeque<[u64; BINS]>>,
}

impl Default for LatencyWindow {
    fn default() -> Self {
        Self { bins: [const { AtomicU64::new(0) }; BINS], ends: Mutex::default() }
    }
}

impl LatencyWindow {
    pub(super) fn add(&self, latency: Duration) {
        if let Some(bin) = self.bins.get(bin_of(latency)) {
            bin.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends an interval, and returns its latencies. The main thread calls it every `ADVANCE_INTERVAL`.
    pub fn advance(&self) -> LatencyHistogram {
        let (counts, mut ends) = (self.counts(), self.ends());
        let mut interval = counts;
        if let Some(last) = ends.back() {
            interval.iter_mut().zip(last).for_each(|(count, before)| *count -= before);
        }
        ends.push_back(counts);
        if ends.len() > INTERVALS {
            ends.pop_front();
        }
        LatencyHistogram(interval)
    }

    /// The latencies of the last minute.
    pub fn read(&self) -> LatencyHistogram {
        let mut counts = self.counts();
        if let Some(oldest) = self.ends().front() {
            counts.iter_mut().zip(oldest).for_each(|(count, before)| *count -= before);
        }
        LatencyHistogram(counts)
    }

    fn counts(&self) -> [u64; BINS] {
        self.bins.each_ref().map(|bin| bin.load(Ordering::Relaxed))
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<[u64; BINS]>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of responses in each bucket.
#[derive(Clone, Debug)]
pub struct LatencyHistogram([u64; BINS]);

impl LatencyHistogram {
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time within which `percent` of the responses were sent; `None` if there were none.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bin = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bin.map(upper_end)
    }
}

fn bin_of(latency: Duration) -> usize {
    let micros =
        latency.as_secs().saturating_mul(1_000_000).saturating_add(latency.subsec_micros().into()).max(1);
    let power = micros.ilog2();
    if power < FIRST_EXPONENT {
        return 0;
    }
    if power > LAST_EXPONENT {
        return BINS - 1;
    }
    let cut = u32::try_from((micros >> (power - 3)) & 7).unwrap_or_default();
    usize::try_from((power - FIRST_EXPONENT) * BUCKETS_PER_DOUBLING + cut).unwrap_or_default().min(BINS - 1)
}

fn upper_end(bin: usize) -> Duration {
    let bin = u32::try_from(bin).unwrap_or_default();
    let (power, cut) = (bin / BUCKETS_PER_DOUBLING + FIRST_EXPONENT, bin % BUCKETS_PER_DOUBLING);
    Duration::from_micros(u64::from(BUCKETS_PER_DOUBLING + cut + 1) << (power - 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_time_is_known_to_an_eighth() {
        for time in [33, 100, 999, 1000, 12_345, 999_999, 3_000_000, 60_000_000] {
            let end = upper_end(bin_of(micros(time)));
            assert!(end > micros(time) && end <= micros(time + time / 8 + 1), "{time}: {end:?}");
        }
        assert_eq!(bin_of(micros(0)), 0);
        assert_eq!(bin_of(Duration::MAX), BINS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_last_minute() {
        let latencies = LatencyWindow::default();
        assert_eq!(latencies.read().percentile(50), None);
        latencies.advance(); // at once, then every ten seconds
        for _ in 0..98 {
            latencies.add(micros(1000));
        }
        assert_eq!(latencies.advance().count(), 98);
        latencies.add(micros(1_000_000));
        latencies.add(micros(1_000_000));
        let histogram = latencies.read();
        assert_eq!(histogram.count(), 100);
        assert!(histogram.percentile(50).is_some_and(|half| half < micros(1126)));
        assert!(histogram.percentile(98).is_some_and(|most| most < micros(1126)));
        assert!(histogram.percentile(99).is_some_and(|most| most > micros(1_000_000)));
        assert_eq!(latencies.advance().count(), 2, "those of the interval only");
        for _ in 0..4 {
            latencies.advance();
        }
        assert_eq!(latencies.read().count(), 100, "the first ten seconds are less than a minute ago");
        latencies.advance();
        assert_eq!(latencies.read().count(), 2, "the first ten seconds are over");
        latencies.advance();
        assert_eq!(latencies.read().count(), 0);
        latencies.add(micros(10));
        assert_eq!(latencies.read().count(), 1);
    }
}

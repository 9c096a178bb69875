//! Latencies of the last minute: histograms of ten seconds each, of which the oldest is reused.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Seconds of one histogram.
const SPAN_SECONDS: u64 = 10;
/// A minute, and the one that is being filled.
const SPANS: usize = 7;
/// Each doubling of the time has eight buckets, so a value is exact to an eighth.
const CUTS: u32 = 8;
/// Exponents of microseconds: one bucket below the first, and one beyond the last.
const FIRST: u32 = 5;
const LAST: u32 = 26;
const BINS: usize = 176;

/// The responses of one thread.
pub(super) struct LatencyShard([LatencySpan; SPANS]);

struct LatencySpan {
    /// the number of its ten seconds since the start, from one; 0 before the first use
    number: AtomicU64,
    bins: [AtomicU32; BINS],
}

impl LatencyShard {
    pub(super) const fn new() -> Self {
        Self(
            [const { LatencySpan { number: AtomicU64::new(0), bins: [const { AtomicU32::new(0) }; BINS] } };
                SPANS],
        )
    }

    /// Counts a response with `latency` in the ten seconds of this number.
    pub(super) fn add(&self, number: u64, latency: Duration) {
        let Some(span) = self.0.get(usize::try_from(number).unwrap_or_default() % SPANS) else { return };
        if span.number.load(Ordering::Relaxed) != number {
            span.number.store(number, Ordering::Relaxed);
            span.bins.iter().for_each(|bin| bin.store(0, Ordering::Relaxed));
        }
        if let Some(bin) = span.bins.get(bin_of(latency)) {
            bin.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds the histograms of the last minute.
    pub(super) fn read_into(&self, histogram: &mut LatencyHistogram, now: Duration) {
        let newest = span_at(now);
        for span in &self.0 {
            let number = span.number.load(Ordering::Relaxed);
            if number == 0 || number + 6 < newest {
                continue;
            }
            for (sum, bin) in histogram.0.iter_mut().zip(&span.bins) {
                *sum += u64::from(bin.load(Ordering::Relaxed));
            }
        }
    }
}

/// The number of the ten seconds at `now` since the start.
pub(super) fn span_at(now: Duration) -> u64 {
    now.as_secs() / SPAN_SECONDS + 1
}

/// The responses of all threads.
#[derive(Clone, Debug)]
pub struct LatencyHistogram([u64; BINS]);

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self([0; BINS])
    }
}

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
    if power < FIRST {
        return 0;
    }
    if power > LAST {
        return BINS - 1;
    }
    let cut = u32::try_from((micros >> (power - 3)) & 7).unwrap_or_default();
    usize::try_from((power - FIRST) * CUTS + cut).unwrap_or_default().min(BINS - 1)
}

fn upper_end(bin: usize) -> Duration {
    let bin = u32::try_from(bin).unwrap_or_default();
    let (power, cut) = (bin / CUTS + FIRST, bin % CUTS);
    Duration::from_micros(u64::from(CUTS + cut + 1) << (power - 3))
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
        let latencies = LatencyShard::new();
        let read = |now| {
            let mut histogram = LatencyHistogram::default();
            latencies.read_into(&mut histogram, Duration::from_secs(now));
            histogram
        };
        assert_eq!(read(0).percentile(50), None);
        for _ in 0..98 {
            latencies.add(span_at(Duration::from_secs(5)), micros(1000));
        }
        latencies.add(span_at(Duration::from_secs(15)), micros(1_000_000));
        latencies.add(span_at(Duration::from_secs(15)), micros(1_000_000));
        let histogram = read(16);
        assert_eq!(histogram.count(), 100);
        assert!(histogram.percentile(50).is_some_and(|half| half < micros(1126)));
        assert!(histogram.percentile(98).is_some_and(|most| most < micros(1126)));
        assert!(histogram.percentile(99).is_some_and(|most| most > micros(1_000_000)));
        assert_eq!(read(70).count(), 2, "the first ten seconds are over");
        assert_eq!(read(200).count(), 0);
        latencies.add(span_at(Duration::from_secs(205)), micros(10));
        assert_eq!(read(206).count(), 1);
    }
}

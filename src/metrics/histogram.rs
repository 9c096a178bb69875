//! Durations since the start, in the buckets of a Prometheus histogram.
//!
//! The library's histogram takes a lock for each value. This one needs two relaxed additions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of all buckets but the last, which has none, in microseconds.
const BOUNDS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
];

/// A handle to one histogram.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<HistogramBuckets>);

#[derive(Debug, Default)]
struct HistogramBuckets {
    /// of each bucket, not cumulative
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.0.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = BOUNDS.map(seconds).into_iter().chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.0.micros.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_bucket_counts_all_times_below_its_bound() {
        let (histogram, mut registry, mut text) = (Histogram::default(), Registry::default(), String::new());
        registry.register("x", "X", histogram.clone());
        for micros in [0, 1_000, 1_001, 30_000_000, 30_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        prometheus_text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(&text);
        assert_eq!(value("x_bucket{le=\"0.001\"} "), "2");
        assert_eq!(value("x_bucket{le=\"0.0025\"} "), "3");
        assert_eq!(value("x_bucket{le=\"10\"} "), "3");
        assert_eq!(value("x_bucket{le=\"30\"} "), "4");
        assert_eq!(value("x_bucket{le=\"+Inf\"} "), "5");
        assert_eq!((value("x_sum "), value("x_count ")), ("60.002002", "5"));
    }
}

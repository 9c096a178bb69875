//! Values of the last quarter of an hour. The main thread takes a sample of the counters every ten seconds, so the
//! history costs a request nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enum_map::EnumMap;
use serde::{Deserialize, Serialize};

use super::counters::Metrics;
use super::labels::{LimitLabel, StatusClass};
use super::latency_window::{ADVANCE_INTERVAL, LatencyHistogram};
use super::report::seconds_since_1970;
use super::units;

/// A quarter of an hour, and the sample before it.
const MAX_SAMPLES: usize = 91;

/// The samples of a process, the oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<HistorySample>>);

/// The counters at one instant.
#[derive(Clone, Copy, Debug)]
pub struct HistorySample {
    at: Instant,
    /// seconds since 1970
    clock: u64,
    connections: u64,
    /// responses since the start
    requests: u64,
    /// those with a status 5xx
    errors: u64,
    waiting: u64,
    limits: EnumMap<LimitLabel, u64>,
    /// latencies since the sample before
    p50: Option<Duration>,
    p99: Option<Duration>,
}

/// The history by column. Each column has a value for each interval, the oldest first.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HistoryReport {
    /// seconds between two values
    pub interval: u64,
    /// time of the last value, in seconds since 1970
    pub until: u64,
    /// open connections
    pub connections: Vec<u64>,
    pub requests_per_second: Vec<f64>,
    /// responses with a status 5xx
    pub errors_per_second: Vec<f64>,
    /// `None` for an interval without responses
    pub p50_ms: Vec<Option<f64>>,
    pub p99_ms: Vec<Option<f64>>,
    /// requests that wait for a worker of a daemon
    pub waiting: Vec<u64>,
}

/// How often clients exceeded a limit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LimitReport {
    /// the label of the metric
    pub limit: String,
    /// since the start
    pub total: u64,
    /// within the history
    pub recent: u64,
}

impl HistorySample {
    pub(super) fn new(metrics: &Metrics, latencies: &LatencyHistogram) -> Self {
        let (mut requests, mut errors) = (0, 0);
        for (labels, count) in metrics.responses.series() {
            requests += count.get();
            errors += if labels.status == StatusClass::ServerError { count.get() } else { 0 };
        }
        let waiting = metrics.queues.waiting.series().map(|(_, gauge)| gauge.get()).sum::<i64>();
        Self {
            at: Instant::now(),
            clock: seconds_since_1970(),
            connections: u64::try_from(metrics.connections_open.get()).unwrap_or_default(),
            requests,
            errors,
            waiting: u64::try_from(waiting).unwrap_or_default(),
            limits: limit_counts(metrics),
            p50: latencies.percentile(50),
            p99: latencies.percentile(99),
        }
    }

    fn rate(&self, before: &Self, count: impl Fn(&Self) -> u64) -> f64 {
        let passed = self.at.saturating_duration_since(before.at).as_secs_f64();
        let counted = units::float(count(self).saturating_sub(count(before)));
        if passed > 0.0 { rounded(counted / passed) } else { 0.0 }
    }
}

impl History {
    pub(super) fn push(&self, sample: HistorySample) {
        let mut samples = self.samples();
        samples.push_back(sample);
        if samples.len() > MAX_SAMPLES {
            samples.pop_front();
        }
    }

    pub fn report(&self) -> HistoryReport {
        let samples = self.samples();
        let mut report = HistoryReport {
            interval: ADVANCE_INTERVAL.as_secs(),
            until: samples.back().map_or_else(seconds_since_1970, |last| last.clock),
            ..HistoryReport::default()
        };
        for (before, sample) in samples.iter().zip(samples.iter().skip(1)) {
            report.connections.push(sample.connections);
            report.requests_per_second.push(sample.rate(before, |it| it.requests));
            report.errors_per_second.push(sample.rate(before, |it| it.errors));
            report.p50_ms.push(sample.p50.map(milliseconds));
            report.p99_ms.push(sample.p99.map(milliseconds));
            report.waiting.push(sample.waiting);
        }
        report
    }

    /// The limits that clients exceeded since the start. Those of the history come first.
    pub(super) fn limits(&self, metrics: &Metrics) -> Vec<LimitReport> {
        let before = self.samples().front().map(|oldest| oldest.limits).unwrap_or_default();
        let exceeded = limit_counts(metrics).into_iter().filter(|(_, total)| *total > 0);
        let mut reports: Vec<_> = exceeded
            .map(|(limit, total)| LimitReport {
                limit: limit.name().to_owned(),
                total,
                recent: total.saturating_sub(before[limit]),
            })
            .collect();
        reports.sort_by_key(|report| std::cmp::Reverse((report.recent, report.total)));
        reports
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<HistorySample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_counts(metrics: &Metrics) -> EnumMap<LimitLabel, u64> {
    let mut counts = EnumMap::default();
    metrics.limit_rejections.series().for_each(|(limit, count)| counts[limit] = count.get());
    counts
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1000.0)
}

/// Three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::FinishedResponse;
    use crate::metrics::labels::RequestDestination;

    fn respond(metrics: &Metrics, status: u16) {
        let (destination, started) = (RequestDestination::Daemon, Some(Instant::now()));
        metrics.count_response(FinishedResponse { destination, status, bytes: 1, started });
    }

    #[test]
    fn each_value_is_that_of_its_interval() {
        let metrics = Metrics::default();
        metrics.advance();
        assert_eq!(metrics.history.report().connections, Vec::<u64>::new(), "one sample is no interval");
        respond(&metrics, 200);
        respond(&metrics, 503);
        metrics.connections_open.set(3);
        metrics.advance();
        metrics.connections_open.set(1);
        metrics.advance();
        let report = metrics.history.report();
        assert_eq!((report.interval, report.connections), (10, vec![3, 1]));
        let [rates, errors] = [report.requests_per_second, report.errors_per_second];
        assert!(rates[0] > errors[0] && errors[0] > 0.0, "{rates:?} {errors:?}");
        assert_eq!((rates[1], errors[1], report.waiting), (0.0, 0.0, vec![0, 0]));
        assert!(report.p50_ms[0].is_some() && report.p99_ms[0].is_some());
        assert_eq!((report.p50_ms[1], report.p99_ms[1]), (None, None), "an interval without responses");
    }

    #[test]
    fn rates_are_those_of_a_second() {
        let metrics = Metrics::default();
        let before = HistorySample::new(&metrics, &metrics.latencies.read());
        let after =
            HistorySample { at: before.at + Duration::from_secs(10), requests: 25, errors: 1, ..before };
        assert_eq!((after.rate(&before, |it| it.requests), after.rate(&before, |it| it.errors)), (2.5, 0.1));
        assert_eq!(before.rate(&before, |it| it.requests).to_string(), "0", "no time has passed");
    }

    #[test]
    fn a_history_keeps_fifteen_minutes() {
        let metrics = Metrics::default();
        for _ in 0..3 * MAX_SAMPLES {
            metrics.advance();
        }
        let report = metrics.history.report();
        assert_eq!(report.connections.len(), MAX_SAMPLES - 1);
        assert_eq!(report.interval * 90, 15 * 60);
        assert_eq!(metrics.history.samples().len(), MAX_SAMPLES);
    }

    #[test]
    fn recent_limits_come_first() {
        let metrics = Metrics::default();
        (0..5).for_each(|_| metrics.count_limit(LimitLabel::Body));
        for _ in 0..MAX_SAMPLES {
            metrics.advance();
        }
        metrics.count_limit(LimitLabel::Calls);
        let limits = metrics.history.limits(&metrics);
        let found: Vec<_> = limits.iter().map(|it| (it.limit.as_str(), it.total, it.recent)).collect();
        assert_eq!(found, [("calls", 1, 1), ("body", 5, 0)]);
    }
}

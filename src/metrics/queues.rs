//! The queues in front of the daemons of this machine: what is counted of them, and what `nodegate status` shows.

use std::fmt;
use std::time::Duration;

use enum_map::Enum;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

use super::family::LabeledFamily;
use super::histogram::Histogram;
use super::labels::LocalBackend;

/// The metrics of all queues.
#[derive(Clone, Debug, Default)]
pub struct QueueMetrics {
    /// requests at once; 0 sets no limit
    pub workers: LabeledFamily<LocalBackend, Gauge>,
    /// requests that a daemon works on
    pub busy: LabeledFamily<LocalBackend, Gauge>,
    /// requests that wait for a worker
    pub waiting: LabeledFamily<LocalBackend, Gauge>,
    /// of the requests that got a worker
    pub wait_times: LabeledFamily<LocalBackend, Histogram>,
    pub rejections: LabeledFamily<QueueRejectionLabels, Counter>,
}

/// The metrics of one daemon's queue.
#[derive(Clone, Debug)]
pub struct BackendQueueMetrics {
    metrics: QueueMetrics,
    backend: LocalBackend,
}

/// A request that is counted in a gauge until this is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl BackendQueueMetrics {
    /// Sets the limit of requests at once.
    pub fn new(metrics: &QueueMetrics, backend: LocalBackend, workers: usize) -> Self {
        metrics.workers[backend].set(i64::try_from(workers).unwrap_or(i64::MAX));
        Self { metrics: metrics.clone(), backend }
    }

    /// Counts a request that waits for a worker.
    pub fn begin_wait(&self) -> GaugeGuard {
        GaugeGuard::new(&self.metrics.waiting[self.backend])
    }

    /// Counts a request that has got a worker.
    pub fn begin_work(&self, waited: Duration) -> GaugeGuard {
        self.metrics.wait_times[self.backend].observe(waited);
        GaugeGuard::new(&self.metrics.busy[self.backend])
    }

    /// Counts a request that gets no worker.
    pub fn count_rejection(&self, limit: QueueLimitLabel) {
        self.metrics.rejections[QueueRejectionLabels { backend: self.backend, limit }].inc();
    }
}

impl QueueMetrics {
    /// Requests that got no worker of a daemon, since the start.
    pub fn rejected(&self, backend: LocalBackend) -> u64 {
        let of_backend = self.rejections.series().filter(|(labels, _)| labels.backend == backend);
        of_backend.map(|(_, count)| count.get()).sum()
    }
}

/// The workers of a daemon, the requests that wait for one, and the calls that keep them busy. It names templates of
/// calls, and no user, path or parameter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct QueueReport {
    /// requests at once; 0 sets no limit
    pub workers: usize,
    /// requests that the daemon works on
    pub busy: usize,
    /// requests that wait for a worker
    pub waiting: usize,
    pub oldest_wait_ms: Option<u64>,
    /// requests that got no worker, since the start
    pub rejected: u64,
    /// the calls that have been running for longer than `backend.slow_call`, the oldest first
    pub slow: Vec<RunningCall>,
    /// the templates that took most of the workers' time within the last minutes, the costliest first
    pub costliest: Vec<TemplateCost>,
}

/// A call that a daemon works on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RunningCall {
    /// `GET /nodes/{node}/status`
    pub template: String,
    pub age_ms: u64,
}

/// The calls of one template.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TemplateCost {
    pub template: String,
    pub calls: u64,
    /// seconds of the workers' time
    pub seconds: f64,
}

/// Why a request got no worker of a daemon.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
pub enum QueueLimitLabel {
    Queue,
    Client,
    Timeout,
}

impl EncodeLabelSet for QueueLimitLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let limit = match self {
            Self::Queue => "queue",
            Self::Client => "queue_per_client",
            Self::Timeout => "timeout",
        };
        [("limit", limit)].encode(encoder)
    }
}

/// The labels of a request that got no worker of a daemon.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Enum, Eq, PartialEq)]
pub struct QueueRejectionLabels {
    #[prometheus(flatten)]
    pub backend: LocalBackend,
    #[prometheus(flatten)]
    pub limit: QueueLimitLabel,
}

//! The health of this machine's daemons and of the other nodes: counts, the last response and the last failure of
//! each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

use super::family::LabeledFamily;
use super::histogram::Histogram;
use super::labels::FailurePhase;
use super::queues::QueueReport;
use super::report::seconds_since_1970;

/// Further nodes share one record. Their names come from the cluster's own list.
const MAX_NODES: usize = 256;
/// Limit of bytes of a failure's text.
const MAX_CAUSE_BYTES: usize = 300;

/// The records of all upstreams.
pub struct UpstreamRecords {
    pub totals: UpstreamTotals,
    pub daemon: Arc<UpstreamHealth>,
    /// the daemon for requests that need no root
    pub worker: Arc<UpstreamHealth>,
    other_nodes: Arc<UpstreamHealth>,
    nodes: Mutex<BTreeMap<String, Arc<UpstreamHealth>>>,
}

/// The metrics of all upstreams together.
#[derive(Clone, Default)]
pub struct UpstreamTotals {
    /// from the start of a call to the head of its response
    pub header_times: Histogram,
    pub errors: LabeledFamily<FailurePhase, Counter>,
}

/// The record of one upstream. All workers write to it.
#[repr(align(128))]
pub struct UpstreamHealth {
    name: Cow<'static, str>,
    totals: UpstreamTotals,
    answered: AtomicU64,
    /// seconds since 1970; 0 for never
    last_answer: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<Option<UpstreamFailure>>,
}

/// A request without a response.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UpstreamFailure {
    /// seconds since 1970
    pub at: u64,
    pub cause: String,
    /// the request's number in the log
    pub request: Option<String>,
}

/// The current values of a record.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HealthReport {
    pub answered: u64,
    /// seconds since 1970
    pub last_answer: Option<u64>,
    pub failed: u64,
    pub last_failure: Option<UpstreamFailure>,
}

/// One upstream as `nodegate status` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UpstreamReport {
    /// `daemon`, `worker`, or `node NAME`
    pub name: String,
    pub address: Option<String>,
    /// why no connection is possible now; `None` if one is
    pub unreachable: Option<String>,
    #[serde(flatten)]
    pub health: HealthReport,
    /// of a daemon of this machine; an older process reports none
    #[serde(default)]
    pub queue: Option<QueueReport>,
    /// of another node, if its certificate was checked
    #[serde(default)]
    pub pin: Option<PinState>,
    /// time of the test connection; that to another node includes the TLS handshake
    #[serde(default)]
    pub answer_ms: Option<f64>,
}

/// The certificate of another node, compared with the one that it has to show.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PinState {
    Verified,
    Mismatch,
    /// no certificate of the node is known
    Unknown,
}

impl Default for UpstreamRecords {
    fn default() -> Self {
        let totals = UpstreamTotals::default();
        let record = |name: &'static str| Arc::new(UpstreamHealth::new(name, &totals));
        let (daemon, worker, other_nodes) =
            (record("the daemon"), record("the worker"), record("another node"));
        Self { totals, daemon, worker, other_nodes, nodes: Mutex::default() }
    }
}

impl UpstreamRecords {
    /// The record of a node. Its name must come from the list of nodes, because a record lives as long as the process.
    pub fn node(&self, name: &str) -> Arc<UpstreamHealth> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = nodes.get(name) {
            return Arc::clone(known);
        }
        if nodes.len() >= MAX_NODES {
            return Arc::clone(&self.other_nodes);
        }
        let health = Arc::new(UpstreamHealth::new(format!("node '{name}'"), &self.totals));
        nodes.insert(name.to_owned(), Arc::clone(&health));
        health
    }
}

impl UpstreamHealth {
    fn new(name: impl Into<Cow<'static, str>>, totals: &UpstreamTotals) -> Self {
        Self {
            name: name.into(),
            totals: totals.clone(),
            answered: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts the time to the head of a response.
    pub fn observe_header(&self, time: Duration) {
        self.totals.header_times.observe(time);
    }

    /// Counts a failed attempt; another one may follow.
    pub fn count_error(&self, phase: FailurePhase) {
        self.totals.errors[phase].inc();
    }

    /// Counts the head of a response.
    pub fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let now = seconds_since_1970();
        // Most responses come in the same second as the one before, so the cache line stays shared.
        if self.last_answer.load(Ordering::Relaxed) != now {
            self.last_answer.store(now, Ordering::Relaxed);
        }
    }

    /// Counts a failed request that is not tried again.
    pub fn count_failure(&self, cause: &str, request: Option<String>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let cause = cause.chars().take(MAX_CAUSE_BYTES).collect();
        *self.lock() = Some(UpstreamFailure { at: seconds_since_1970(), cause, request });
    }

    pub fn report(&self) -> HealthReport {
        HealthReport {
            answered: self.answered.load(Ordering::Relaxed),
            last_answer: Some(self.last_answer.load(Ordering::Relaxed)).filter(|at| *at > 0),
            failed: self.failed.load(Ordering::Relaxed),
            last_failure: self.lock().clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<UpstreamFailure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_counts_and_the_last_failure() {
        let health = UpstreamHealth::new("the daemon", &UpstreamTotals::default());
        assert_eq!((health.report().last_answer, health.report().last_failure), (None, None));
        health.count_answer();
        health.count_failure("Connection refused", Some("00000-1".to_owned()));
        health.count_failure(&"x".repeat(1000), Some("00000-2".to_owned()));
        let report = health.report();
        assert_eq!((report.answered, report.failed), (1, 2));
        assert!(report.last_answer.is_some());
        let last = report.last_failure.map(|last| (last.cause.len(), last.request));
        assert_eq!(last, Some((MAX_CAUSE_BYTES, Some("00000-2".to_owned()))));
    }

    #[test]
    fn nodes_beyond_the_limit_share_a_record() {
        let records = UpstreamRecords::default();
        let first = records.node("n0");
        for number in 0..2 * MAX_NODES {
            records.node(&format!("n{number}")).count_answer();
        }
        assert!(Arc::ptr_eq(&first, &records.node("n0")));
        assert_eq!(first.report().answered, 1);
        assert!(records.nodes.lock().is_ok_and(|nodes| nodes.len() == MAX_NODES));
    }
}

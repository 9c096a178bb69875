//! The health of this machine's daemons and of the other nodes: counts, the last response and the last failure of
//! each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::report::seconds_since_1970;

/// Further nodes share one record. Their names come from the cluster's own list.
const MAX_NODES: usize = 256;
/// Limit of bytes of a failure's text.
const MAX_CAUSE_BYTES: usize = 300;

static DAEMON: UpstreamHealth = UpstreamHealth::new("the daemon");
static WORKER: UpstreamHealth = UpstreamHealth::new("the worker");
static OTHER_NODES: UpstreamHealth = UpstreamHealth::new("another node");
static NODES: Mutex<BTreeMap<String, &'static UpstreamHealth>> = Mutex::new(BTreeMap::new());

/// The record of one upstream. All workers write to it.
#[repr(align(128))]
pub struct UpstreamHealth {
    name: &'static str,
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
}

pub fn daemon() -> &'static UpstreamHealth {
    &DAEMON
}

/// The daemon for requests that need no root.
pub fn worker() -> &'static UpstreamHealth {
    &WORKER
}

/// The record of a node. Its name must come from the list of nodes, because a record lives as long as the process.
pub fn node(name: &str) -> &'static UpstreamHealth {
    let mut nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = nodes.get(name) {
        return known;
    }
    if nodes.len() >= MAX_NODES {
        return &OTHER_NODES;
    }
    let health: &'static UpstreamHealth =
        Box::leak(Box::new(UpstreamHealth::new(format!("node '{name}'").leak())));
    nodes.insert(name.to_owned(), health);
    health
}

impl UpstreamHealth {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            answered: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
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
        let health = UpstreamHealth::new("the daemon");
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
        let first = node("n0");
        for number in 0..2 * MAX_NODES {
            node(&format!("n{number}")).count_answer();
        }
        assert!(std::ptr::eq(first, node("n0")));
        assert_eq!(first.report().answered, 1);
        assert!(NODES.lock().is_ok_and(|nodes| nodes.len() == MAX_NODES));
    }
}

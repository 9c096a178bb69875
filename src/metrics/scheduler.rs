//! What the scheduler of a daemon reports: its workers, its queue, and the calls that keep them busy.

use serde::{Deserialize, Serialize};

/// The state of one daemon's scheduler. It names templates of calls, and no user, path or parameter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SchedulerReport {
    /// requests at once; 0 sets no limit
    pub workers: usize,
    /// requests that the daemon works on
    pub busy: usize,
    /// requests that wait for a worker
    pub waiting: usize,
    pub oldest_wait_ms: u64,
    /// requests that got no worker, since the start
    pub refused: u64,
    /// the calls that have been running for longer than `backend.slow_call`, the oldest first
    pub slow: Vec<RunningCall>,
    /// the templates that kept workers busy for the longest time within the last minutes
    pub costliest: Vec<TemplateCost>,
}

/// A call that a daemon works on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RunningCall {
    pub template: String,
    pub age_ms: u64,
}

/// The calls of one template.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TemplateCost {
    pub template: String,
    pub calls: u64,
    /// of worker time
    pub seconds: f64,
}

//! The queue in front of a daemon of this machine, as `nodegate status` shows it.

use serde::{Deserialize, Serialize};

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

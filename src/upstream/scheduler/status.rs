//! The calls that a backend is busy with: for administrators, and for clients that are rejected. Templates only, no parameters.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::call::QueueLimit;
use super::choice::Scheduler;
use super::cost::CostlyTemplate;

/// Templates that are listed by their cost.
const LISTED_TEMPLATES: usize = 10;
/// Templates that a message names, which becomes a reason phrase.
const NAMED_TEMPLATES: usize = 3;

/// The state of a backend's calls.
#[derive(Clone, Debug)]
pub struct SchedulerStatus {
    /// 0 for no limit
    pub workers: usize,
    /// workers that have a call; all calls if there is no limit
    pub busy: usize,
    pub waiting: usize,
    pub oldest_wait: Option<Duration>,
    /// the longest first
    pub slow_calls: Vec<SlowCall>,
    /// of the last minutes, the costliest first
    pub costliest: Vec<CostlyTemplate>,
}

/// A slow call that is running.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlowCall {
    pub template: Arc<str>,
    pub age: Duration,
}

/// The calls that keep another one from its worker.
#[derive(Clone, Debug)]
pub struct Saturation {
    pub backend: Arc<str>,
    pub workers: usize,
    pub waiting: usize,
    /// what the workers do
    pub busy_with: Vec<BusyTemplate>,
}

/// Calls of one template that are running.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusyTemplate {
    pub template: Arc<str>,
    pub calls: usize,
    pub longest: Duration,
}

/// Why a call was not sent.
#[derive(Clone, Debug, Error)]
pub enum QueueError {
    #[error("too many calls wait already; {0}")]
    Full(Saturation),
    #[error("too many calls of this client wait already; {0}")]
    ClientFull(Saturation),
    #[error("no worker within {} s; {saturation}", waited.as_secs())]
    Timeout { waited: Duration, saturation: Saturation },
}

impl QueueError {
    pub(super) fn full(limit: QueueLimit, saturation: Saturation) -> Self {
        match limit {
            QueueLimit::Queue => Self::Full(saturation),
            QueueLimit::Client => Self::ClientFull(saturation),
        }
    }

    pub fn saturation(&self) -> &Saturation {
        match self {
            Self::Full(saturation) | Self::ClientFull(saturation) | Self::Timeout { saturation, .. } => {
                saturation
            }
        }
    }
}

impl SchedulerStatus {
    pub(super) fn new(scheduler: &Scheduler, now: Instant) -> Self {
        let mut slow_calls: Vec<_> = scheduler
            .running()
            .iter()
            .map(|running| {
                let age = now.saturating_duration_since(running.since);
                SlowCall { template: Arc::clone(&running.call.template.name), age }
            })
            .filter(|call| call.age > scheduler.limits().slow_call)
            .collect();
        slow_calls.sort_by_key(|call| Reverse(call.age));
        let (workers, running) = (scheduler.limits().workers, scheduler.running().len());
        Self {
            workers,
            busy: if workers == 0 { running } else { running.min(workers) },
            waiting: scheduler.waiting(),
            oldest_wait: scheduler.oldest_arrival().map(|arrived| now.saturating_duration_since(arrived)),
            slow_calls,
            costliest: scheduler.costs().costliest(LISTED_TEMPLATES, now),
        }
    }
}

impl Saturation {
    pub(super) fn new(backend: &Arc<str>, scheduler: &Scheduler, now: Instant) -> Self {
        let mut busy_with: Vec<BusyTemplate> = Vec::new();
        for running in scheduler.running() {
            let template = &running.call.template.name;
            let age = now.saturating_duration_since(running.since);
            match busy_with.iter_mut().find(|busy| busy.template == *template) {
                Some(busy) => {
                    busy.calls += 1;
                    busy.longest = busy.longest.max(age);
                }
                None => {
                    busy_with.push(BusyTemplate { template: Arc::clone(template), calls: 1, longest: age });
                }
            }
        }
        busy_with.sort_by_key(|busy| Reverse(busy.longest));
        Self {
            backend: Arc::clone(backend),
            workers: scheduler.limits().workers,
            waiting: scheduler.waiting(),
            busy_with,
        }
    }
}

/// The backend and what its workers do, in one line of ASCII.
impl fmt::Display for Saturation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (workers: {}) works on", self.backend, self.workers)?;
        for (number, busy) in self.busy_with.iter().take(NAMED_TEMPLATES).enumerate() {
            let separator = if number == 0 { "" } else { "," };
            let calls = if busy.calls == 1 { "call" } else { "calls" };
            let (count, longest) = (busy.calls, busy.longest.as_secs_f64());
            write!(f, "{separator} {count} {calls} of {} ({longest:.1} s)", busy.template)?;
        }
        match self.busy_with.len().saturating_sub(NAMED_TEMPLATES) {
            0 if self.busy_with.is_empty() => f.write_str(" calls of another process"),
            0 => Ok(()),
            more => write!(f, " and {more} other templates"),
        }
    }
}

//! The worker that a call has, as an owned permit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{CallOutcome, ScheduledCall, Ticket};
use super::runtime::BackendScheduler;

/// A worker that a call has. Dropping it gives the worker back.
#[derive(Debug)]
pub struct WorkerSlot {
    scheduler: Arc<BackendScheduler>,
    held: HeldWorker,
    waited: Duration,
    outcome: CallOutcome,
}

/// The worker of a call.
#[derive(Debug)]
pub(super) enum HeldWorker {
    /// one of the backend's workers
    Counted(Ticket),
    /// the backend has no limit
    Unlimited(Box<UnlimitedCall>),
}

/// A call to a backend without limit.
#[derive(Debug)]
pub(super) struct UnlimitedCall {
    pub(super) call: ScheduledCall,
    pub(super) since: Instant,
}

impl WorkerSlot {
    pub(super) fn new(scheduler: &Arc<BackendScheduler>, ticket: Ticket, waited: Duration) -> Self {
        let scheduler = Arc::clone(scheduler);
        Self { scheduler, held: HeldWorker::Counted(ticket), waited, outcome: CallOutcome::Abandoned }
    }

    pub(super) fn unlimited(scheduler: &Arc<BackendScheduler>, call: ScheduledCall, now: Instant) -> Self {
        let (scheduler, held) =
            (Arc::clone(scheduler), HeldWorker::Unlimited(Box::new(UnlimitedCall { call, since: now })));
        Self { scheduler, held, waited: Duration::ZERO, outcome: CallOutcome::Abandoned }
    }

    /// How long the call has waited for this worker.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The head of the answer has come: the worker is free, and the time that it took is learned.
    pub fn answered(mut self) {
        self.outcome = CallOutcome::Answered;
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.scheduler.release(&self.held, self.outcome);
    }
}

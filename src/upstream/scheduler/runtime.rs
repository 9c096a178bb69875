//! One scheduler for all threads: calls wait for their turn, and a worker's slot is an owned permit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::call::{CallOutcome, ScheduledCall, SchedulerLimits, Ticket};
use super::choice::{Scheduler, StartedCall};
use super::status::{QueueError, Saturation, SchedulerStatus};

/// The calls of one local backend, for all threads and over reloads.
pub struct BackendScheduler {
    backend: Arc<str>,
    state: Mutex<SchedulerState>,
}

struct SchedulerState {
    scheduler: Scheduler,
    /// where waiting calls learn that their turn has come
    waiting: HashMap<Ticket, oneshot::Sender<WorkerSlot>>,
}

/// A worker that a call has. Dropping it gives the worker back.
#[derive(Debug)]
pub struct WorkerSlot {
    scheduler: Arc<BackendScheduler>,
    held: Held,
    waited: Duration,
    outcome: CallOutcome,
}

#[derive(Debug)]
enum Held {
    Worker(Ticket),
    /// the backend has no limit
    Unlimited(Box<(ScheduledCall, Instant)>),
}

/// Takes a call back when the client leaves.
struct QueuePlace<'a> {
    scheduler: &'a Arc<BackendScheduler>,
    ticket: Ticket,
}

impl std::fmt::Debug for BackendScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendScheduler").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl BackendScheduler {
    /// `backend` is its address, for messages.
    pub fn new(backend: &str, limits: SchedulerLimits) -> Arc<Self> {
        let scheduler = Scheduler::new(limits, Instant::now());
        let state = Mutex::new(SchedulerState { scheduler, waiting: HashMap::new() });
        Arc::new(Self { backend: backend.into(), state })
    }

    /// Takes effect at once; calls that run or wait are kept.
    pub fn set_limits(self: &Arc<Self>, limits: SchedulerLimits) {
        self.state().scheduler.set_limits(limits);
        self.start_waiting();
    }

    pub fn limits(&self) -> SchedulerLimits {
        *self.state().scheduler.limits()
    }

    /// Waits for a worker. Dropping the future takes the call back.
    ///
    /// # Errors
    /// Too many calls wait, or this one has waited for too long.
    pub async fn acquire(self: &Arc<Self>, call: ScheduledCall) -> Result<WorkerSlot, QueueError> {
        let (place, turn, queue_timeout) = {
            let now = Instant::now();
            let mut state = self.state();
            let limits = *state.scheduler.limits();
            if limits.workers == 0 {
                return Ok(WorkerSlot::unlimited(self, call, now));
            }
            if let Some(ticket) = state.scheduler.start_now(&call, now) {
                return Ok(WorkerSlot::new(self, ticket, Duration::ZERO));
            }
            let ticket = match state.scheduler.enqueue(call, now) {
                Ok(ticket) => ticket,
                Err(limit) => return Err(QueueError::full(limit, self.saturation_in(&state, now))),
            };
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(ticket, sender);
            (QueuePlace { scheduler: self, ticket }, turn, limits.queue_timeout)
        };
        self.start_waiting();
        if let Ok(Ok(slot)) = tokio::time::timeout(queue_timeout, turn).await {
            return Ok(slot);
        }
        let saturation = self.saturation_in(&self.state(), Instant::now());
        drop(place);
        Err(QueueError::Timeout { waited: queue_timeout, saturation })
    }

    /// What an administrator sees.
    pub fn status(&self) -> SchedulerStatus {
        SchedulerStatus::new(&self.backend, &self.state().scheduler, Instant::now())
    }

    /// The backend's address.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// What keeps calls from their workers now.
    pub fn saturation(&self) -> Saturation {
        self.saturation_in(&self.state(), Instant::now())
    }

    fn saturation_in(&self, state: &SchedulerState, now: Instant) -> Saturation {
        Saturation::new(&self.backend, &state.scheduler, now)
    }

    /// Gives free workers to the calls whose turn it is.
    fn start_waiting(self: &Arc<Self>) {
        while let Some((started, sender)) = self.start_next() {
            let slot = WorkerSlot::new(self, started.ticket, started.waited);
            // If the client has left, the slot is dropped here, which gives the worker back.
            drop(sender.map(|sender| sender.send(slot)));
        }
    }

    fn start_next(&self) -> Option<(StartedCall, Option<oneshot::Sender<WorkerSlot>>)> {
        let mut state = self.state();
        let started = state.scheduler.start_next(Instant::now())?;
        Some((started, state.waiting.remove(&started.ticket)))
    }

    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerSlot {
    fn new(scheduler: &Arc<BackendScheduler>, ticket: Ticket, waited: Duration) -> Self {
        let scheduler = Arc::clone(scheduler);
        Self { scheduler, held: Held::Worker(ticket), waited, outcome: CallOutcome::Abandoned }
    }

    fn unlimited(scheduler: &Arc<BackendScheduler>, call: ScheduledCall, now: Instant) -> Self {
        let (scheduler, held) = (Arc::clone(scheduler), Held::Unlimited(Box::new((call, now))));
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
        let now = Instant::now();
        let has_waiting = {
            let mut state = self.scheduler.state();
            match &self.held {
                Held::Worker(ticket) => state.scheduler.finish(*ticket, self.outcome, now),
                Held::Unlimited(call) if self.outcome == CallOutcome::Answered => {
                    let (call, since) = &**call;
                    state.scheduler.learn(call, now.saturating_duration_since(*since), now);
                }
                Held::Unlimited(_) => (),
            }
            state.scheduler.waiting() > 0
        };
        if has_waiting {
            self.scheduler.start_waiting();
        }
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let has_left = {
            let mut state = self.scheduler.state();
            state.waiting.remove(&self.ticket).is_some() && state.scheduler.cancel(self.ticket)
        };
        // The call may have kept others of its connection from overtaking it.
        if has_left {
            self.scheduler.start_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::upstream::scheduler::call::{CallTemplate, ClientGroup};

    const LIMITS: SchedulerLimits = SchedulerLimits {
        workers: 2,
        queue: 1024,
        queue_per_client: 256,
        slow_call: Duration::from_millis(500),
        queue_timeout: Duration::from_secs(30),
    };

    fn call(client: u32) -> ScheduledCall {
        let template = CallTemplate::new("GET /version".into());
        ScheduledCall::new(ClientGroup::new(client), template, (), 0, false)
    }

    #[tokio::test]
    async fn dropped_slots_and_waits_free_their_workers() {
        let scheduler = BackendScheduler::new("127.0.0.1:85", LIMITS);
        let first = scheduler.acquire(call(1)).await.unwrap();
        let second = scheduler.acquire(call(2)).await.unwrap();
        assert_eq!(scheduler.status().busy, 2);
        let waiting = tokio::time::timeout(Duration::from_millis(5), scheduler.acquire(call(3))).await;
        assert!(waiting.is_err());
        assert_eq!(scheduler.status().waiting, 0);
        let third = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.acquire(call(3)).await.unwrap().waited() }
        });
        tokio::task::yield_now().await;
        assert_eq!(scheduler.status().waiting, 1);
        first.answered();
        third.await.unwrap();
        drop(second);
        assert_eq!((scheduler.status().busy, scheduler.status().waiting), (0, 0));
        assert_eq!(scheduler.status().costliest.first().unwrap().calls, 1);
    }
}

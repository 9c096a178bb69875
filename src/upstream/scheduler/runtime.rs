//! One scheduler for all threads: calls wait for their turn, and a worker's slot is an owned permit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::HashMap;
use tokio::sync::oneshot;

use super::call::{CallOutcome, ScheduledCall, SchedulerLimits, Ticket};
use super::choice::{Scheduler, StartedCall};
use super::shared_slots::{ProcessRole, SharedSlots, SlotFile};
use super::status::{QueueError, Saturation, SchedulerStatus};
use super::worker_slot::{HeldWorker, WorkerSlot};

/// The calls of one local backend, for all threads and over reloads.
pub struct BackendScheduler {
    backend: Arc<str>,
    state: Mutex<SchedulerState>,
}

struct SchedulerState {
    scheduler: Scheduler,
    /// where waiting calls learn that their turn has come
    waiting: HashMap<Ticket, oneshot::Sender<WorkerSlot>>,
    /// while another process has calls at the backend
    shared: Option<SharedSlots>,
    /// when one of the waiting calls last looked for a worker
    polled: Instant,
}

/// How often calls that wait look for a worker that another process has freed: one of them looks for all. The more
/// calls wait, the less often each one wakes up.
const POLL_INTERVAL: Duration = Duration::from_millis(3);
const CALLS_PER_POLL: usize = 16;
/// Longer waits would be beyond what clocks can add.
const MAX_QUEUE_TIMEOUT: Duration = Duration::from_hours(24 * 365);
/// How soon calls that wait already begin to poll.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(250);

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
        let now = Instant::now();
        let scheduler = Scheduler::new(limits, now);
        let state = SchedulerState { scheduler, waiting: HashMap::default(), shared: None, polled: now };
        let state = Mutex::new(state);
        Arc::new(Self { backend: backend.into(), state })
    }

    /// Takes effect at once; calls that run or wait are kept.
    pub fn set_limits(self: &Arc<Self>, limits: SchedulerLimits) {
        self.state().scheduler.set_limits(limits);
        self.start_waiting();
    }

    /// The limits in effect.
    pub fn limits(&self) -> SchedulerLimits {
        *self.state().scheduler.limits()
    }

    /// A worker, if one is free and no call waits for it.
    pub fn try_acquire(self: &Arc<Self>, call: &ScheduledCall) -> Option<WorkerSlot> {
        let now = Instant::now();
        let mut state = self.state();
        if state.scheduler.limits().workers == 0 {
            return Some(WorkerSlot::unlimited(self, call.clone(), now));
        }
        if state.shared.is_some() {
            return None;
        }
        let ticket = state.scheduler.start_now(call, now)?;
        Some(WorkerSlot::new(self, ticket, Duration::ZERO))
    }

    /// Waits for a worker. Dropping the future takes the call back.
    ///
    /// # Errors
    /// Too many calls wait, or this one has waited for too long.
    pub async fn acquire(self: &Arc<Self>, call: ScheduledCall) -> Result<WorkerSlot, QueueError> {
        if let Some(slot) = self.try_acquire(&call) {
            return Ok(slot);
        }
        let (place, ticket, turn, queue_timeout) = {
            let now = Instant::now();
            let mut state = self.state();
            let limits = *state.scheduler.limits();
            let ticket = match state.scheduler.enqueue(call, now) {
                Ok(ticket) => ticket,
                Err(limit) => return Err(QueueError::full(limit, self.saturation_in(&state, now))),
            };
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(ticket, sender);
            (QueuePlace { scheduler: self, ticket }, ticket, turn, limits.queue_timeout)
        };
        self.start_waiting();
        if let Some(slot) = self.wait_for_turn(turn, queue_timeout).await {
            // The request is written in this poll of its task, so the next one of its connection may follow.
            if self.state().scheduler.note_sent(ticket) {
                self.start_waiting();
            }
            return Ok(slot);
        }
        let saturation = self.saturation_in(&self.state(), Instant::now());
        drop(place);
        Err(QueueError::Timeout { waited: queue_timeout, saturation })
    }

    /// Shares the workers with another process from now on, until that one has ended.
    pub fn share(self: &Arc<Self>, file: &Arc<SlotFile>, role: ProcessRole) {
        {
            let mut state = self.state();
            let SchedulerState { scheduler, shared, .. } = &mut *state;
            let running = scheduler.running().iter().map(|running| running.ticket);
            match shared {
                Some(shared) if shared.is_in(file) => shared.set_role(role),
                Some(_) | None => {
                    let workers = scheduler.limits().workers;
                    *shared = Some(SharedSlots::new(file, &self.backend, role, running, workers));
                }
            }
        }
        self.start_waiting();
    }

    /// The process that was to take over has failed. Another one may still drain.
    pub fn keep_serving(self: &Arc<Self>) {
        {
            let mut state = self.state();
            state.shared = state.shared.take().filter(SharedSlots::has_other);
            if let Some(shared) = &mut state.shared {
                shared.set_role(ProcessRole::New);
            }
        }
        self.start_waiting();
    }

    #[cfg(test)]
    fn is_sharing(&self) -> bool {
        self.state().shared.is_some()
    }

    /// The state of the queue for an administrator.
    pub fn status(&self) -> SchedulerStatus {
        SchedulerStatus::new(&self.state().scheduler, Instant::now())
    }

    /// The backend's address.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The calls that keep others from their workers now.
    pub fn saturation(&self) -> Saturation {
        self.saturation_in(&self.state(), Instant::now())
    }

    async fn wait_for_turn(
        self: &Arc<Self>,
        mut turn: oneshot::Receiver<WorkerSlot>,
        limit: Duration,
    ) -> Option<WorkerSlot> {
        let deadline = tokio::time::Instant::now() + limit.min(MAX_QUEUE_TIMEOUT);
        loop {
            let next_poll = tokio::time::Instant::now() + self.state().poll_interval();
            match tokio::time::timeout_at(next_poll.min(deadline), &mut turn).await {
                Ok(slot) => return slot.ok(),
                Err(_) if next_poll >= deadline => return None,
                Err(_) => self.poll(),
            }
        }
    }

    /// Looks for a worker that another process has freed, unless another waiting call has just done so.
    fn poll(self: &Arc<Self>) {
        let is_due = {
            let (mut state, now) = (self.state(), Instant::now());
            let interval = if state.shared.is_some() { POLL_INTERVAL } else { IDLE_POLL_INTERVAL };
            let is_due = now.saturating_duration_since(state.polled) >= interval;
            if is_due {
                state.polled = now;
            }
            is_due
        };
        if is_due {
            self.start_waiting();
        }
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
        let started = state.start_next(Instant::now())?;
        Some((started, state.waiting.remove(&started.ticket)))
    }

    /// Takes the worker of a call back, and gives it to the next one.
    pub(super) fn release(self: &Arc<Self>, held: &HeldWorker, outcome: CallOutcome) {
        let now = Instant::now();
        let has_waiting = {
            let mut state = self.state();
            match held {
                HeldWorker::Counted(ticket) => state.finish(*ticket, outcome, now),
                HeldWorker::Unlimited(running) if outcome == CallOutcome::Answered => {
                    let time = now.saturating_duration_since(running.since);
                    state.scheduler.learn(&running.call, time, now);
                }
                HeldWorker::Unlimited(_) => (),
            }
            state.scheduler.waiting() > 0
        };
        if has_waiting {
            self.start_waiting();
        }
    }

    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchedulerState {
    fn start_next(&mut self, now: Instant) -> Option<StartedCall> {
        if self.shared.as_mut().is_some_and(|shared| shared.has_ended(now)) {
            self.shared = None;
        }
        let workers = self.scheduler.limits().workers;
        let Some(shared) = self.shared.as_mut().filter(|_| workers > 0) else {
            return self.scheduler.start_next(now);
        };
        let waits = self.scheduler.waiting() > 0;
        shared.note_waiting(waits);
        if !waits || self.scheduler.running().len() >= workers {
            return None;
        }
        let slot = shared.take(workers)?;
        let may_be_slow = slot > 0 || workers == 1;
        let started = self.scheduler.start_next_on(may_be_slow, now);
        match started {
            Some(started) => shared.hold(started.ticket, slot),
            None => shared.give_back(slot),
        }
        started
    }

    fn finish(&mut self, ticket: Ticket, outcome: CallOutcome, now: Instant) {
        self.scheduler.finish(ticket, outcome, now);
        if let Some(shared) = &mut self.shared {
            shared.release(ticket);
        }
    }

    fn poll_interval(&self) -> Duration {
        let waiting = self.scheduler.waiting() / CALLS_PER_POLL;
        let factor = u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(1);
        if self.shared.is_some() { POLL_INTERVAL * factor } else { IDLE_POLL_INTERVAL }
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
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::task::JoinSet;

    use super::*;
    use crate::upstream::scheduler::call::{CallTemplate, ClientGroup};

    const LIMITS: SchedulerLimits = SchedulerLimits {
        workers: 2,
        queue: 1024,
        queue_per_client: 256,
        slow_call: Duration::from_millis(500),
        queue_timeout: Duration::from_secs(30),
    };

    fn call(client: usize) -> ScheduledCall {
        let template = CallTemplate::new("GET /version".into());
        ScheduledCall::new(ClientGroup::new(client), template, (), 0, false)
    }

    /// A backend that counts the calls it has at once.
    #[derive(Default)]
    struct Daemon {
        busy: AtomicUsize,
        most: AtomicUsize,
        calls: AtomicUsize,
    }

    impl Daemon {
        async fn work(&self, slot: WorkerSlot, cost: Duration) {
            let busy = self.busy.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(busy, SeqCst);
            self.calls.fetch_add(1, SeqCst);
            tokio::time::sleep(cost).await;
            self.busy.fetch_sub(1, SeqCst);
            slot.answered();
        }
    }

    /// Runs clients on several threads, each with a runtime as workers have it. Returns what they returned.
    fn on_threads<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        threads: usize,
        clients: usize,
        client: impl Fn(usize) -> F + Sync,
    ) -> Vec<T> {
        let of_thread = |thread: usize| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut running = JoinSet::new();
                for number in (thread..clients).step_by(threads) {
                    running.spawn(client(number));
                }
                running.join_all().await
            })
        };
        std::thread::scope(|scope| {
            let of_thread = &of_thread;
            let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
            all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
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

    #[tokio::test]
    async fn errors_say_what_the_workers_do() {
        let queue_timeout = Duration::from_millis(20);
        let limits = SchedulerLimits { queue: 2, queue_per_client: 1, queue_timeout, ..LIMITS };
        let scheduler = BackendScheduler::new("127.0.0.1:85", limits);
        let _held = (scheduler.acquire(call(1)).await.unwrap(), scheduler.acquire(call(1)).await.unwrap());
        let acquire = |client| {
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.acquire(call(client)).await.unwrap_err() }
        };
        let waiting = [tokio::spawn(acquire(2)), tokio::spawn(acquire(3))];
        tokio::task::yield_now().await;
        assert!(matches!(acquire(4).await, QueueError::Full(_)));
        scheduler.set_limits(SchedulerLimits { queue: 9, ..limits });
        let error = acquire(2).await;
        assert!(matches!(error, QueueError::ClientFull(_)));
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:85 (workers: 2) works on 2 calls of GET /version (0.0 s)"),
            "{text}"
        );
        for task in waiting {
            let error = task.await.unwrap();
            assert!(matches!(error, QueueError::Timeout { .. }), "{error}");
        }
        assert_eq!(scheduler.status().waiting, 0);
    }

    #[tokio::test]
    async fn a_backend_without_limit_is_only_watched() {
        let scheduler = BackendScheduler::new("x", SchedulerLimits { workers: 0, ..LIMITS });
        let mut held = Vec::new();
        for client in 0..100 {
            held.push(scheduler.acquire(call(client)).await.unwrap());
        }
        held.into_iter().for_each(WorkerSlot::answered);
        let status = scheduler.status();
        assert_eq!((status.busy, status.costliest.first().unwrap().calls), (0, 100));
    }

    /// Clients of several threads come, leave while they wait, leave while they are served, and are served.
    #[test]
    fn clients_that_leave_lose_no_worker() {
        let scheduler = BackendScheduler::new("x", SchedulerLimits { workers: 3, ..LIMITS });
        let daemon = Arc::new(Daemon::default());
        on_threads(4, 1000, |client| {
            let (scheduler, daemon) = (Arc::clone(&scheduler), Arc::clone(&daemon));
            let stays = Duration::from_micros(300 * u64::try_from(client % 40).unwrap());
            let stays = if client % 4 == 0 { Duration::from_mins(1) } else { stays };
            async move {
                let served = async {
                    let slot = scheduler.acquire(call(client % 50)).await.unwrap();
                    if client % 3 == 0 {
                        tokio::task::yield_now().await;
                    } else {
                        daemon.work(slot, Duration::from_micros(200)).await;
                    }
                };
                drop(tokio::time::timeout(stays, served).await);
            }
        });
        assert!(daemon.calls.load(SeqCst) >= 166, "those that stay and are not dropped");
        let status = scheduler.status();
        assert_eq!((status.busy, status.waiting), (0, 0));
        let slots = on_threads(1, 3, |client| {
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.acquire(call(client)).await.unwrap() }
        });
        assert_eq!((slots.len(), scheduler.status().busy), (3, 3));
    }

    /// Very quick calls may wait in the daemon, as long as they are a few milliseconds of work.
    #[test]
    fn a_thousand_clients_are_all_served() {
        for (cost, clients, most) in
            [(Duration::from_millis(11), 300, 3..=3), (Duration::from_micros(100), 1000, 4..=300)]
        {
            let scheduler = BackendScheduler::new("x", SchedulerLimits { workers: 3, ..LIMITS });
            let daemon = Arc::new(Daemon::default());
            on_threads(2, clients, |client| {
                let (scheduler, daemon) = (Arc::clone(&scheduler), Arc::clone(&daemon));
                async move {
                    let slot = scheduler.acquire(call(client)).await.unwrap();
                    daemon.work(slot, cost).await;
                }
            });
            assert_eq!(daemon.calls.load(SeqCst), clients);
            assert!(most.contains(&daemon.most.load(SeqCst)), "{:?} at once, not {most:?}", daemon.most);
        }
    }

    /// An old process has 500 calls waiting when a new one begins: together they stay within the workers, both make
    /// progress, and at the end the new one has all workers.
    #[test]
    fn two_processes_share_the_workers() {
        let limits = SchedulerLimits { workers: 3, ..LIMITS };
        let (old, new) = (BackendScheduler::new("x", limits), BackendScheduler::new("x", limits));
        let (daemon, file) = (Arc::new(Daemon::default()), SlotFile::create().unwrap());
        let ended = on_threads(2, 521, |client| {
            let (old, new, daemon) = (Arc::clone(&old), Arc::clone(&new), Arc::clone(&daemon));
            let file = Arc::clone(&file);
            async move {
                let is_new = client >= 500;
                if is_new {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if client == 520 {
                    old.share(&file, ProcessRole::Old);
                    let handed = file.for_successor().unwrap();
                    new.share(&SlotFile::from_predecessor(handed), ProcessRole::New);
                    return (0, false);
                }
                if is_new {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let process = if is_new { new } else { old };
                let slot = process.acquire(call(client % 4)).await.unwrap();
                daemon.work(slot, Duration::from_millis(11)).await;
                (daemon.calls.load(SeqCst), is_new)
            }
        });
        assert_eq!((daemon.calls.load(SeqCst), daemon.most.load(SeqCst)), (520, 3));
        let last_of_new = ended.iter().filter(|(_, is_new)| *is_new).map(|(place, _)| *place).max().unwrap();
        assert!(last_of_new < 400, "the new process waited for the old one: {last_of_new}");
        drop(old);
        std::thread::sleep(Duration::from_millis(260));
        let slots = on_threads(1, 3, |client| {
            let new = Arc::clone(&new);
            async move { new.acquire(call(client)).await.unwrap() }
        });
        assert_eq!(slots.len(), 3);
        assert!(!new.is_sharing());
    }
}

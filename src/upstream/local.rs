//! The daemons of this machine: their addresses, and the workers that requests to them need.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::settings::BackendAddress;
use crate::metrics::queues::{BackendQueueMetrics, GaugeGuard, QueueLimitLabel};
use crate::os::log_limit::LogTopic;
use crate::os::{log_limit, request_context};
use crate::upstream::scheduler::{
    BackendScheduler, CallTemplate, ClientGroup, QueueError, ScheduledCall, WorkerSlot,
};

/// A backend whose calls wait for so long is saturated, and the log says so.
const SATURATED_WAIT: Duration = Duration::from_secs(1);

/// A daemon of this machine.
pub struct LocalDaemon {
    pub(super) address: BackendAddress,
    /// `None` sends every request at once
    queue: Option<DaemonQueue>,
}

/// The requests that wait for a worker of a daemon.
pub struct DaemonQueue {
    pub scheduler: Arc<BackendScheduler>,
    pub metrics: BackendQueueMetrics,
}

/// The worker that a request needs, and has while its daemon works on it.
#[derive(Debug, Default)]
pub(super) struct WorkerReservation {
    /// in a box, because futures of requests hold several places for it
    pub(super) call: Option<Box<ScheduledCall>>,
    worker: Option<BusyWorker>,
}

/// A worker that works on a request. Dropping it gives the worker back.
#[derive(Debug)]
struct BusyWorker {
    /// dropped first: the next request is counted as soon as the worker is free
    counted: GaugeGuard,
    slot: WorkerSlot,
}

impl LocalDaemon {
    pub fn new(address: BackendAddress, queue: Option<DaemonQueue>) -> Self {
        Self { address, queue }
    }
}

impl fmt::Display for LocalDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl WorkerReservation {
    /// Waits for a worker, unless the request has one.
    pub(super) async fn acquire(&mut self, daemon: &LocalDaemon) -> Result<(), QueueError> {
        if let (None, Some(queue)) = (&self.worker, &daemon.queue) {
            let call = self.call.get_or_insert_with(|| Box::new(own_call()));
            self.worker = Some(match queue.scheduler.try_acquire(call) {
                Some(slot) => queue.begin_work(slot),
                // A box, because few requests need the memory for a wait.
                None => Box::pin(queue.wait(ScheduledCall::clone(call))).await?,
            });
        }
        Ok(())
    }

    /// Gives the worker back: it never got the request.
    pub(super) fn release(&mut self) {
        self.worker = None;
    }

    /// Gives the worker back: the head of its answer is here.
    pub(super) fn finish(&mut self) {
        if let Some(BusyWorker { counted, slot }) = self.worker.take() {
            drop(counted);
            slot.answered();
        }
    }
}

impl DaemonQueue {
    fn begin_work(&self, slot: WorkerSlot) -> BusyWorker {
        request_context::pass_queue();
        BusyWorker { counted: self.metrics.begin_work(slot.waited()), slot }
    }

    async fn wait(&self, call: ScheduledCall) -> Result<BusyWorker, QueueError> {
        let waits = (request_context::begin_queue(), self.metrics.begin_wait());
        let mut acquiring = pin!(self.scheduler.acquire(call));
        let acquired = if let Ok(acquired) = timeout(SATURATED_WAIT, &mut acquiring).await {
            acquired
        } else {
            // The calls that hold the workers are still running.
            self.log_saturation(None);
            acquiring.await
        };
        drop(waits);
        let slot = acquired.inspect_err(|error| {
            self.metrics.count_rejection(limit_label(error));
            self.log_saturation(Some(error));
        })?;
        Ok(self.begin_work(slot))
    }

    fn log_saturation(&self, error: Option<&QueueError>) {
        let backend = self.scheduler.backend();
        let Some(left_out) = log_limit::is_due(LogTopic::Saturation, backend) else { return };
        let saturation =
            error.map_or_else(|| self.scheduler.saturation(), |error| error.saturation().clone());
        let waiting = saturation.waiting;
        let rejected = error.map(|error| format!("; a request was rejected: {error}")).unwrap_or_default();
        tracing::warn!(
            "the daemon at {backend} is saturated: {waiting} requests wait; {saturation}{rejected}{left_out}"
        );
    }
}

fn limit_label(error: &QueueError) -> QueueLimitLabel {
    match error {
        QueueError::Full(_) => QueueLimitLabel::Queue,
        QueueError::ClientFull(_) => QueueLimitLabel::Client,
        QueueError::Timeout { .. } => QueueLimitLabel::Timeout,
    }
}

/// A call of nodegate itself.
fn own_call() -> ScheduledCall {
    let name = "nodegate itself";
    ScheduledCall::new(ClientGroup::new(name), CallTemplate::new(name.into()), (), 0, false)
}

//! The worker threads, as the main thread sees them.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::WorkerSockets;
use super::worker::{self, LEFT_BEHIND, WorkerCommand};
use crate::os::listener::ListeningSocket;
use crate::proxy::handlers::App;
use crate::proxy::worker_context::WorkerTokens;

/// Limit of queued commands for a worker; only a hanging one reaches it.
const ORDERS: usize = 64;
/// A worker without an answer for so long hangs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

pub(super) struct WorkerPool {
    at_work: Vec<WorkerHandle>,
    /// the sockets that working workers accept from
    listeners: Arc<[ListeningSocket]>,
    /// workers that accept no more connections, and end by themselves
    retired: Vec<WorkerHandle>,
    stop: CancellationToken,
    started: usize,
    /// every thread holds a clone of the sender; the receiver sees the end of the last thread
    living: (Option<Sender<Infallible>>, Receiver<Infallible>),
}

struct WorkerHandle {
    name: String,
    orders: Sender<WorkerCommand>,
    ends: WorkerTokens,
    thread: JoinHandle<()>,
}

impl WorkerPool {
    pub(super) fn new() -> Self {
        let (living, last) = channel(1);
        Self {
            at_work: Vec::new(),
            listeners: Arc::from([]),
            retired: Vec::new(),
            stop: CancellationToken::new(),
            started: 0,
            living: (Some(living), last),
        }
    }

    /// Starts the workers of the configuration with these sockets. If a thread cannot be started, that is an error
    /// only if no worker runs.
    pub(super) fn serve(&mut self, app: &App, listeners: &Arc<[ListeningSocket]>) -> io::Result<()> {
        for hand in &self.at_work {
            hand.tell(WorkerCommand::Serve(app.clone()));
        }
        self.tell_retired(app);
        let wanted = app.state.config.settings.workers;
        let before = self.at_work.len();
        while self.at_work.len() < wanted {
            match self.start(app) {
                Ok(hand) => self.at_work.push(hand),
                Err(error) if self.at_work.is_empty() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "only {} of {wanted} workers can be started", self.at_work.len());
                    break;
                }
            }
        }
        let surplus = self.at_work.split_off(wanted.min(self.at_work.len()));
        if self.at_work.len() != before || !Arc::ptr_eq(&self.listeners, listeners) {
            self.listeners = Arc::clone(listeners);
            self.listen();
        }
        self.retire(surplus, app.state.config.settings.timeout.drain);
        Ok(())
    }

    fn listen(&self) {
        let peers: Vec<TaskTracker> = self.at_work.iter().map(|hand| hand.ends.tasks.clone()).collect();
        let sockets = WorkerSockets { listeners: Arc::clone(&self.listeners), peers: peers.into() };
        for hand in &self.at_work {
            hand.tell(WorkerCommand::Listen(sockets.clone()));
        }
    }

    fn retire(&mut self, hands: Vec<WorkerHandle>, limit: Duration) {
        for hand in hands {
            hand.tell(WorkerCommand::Retire(limit));
            self.retired.push(hand);
        }
        self.forget_ended();
    }

    /// Gives the configuration to the draining workers, too.
    pub(super) fn tell_retired(&mut self, app: &App) {
        self.forget_ended();
        for hand in &self.retired {
            // A worker that ends just now receives no commands.
            let _ = hand.orders.try_send(WorkerCommand::Serve(app.clone()));
        }
    }

    fn forget_ended(&mut self) {
        self.retired.retain(|hand| !hand.thread.is_finished());
    }

    /// Another process accepts from now on: each worker ends with its last connection, or is cut off after `limit`.
    pub(super) fn retire_all(&mut self, limit: Duration) {
        let hands = std::mem::take(&mut self.at_work);
        self.retire(hands, limit);
        self.listeners = Arc::from([]);
        self.living.0 = None;
    }

    /// Waits until the last worker has ended, after `retire_all`.
    pub(super) async fn ended(&mut self) {
        let _ = self.living.1.recv().await;
    }

    fn start(&mut self, app: &App) -> io::Result<WorkerHandle> {
        let (orders, received) = channel(ORDERS);
        let ends = WorkerTokens { stop: self.stop.child_token(), tasks: TaskTracker::new() };
        let name = format!("worker-{}", self.started);
        let runtime = runtime()?;
        let (app, own_ends, living) = (app.clone(), ends.clone(), self.living.0.clone());
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            LocalSet::new().block_on(&runtime, worker::run(app, own_ends, received));
            runtime.shutdown_timeout(LEFT_BEHIND);
            drop(living);
        })?;
        self.started = self.started.wrapping_add(1);
        Ok(WorkerHandle { name, orders, ends, thread })
    }

    /// Sends a ping to every worker.
    pub(super) fn ask(&self) -> PendingReplies {
        let asked = self.at_work.iter().map(|hand| {
            let (answer, answered) = oneshot::channel();
            hand.tell(WorkerCommand::Ping(answer));
            (hand.name.clone(), answered)
        });
        PendingReplies(asked.collect())
    }

    /// Waits until every worker has ended; each limits its own drain.
    pub(super) fn stop(self) {
        self.stop.cancel();
        for hand in self.at_work.into_iter().chain(self.retired) {
            let _ = hand.thread.join();
        }
    }
}

impl WorkerHandle {
    fn tell(&self, order: WorkerCommand) {
        if self.orders.try_send(order).is_err() {
            tracing::error!(worker = self.name, "a worker takes no orders");
        }
    }
}

/// Replies of the workers, which come after all earlier commands are done.
pub(super) struct PendingReplies(Vec<(String, oneshot::Receiver<()>)>);

impl PendingReplies {
    /// The names of the workers that did not reply in time.
    pub(super) async fn silent(self) -> Vec<String> {
        let until = Instant::now() + SIGN_OF_LIFE;
        let mut silent = Vec::new();
        for (name, answered) in self.0 {
            if !matches!(timeout_at(until, answered).await, Ok(Ok(()))) {
                silent.push(name);
            }
        }
        silent
    }
}

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

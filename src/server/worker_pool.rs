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
use super::worker::{self, FILE_TIMEOUT, WorkerCommand};
use crate::os::listener::ListeningSocket;
use crate::proxy::handlers::App;
use crate::proxy::worker_context::WorkerTokens;

/// Limit of queued commands for a worker; only a hanging one reaches it.
const MAX_QUEUED_COMMANDS: usize = 64;
/// A worker that does not answer within this time hangs.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct WorkerPool {
    active: Vec<WorkerHandle>,
    /// the sockets that working workers accept from
    listeners: Arc<[ListeningSocket]>,
    /// workers that accept no more connections, and end by themselves
    draining: Vec<WorkerHandle>,
    stop: CancellationToken,
    started: usize,
    /// every thread holds a clone
    living: Option<Sender<Infallible>>,
    /// sees the end of the last thread
    last_thread: Receiver<Infallible>,
}

struct WorkerHandle {
    name: String,
    commands: Sender<WorkerCommand>,
    ends: WorkerTokens,
    thread: JoinHandle<()>,
}

impl WorkerPool {
    pub(super) fn new() -> Self {
        let (living, last_thread) = channel(1);
        Self {
            active: Vec::new(),
            listeners: Arc::from([]),
            draining: Vec::new(),
            stop: CancellationToken::new(),
            started: 0,
            living: Some(living),
            last_thread,
        }
    }

    /// Starts the workers of the configuration with these sockets. If a thread cannot be started, that is an error
    /// only if no worker runs.
    pub(super) fn serve(&mut self, app: &App, listeners: &Arc<[ListeningSocket]>) -> io::Result<()> {
        for worker in &self.active {
            worker.send(WorkerCommand::Serve(app.clone()));
        }
        self.update_draining(app);
        let wanted = app.state.config.settings.workers;
        let before = self.active.len();
        while self.active.len() < wanted {
            match self.start(app) {
                Ok(worker) => self.active.push(worker),
                Err(error) if self.active.is_empty() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "only {} of {wanted} workers can be started", self.active.len());
                    break;
                }
            }
        }
        let surplus = self.active.split_off(wanted.min(self.active.len()));
        if self.active.len() != before || !Arc::ptr_eq(&self.listeners, listeners) {
            self.listeners = Arc::clone(listeners);
            self.listen();
        }
        self.drain(surplus, app.state.config.settings.timeout.drain);
        Ok(())
    }

    fn listen(&self) {
        let peers: Vec<TaskTracker> = self.active.iter().map(|worker| worker.ends.tasks.clone()).collect();
        let sockets = WorkerSockets { listeners: Arc::clone(&self.listeners), peers: peers.into() };
        for worker in &self.active {
            worker.send(WorkerCommand::Listen(sockets.clone()));
        }
    }

    fn drain(&mut self, workers: Vec<WorkerHandle>, limit: Duration) {
        for worker in workers {
            worker.send(WorkerCommand::Drain(limit));
            self.draining.push(worker);
        }
        self.forget_ended();
    }

    /// Gives the configuration to the draining workers, too.
    pub(super) fn update_draining(&mut self, app: &App) {
        self.forget_ended();
        for worker in &self.draining {
            // A worker that ends just now receives no commands.
            let _ = worker.commands.try_send(WorkerCommand::Serve(app.clone()));
        }
    }

    fn forget_ended(&mut self) {
        self.draining.retain(|worker| !worker.thread.is_finished());
    }

    /// Another process accepts from now on: each worker ends with its last connection, or after `limit`.
    pub(super) fn drain_all(&mut self, limit: Duration) {
        let workers = std::mem::take(&mut self.active);
        self.drain(workers, limit);
        self.listeners = Arc::from([]);
        self.living = None;
    }

    /// Waits until the last worker has ended, after `drain_all`.
    pub(super) async fn ended(&mut self) {
        let _ = self.last_thread.recv().await;
    }

    fn start(&mut self, app: &App) -> io::Result<WorkerHandle> {
        let (commands, received) = channel(MAX_QUEUED_COMMANDS);
        let ends = WorkerTokens { stop: self.stop.child_token(), tasks: TaskTracker::new() };
        let name = format!("worker-{}", self.started);
        let runtime = runtime()?;
        let (app, own_ends, living) = (app.clone(), ends.clone(), self.living.clone());
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            LocalSet::new().block_on(&runtime, worker::run(app, own_ends, received));
            runtime.shutdown_timeout(FILE_TIMEOUT);
            drop(living);
        })?;
        self.started = self.started.wrapping_add(1);
        Ok(WorkerHandle { name, commands, ends, thread })
    }

    /// Sends a ping to every worker.
    pub(super) fn ping_all(&self) -> PendingReplies {
        let replies = self.active.iter().map(|worker| {
            let (answer, answered) = oneshot::channel();
            worker.send(WorkerCommand::Ping(answer));
            (worker.name.clone(), answered)
        });
        PendingReplies(replies.collect())
    }

    /// Waits until every worker has ended; each limits its own drain.
    pub(super) fn stop(self) {
        self.stop.cancel();
        for worker in self.active.into_iter().chain(self.draining) {
            let _ = worker.thread.join();
        }
    }
}

impl WorkerHandle {
    fn send(&self, command: WorkerCommand) {
        if self.commands.try_send(command).is_err() {
            tracing::error!(worker = self.name, "a worker does not accept commands");
        }
    }
}

/// Replies of the workers, which come after all earlier commands are done.
pub(super) struct PendingReplies(Vec<(String, oneshot::Receiver<()>)>);

impl PendingReplies {
    /// The names of the workers that did not reply in time.
    pub(super) async fn unresponsive(self) -> Vec<String> {
        let until = Instant::now() + PING_TIMEOUT;
        let mut unresponsive = Vec::new();
        for (name, answered) in self.0 {
            if !matches!(timeout_at(until, answered).await, Ok(Ok(()))) {
                unresponsive.push(name);
            }
        }
        unresponsive
    }
}

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

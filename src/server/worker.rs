//! The thread of one worker: it accepts and serves connections until it drains or stops.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::accept::{AcceptLoops, WorkerSockets};
use crate::proxy::handlers::App;
use crate::proxy::worker_context::{Worker, WorkerContext, WorkerTokens};

/// For file operations that outlive their connection.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// A command of the main thread. Each is in effect when a later `Ping` is answered.
pub(super) enum WorkerCommand {
    /// From the next request on, this is the configuration.
    Serve(App),
    /// Accept connections from these sockets. Connections that wait at the previous sockets are still accepted.
    Listen(WorkerSockets),
    Ping(oneshot::Sender<()>),
    /// Accept no more connections, and end with the last one, which is closed after this time.
    Drain(Duration),
}

/// Runs a worker: commands and connections until it has to drain or to stop, then the drain.
pub(super) async fn run(app: App, tokens: WorkerTokens, mut commands: Receiver<WorkerCommand>) {
    let worker = Rc::new(Worker::new(app, tokens.clone()));
    let mut accepting = AcceptLoops::none();
    let limit = loop {
        tokio::select! {
            biased;
            () = tokens.stop.cancelled() => break Duration::ZERO,
            command = commands.recv() => match command {
                Some(WorkerCommand::Serve(app)) => worker.replace_app(app),
                Some(WorkerCommand::Listen(sockets)) => accepting = AcceptLoops::start(&sockets, &worker),
                Some(WorkerCommand::Ping(answer)) => {
                    let _ = answer.send(());
                }
                Some(WorkerCommand::Drain(limit)) => break limit,
                None => break Duration::ZERO,
            },
        }
    };
    accepting.finish().await;
    worker.context().draining.cancel();
    tokens.tasks.close();
    drain(&worker, &mut commands, limit).await;
    stop(&worker.context()).await;
}

/// Waits until the last connection has ended, at most for `limit`. A reload applies to these connections as well.
async fn drain(worker: &Worker, commands: &mut Receiver<WorkerCommand>, limit: Duration) {
    let tasks = worker.context().tasks.clone();
    let mut limit = pin!(sleep(limit));
    loop {
        tokio::select! {
            biased;
            () = worker.stop.cancelled() => return,
            () = tasks.wait() => return,
            () = &mut limit => return,
            command = commands.recv() => match command {
                Some(WorkerCommand::Serve(app)) => worker.replace_app(app),
                Some(WorkerCommand::Ping(answer)) => {
                    let _ = answer.send(());
                }
                Some(WorkerCommand::Listen(_) | WorkerCommand::Drain(_)) => (),
                None => break,
            },
        }
    }
    tokio::select! {
        biased;
        () = worker.stop.cancelled() => (),
        () = tasks.wait() => (),
        () = limit => (),
    }
}

/// Closes idle connections and waits for running requests, within the time of the settings.
async fn stop(context: &WorkerContext) {
    context.stop.cancel();
    let stop_within = context.state.config.settings.timeout.stop;
    let limit = stop_within.saturating_sub(FILE_TIMEOUT).max(stop_within / 2);
    if timeout(limit, context.tasks.wait()).await.is_err() {
        let (left, seconds) = (context.tasks.len(), limit.as_secs_f64());
        tracing::warn!(left, "connections closed after {seconds:.1} s");
    }
}

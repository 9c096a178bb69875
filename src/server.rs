//! The accept loop, the workers that connections are dealt to, and the drain at the end.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener as AsyncListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::settings::BackendAddress;
use crate::connection;
use crate::engine::Engine;
use crate::route::Route;
use crate::upstream::Upstream;

/// Accepted connections that may wait for a worker.
const QUEUE: usize = 1024;
/// For file work that was under way when its connection ended.
const LEFT_BEHIND: Duration = Duration::from_secs(1);
/// Pause when the process or the system is out of descriptors.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// A connection on its way to a worker.
type Accepted = (TcpStream, SocketAddr);

/// What the connections of one worker thread share.
pub struct Worker {
    pub engine: Arc<Engine>,
    daemon: Upstream,
    unprivileged: Option<Upstream>,
    pub stop: CancellationToken,
    /// what must come to its end before the worker does: connections, and what outlives one
    pub tasks: TaskTracker,
}

impl Worker {
    fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        let settings = &engine.config.settings;
        let to = |address: &BackendAddress| {
            Upstream::local(address.clone(), settings.backend.keepalive, settings.timeout)
        };
        let daemon = to(&settings.backend.address);
        // The daemon can answer whatever needs no root.
        let or_daemon = |address| to(address).or_else(settings.backend.address.clone());
        let unprivileged = settings.unprivileged.as_ref().map(or_daemon);
        Self { engine, daemon, unprivileged, stop, tasks: TaskTracker::new() }
    }

    /// The daemon of this node that answers a route.
    pub fn local(&self, route: &Route) -> &Upstream {
        match (route, &self.unprivileged) {
            (Route::Unprivileged, Some(unprivileged)) => unprivileged,
            _ => &self.daemon,
        }
    }
}

/// Worker threads, each with a runtime and connections of its own.
pub struct Workers {
    senders: Vec<Sender<Accepted>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub fn start(engine: &Arc<Engine>, stop: &CancellationToken) -> std::io::Result<Self> {
        let mut workers = Self { senders: Vec::new(), threads: Vec::new() };
        for number in 0..engine.config.settings.workers {
            let (sender, receiver) = channel(QUEUE);
            let runtime = runtime()?;
            let (engine, stop) = (Arc::clone(engine), stop.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                LocalSet::new().block_on(&runtime, work(engine, stop, receiver));
                runtime.shutdown_timeout(LEFT_BEHIND);
            })?;
            workers.senders.push(sender);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Waits until every worker has ended; each bounds its own drain.
    fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// One worker: a task for each connection, and on stop a drain no longer than the settings allow.
async fn work(engine: Arc<Engine>, stop: CancellationToken, mut connections: Receiver<Accepted>) {
    let stop_within = engine.config.settings.timeout.stop;
    let patience = stop_within.saturating_sub(LEFT_BEHIND).max(stop_within / 2);
    let worker = Rc::new(Worker::new(engine, stop.clone()));
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = connections.recv() => match next {
                Some((stream, peer)) => match tokio::net::TcpStream::from_std(stream) {
                    Ok(stream) => {
                        worker.tasks.spawn_local(connection::serve(Rc::clone(&worker), stream, peer));
                    }
                    Err(error) => tracing::warn!(%error, "a connection cannot be watched"),
                },
                None => break,
            },
        }
    }
    worker.tasks.close();
    if timeout(patience, worker.tasks.wait()).await.is_err() {
        tracing::warn!(
            left = worker.tasks.len(),
            "connections cut off after {:.1} s",
            patience.as_secs_f64()
        );
    }
}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(engine: &Arc<Engine>, listener: TcpListener) -> std::io::Result<()> {
    let stop = CancellationToken::new();
    let workers = Workers::start(engine, &stop)?;
    let accepted = runtime()?.block_on(accept(engine, listener, &workers.senders));
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    workers.join();
    accepted
}

/// Deals connections to the workers in turn until a signal asks to stop. Never fails for a single connection.
async fn accept(engine: &Engine, listener: TcpListener, workers: &[Sender<Accepted>]) -> std::io::Result<()> {
    let listener = AsyncListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    tracing::info!("listening on {}", listener.local_addr()?);
    let mut turn = 0_usize;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => engine.log.reopen(),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    turn = turn.wrapping_add(1);
                    deal(stream, peer, workers, turn);
                }
                Err(error) if is_of_one_connection(&error) => (),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept; pausing");
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            },
        }
    }
}

/// Hands a connection to the next worker in turn, or to the first after it that has room. Where none has, the
/// connection is closed: waiting here would also keep signals waiting.
fn deal(stream: tokio::net::TcpStream, peer: SocketAddr, workers: &[Sender<Accepted>], turn: usize) {
    let mut connection = match stream.into_std() {
        Ok(stream) => (stream, peer),
        Err(error) => return tracing::warn!(%error, "a connection cannot be handed over"),
    };
    for worker in workers.iter().cycle().skip(turn % workers.len().max(1)).take(workers.len()) {
        match worker.try_send(connection) {
            Ok(()) => return,
            Err(TrySendError::Full(back) | TrySendError::Closed(back)) => connection = back,
        }
    }
    tracing::warn!(%peer, "all workers are busy; connection closed");
}

/// The client was gone before it was accepted.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

//! One worker thread: its sockets, its connections, and the configuration that both go by.

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{AcceptLoops, WorkerSockets};
use crate::config::settings::BackendAddress;
use crate::handler::page::worker::page_worker;
use crate::http::error::ResponseError;
use crate::metrics::upstreams;
use crate::os::request_context;
use crate::proxy::router::Route;
use crate::state::shared::AppState;
use crate::upstream::client::{PeerPools, UpstreamClient};

/// For file work that was under way when its connection ended.
pub(super) const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// What the connections of one worker thread share under one configuration.
pub struct WorkerContext {
    /// counts the configurations of this thread
    pub generation: u64,
    pub engine: Arc<AppState>,
    daemon: UpstreamClient,
    unprivileged: Option<UpstreamClient>,
    /// the same address without the daemon as its spare, which serves no pages
    pages: Option<UpstreamClient>,
    peers: PeerPools,
    /// everything ends now
    pub stop: CancellationToken,
    /// this worker takes no more connections, and each of its own ends with the answer to its next request
    pub retiring: CancellationToken,
    /// what must come to its end before the worker does: connections, and what outlives one
    pub tasks: TaskTracker,
}

impl WorkerContext {
    fn new(engine: Arc<AppState>, ends: WorkerTokens) -> Self {
        let (daemon, unprivileged) = upstreams(&engine);
        let pages = page_worker(&engine.config);
        let WorkerTokens { stop, tasks } = ends;
        Self {
            generation: 0,
            engine,
            daemon,
            unprivileged,
            pages,
            peers: PeerPools::default(),
            stop,
            retiring: CancellationToken::new(),
            tasks,
        }
    }

    /// The same worker under the next configuration.
    fn with(&self, engine: Arc<AppState>) -> Self {
        let (daemon, unprivileged) = upstreams(&engine);
        let pages = page_worker(&engine.config);
        Self {
            generation: self.generation.wrapping_add(1),
            engine,
            daemon,
            unprivileged,
            pages,
            peers: PeerPools::default(),
            stop: self.stop.clone(),
            retiring: self.retiring.clone(),
            tasks: self.tasks.clone(),
        }
    }

    /// The daemon of this node that answers a route.
    pub fn local(&self, route: &Route) -> &UpstreamClient {
        match (route, &self.unprivileged) {
            (Route::Unprivileged, Some(unprivileged)) => unprivileged,
            _ => &self.daemon,
        }
    }

    /// What renders pages with the product's own code, where it is set.
    pub fn page_worker(&self) -> Option<&UpstreamClient> {
        self.pages.as_ref()
    }

    /// Another node, ready to be asked for this client.
    pub fn peer(&self, name: &str, client: IpAddr) -> Result<UpstreamClient, ResponseError> {
        let peer = self.engine.peer(name).inspect_err(|refusal| {
            let request = request_context::current_id().map(|id| id.to_string());
            upstreams::node(name).count_failure(&refusal.to_string(), request);
        })?;
        let settings = &self.engine.config.settings;
        Ok(if settings.cluster_proxy_protocol {
            UpstreamClient::peer_for(peer, settings.timeout, client)
        } else {
            UpstreamClient::peer(peer, settings.timeout, &self.peers)
        })
    }
}

fn upstreams(engine: &AppState) -> (UpstreamClient, Option<UpstreamClient>) {
    let settings = &engine.config.settings;
    let to = |address: &BackendAddress, health| {
        UpstreamClient::local(address.clone(), settings.backend.keepalive, settings.timeout, health)
    };
    // The daemon can answer whatever needs no root.
    let or_daemon = |address: &BackendAddress| {
        to(address, upstreams::worker()).or_else(settings.backend.address.clone(), upstreams::daemon())
    };
    (to(&settings.backend.address, upstreams::daemon()), settings.unprivileged.as_ref().map(or_daemon))
}

/// A worker thread as its connections know it: the configuration may be another one with each request.
pub struct WorkerThread {
    now: RefCell<Rc<WorkerContext>>,
    /// everything ends now
    pub stop: CancellationToken,
}

/// What the main thread tells a worker. Each is in force when a later `Ping` is answered.
pub(super) enum WorkerCommand {
    /// From the next request on, this is the configuration.
    Serve(Arc<AppState>),
    /// Connections come from these sockets. What waits at those of before is still taken.
    Listen(WorkerSockets),
    Ping(oneshot::Sender<()>),
    /// Take no more connections, and end with the last; cut them off after so long.
    Retire(Duration),
}

/// The ends of a worker that the main thread holds as well.
#[derive(Clone)]
pub(super) struct WorkerTokens {
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl WorkerThread {
    /// What the next request goes by. Whoever waits for long must not keep it: it keeps a whole configuration.
    pub fn worker(&self) -> Rc<WorkerContext> {
        Rc::clone(&self.now.borrow())
    }

    fn new(engine: Arc<AppState>, ends: WorkerTokens) -> Self {
        let stop = ends.stop.clone();
        Self { now: RefCell::new(Rc::new(WorkerContext::new(engine, ends))), stop }
    }

    fn serve(&self, engine: Arc<AppState>) {
        let next = self.worker().with(engine);
        self.now.replace(Rc::new(next));
    }
}

/// The life of a worker: orders and connections until it is to retire or to stop, then a drain.
pub(super) async fn work(engine: Arc<AppState>, ends: WorkerTokens, mut orders: Receiver<WorkerCommand>) {
    let thread = Rc::new(WorkerThread::new(engine, ends.clone()));
    let mut accepting = AcceptLoops::none();
    let limit = loop {
        tokio::select! {
            biased;
            () = ends.stop.cancelled() => break Duration::ZERO,
            order = orders.recv() => match order {
                Some(WorkerCommand::Serve(engine)) => thread.serve(engine),
                Some(WorkerCommand::Listen(sockets)) => accepting = AcceptLoops::start(&sockets, &thread),
                Some(WorkerCommand::Ping(answer)) => {
                    let _ = answer.send(());
                }
                Some(WorkerCommand::Retire(limit)) => break limit,
                None => break Duration::ZERO,
            },
        }
    };
    accepting.finish().await;
    let worker = thread.worker();
    worker.retiring.cancel();
    worker.tasks.close();
    drop(worker);
    retire(&thread, &mut orders, limit).await;
    stop(&thread.worker()).await;
}

/// Until the last connection has ended by itself, or for so long. The connections that are left go by newer
/// configurations as well.
async fn retire(thread: &WorkerThread, orders: &mut Receiver<WorkerCommand>, limit: Duration) {
    let tasks = thread.worker().tasks.clone();
    let mut limit = pin!(sleep(limit));
    loop {
        tokio::select! {
            biased;
            () = thread.stop.cancelled() => return,
            () = tasks.wait() => return,
            () = &mut limit => return,
            order = orders.recv() => match order {
                Some(WorkerCommand::Serve(engine)) => thread.serve(engine),
                Some(WorkerCommand::Ping(answer)) => {
                    let _ = answer.send(());
                }
                Some(WorkerCommand::Listen(_) | WorkerCommand::Retire(_)) => (),
                None => break,
            },
        }
    }
    tokio::select! {
        biased;
        () = thread.stop.cancelled() => (),
        () = tasks.wait() => (),
        () = limit => (),
    }
}

/// What runs is finished, what waits is closed, and all that within the time of the settings.
async fn stop(worker: &WorkerContext) {
    worker.stop.cancel();
    let stop_within = worker.engine.config.settings.timeout.stop;
    let patience = stop_within.saturating_sub(LEFT_BEHIND).max(stop_within / 2);
    if timeout(patience, worker.tasks.wait()).await.is_err() {
        let (left, seconds) = (worker.tasks.len(), patience.as_secs_f64());
        tracing::warn!(left, "connections cut off after {seconds:.1} s");
    }
}

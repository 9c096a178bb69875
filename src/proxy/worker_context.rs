//! The context of a worker: what its connections share under one configuration, and how a reload replaces it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use nodegate_spice::TunnelBuffers;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handler::console::relay::RelayBuffers;
use crate::proxy::handlers::{App, Handlers};
use crate::proxy::handshake_turn::HandshakeTurn;
use crate::proxy::router::Route;
use crate::state::shared::AppState;
use crate::state::upstreams::Upstreams;
use crate::tls::WriteBuffers;
use crate::upstream::client::UpstreamClient;

/// The state that the connections of one worker share under one configuration.
pub struct WorkerContext {
    /// counts the configurations of this worker
    pub generation: u64,
    pub state: Arc<AppState>,
    pub handlers: Arc<Handlers>,
    pub upstreams: Rc<Upstreams>,
    /// cancelled when everything has to end
    pub stop: CancellationToken,
    /// cancelled when the worker accepts no more connections; each connection closes after its next answer
    pub draining: CancellationToken,
    /// connections, and the tasks that outlive one; the worker waits for them
    pub tasks: TaskTracker,
}

/// The tokens of a worker that the supervisor holds as well.
#[derive(Clone)]
pub struct WorkerTokens {
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

/// Buffers that the connections of a worker share. Each is used within one poll, so an idle connection holds none.
#[derive(Default)]
pub struct WorkerBuffers {
    pub console: RelayBuffers,
    pub tls: WriteBuffers,
    pub tunnel: TunnelBuffers,
}

/// A worker as its connections see it. Each request reads the context in effect.
pub struct Worker {
    context: RefCell<Rc<WorkerContext>>,
    pub buffers: WorkerBuffers,
    pub handshake_turn: HandshakeTurn,
    /// cancelled when everything has to end
    pub stop: CancellationToken,
}

impl WorkerContext {
    fn new(app: App, tokens: WorkerTokens) -> Self {
        Self {
            generation: 0,
            upstreams: Rc::new(Upstreams::new(&app.state)),
            state: app.state,
            handlers: app.handlers,
            stop: tokens.stop,
            draining: CancellationToken::new(),
            tasks: tokens.tasks,
        }
    }

    /// The same worker under the next configuration.
    fn next(&self, app: App) -> Self {
        let tokens = WorkerTokens { stop: self.stop.clone(), tasks: self.tasks.clone() };
        Self {
            generation: self.generation.wrapping_add(1),
            draining: self.draining.clone(),
            ..Self::new(app, tokens)
        }
    }

    /// The daemon of this node that answers a route.
    pub fn local_upstream(&self, route: &Route) -> &UpstreamClient {
        let needs_root = !matches!(route, Route::Unprivileged);
        if needs_root { &self.upstreams.daemon } else { self.upstreams.unprivileged() }
    }
}

impl Worker {
    pub fn new(app: App, tokens: WorkerTokens) -> Self {
        let stop = tokens.stop.clone();
        let context = RefCell::new(Rc::new(WorkerContext::new(app, tokens)));
        Self { context, buffers: WorkerBuffers::default(), handshake_turn: HandshakeTurn::default(), stop }
    }

    /// The context for the next request. Do not hold it across a long await: it keeps an old configuration alive.
    pub fn context(&self) -> Rc<WorkerContext> {
        Rc::clone(&self.context.borrow())
    }

    /// Puts the next configuration into effect.
    pub fn replace_app(&self, app: App) {
        let next = self.context().next(app);
        self.context.replace(Rc::new(next));
    }
}

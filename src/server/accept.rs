//! Each worker accepts connections itself: all of them poll the same listening sockets.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::os::listener::ListeningSocket;
use crate::os::log_limit::{self, LogTopic};
use crate::proxy::admission::AcceptedConnection;
use crate::proxy::connection;
use crate::proxy::worker_context::Worker;
use crate::state::shared::ListenerRules;

/// Pause after the process or the system ran out of descriptors.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);
/// Delay of the busiest worker before it accepts.
const YIELD_DELAY: Duration = Duration::from_millis(1);
/// A worker with at most this many connections more than another does not wait.
const MAX_LEAD: usize = 1;
/// Limit of connections accepted from a socket before it is closed; more than its backlog.
const MAX_LAST_CONNECTIONS: usize = 8192;

/// The sockets, and the number of connections of each worker.
#[derive(Clone)]
pub(super) struct WorkerSockets {
    pub(super) listeners: Arc<[ListeningSocket]>,
    pub(super) peers: Arc<[TaskTracker]>,
}

/// The loops of one worker, one for each socket.
pub(super) struct AcceptLoops {
    last_ones: CancellationToken,
    loops: Vec<JoinHandle<()>>,
}

impl AcceptLoops {
    pub(super) fn none() -> Self {
        Self { last_ones: CancellationToken::new(), loops: Vec::new() }
    }

    pub(super) fn start(sockets: &WorkerSockets, worker: &Rc<Worker>) -> Self {
        let mut loops = Self::none();
        for ListeningSocket { listener: name, socket } in &*sockets.listeners {
            // The rules are installed before the sockets, so the listener of a socket is known.
            let Some(rules) = worker.context().state.listener(name).cloned() else { continue };
            match socket.try_clone().and_then(TcpListener::from_std) {
                Ok(listener) => {
                    let accept_loop =
                        AcceptLoop { rules, peers: Arc::clone(&sockets.peers), worker: Rc::clone(worker) };
                    let last_ones = loops.last_ones.clone();
                    loops.loops.push(tokio::task::spawn_local(accept_loop.run(listener, last_ones)));
                }
                Err(error) => tracing::error!(%error, "this worker cannot poll a listening socket"),
            }
        }
        loops
    }

    /// Accepts the connections that are already in the backlog, and no later ones.
    pub(super) async fn finish(mut self) {
        self.last_ones.cancel();
        for accept_loop in std::mem::take(&mut self.loops) {
            let _ = accept_loop.await;
        }
    }
}

/// Connections in the backlog of a closed socket are still served.
impl Drop for AcceptLoops {
    fn drop(&mut self) {
        self.last_ones.cancel();
    }
}

struct AcceptLoop {
    /// the listener's rules at its latest connection
    rules: Arc<ListenerRules>,
    peers: Arc<[TaskTracker]>,
    worker: Rc<Worker>,
}

impl AcceptLoop {
    /// Continues after the error of one connection, and after descriptors ran out.
    async fn run(mut self, listener: TcpListener, last_ones: CancellationToken) {
        while let Some(accepted) = last_ones.run_until_cancelled(self.accept(&listener)).await {
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer),
                Err(error) if is_of_one_connection(&error) => (),
                Err(error) => self.pause(&error).await,
            }
            // One at a time: the other connections are for idle workers.
            tokio::task::yield_now().await;
        }
        // The event loop may not have seen the last connections, so the socket itself is polled.
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..MAX_LAST_CONNECTIONS {
            let Ok((stream, peer)) = accept_waiting(&listener) else { return };
            self.serve(stream, peer);
        }
    }

    /// Accepts the next connection. The busiest worker first waits, so that the other workers can accept it.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let mut delay = pin!(None);
        poll_fn(|context| {
            if delay.is_none() && self.is_busiest() {
                delay.set(Some(sleep(YIELD_DELAY)));
            }
            if let Some(sleep) = delay.as_mut().as_pin_mut() {
                ready!(sleep.poll(context));
            }
            delay.set(None);
            listener.poll_accept(context)
        })
        .await
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr) {
        let context = self.worker.context();
        if let Some(rules) = context.state.listener(&self.rules.settings.name) {
            self.rules = Arc::clone(rules);
        }
        let tasks = context.tasks.clone();
        let arrived = AcceptedConnection { stream, address: peer, context, rules: Arc::clone(&self.rules) };
        tasks.spawn_local(connection::serve(Rc::clone(&self.worker), arrived));
    }

    /// Whether another worker has fewer connections. Without it the worker that wakes first would accept all
    /// connections that come one by one.
    fn is_busiest(&self) -> bool {
        if self.peers.len() < 2 {
            return false;
        }
        let fewest = self.peers.iter().map(TaskTracker::len).min().unwrap_or_default();
        self.worker.context().tasks.len() > fewest.saturating_add(MAX_LEAD)
    }

    async fn pause(&self, error: &io::Error) {
        let message = format_args!("cannot accept connections; trying again ten times a second: {error}");
        log_limit::warn(LogTopic::Fault, "accept", &message);
        sleep(DESCRIPTOR_PAUSE).await;
    }
}

/// Accepts a connection that is already in the queue of a socket that does not block.
fn accept_waiting(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Whether only this connection failed: the client left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

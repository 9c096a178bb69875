//! HTTP/2 (RFC 9113), where it is switched on and the client has chosen it: one connection, and a task for each of its
//! streams. What a stream asks goes the same path as any other request (`request.rs`). Consoles stay with HTTP/1.1.
//!
//! All of it is bounded: streams, heads, what waits to be sent and what has come, cheap frames (`flood.rs`), and the
//! time a client takes for its first request, between two, and for an answer.

mod frame_budget;
mod head;
mod malformed;
mod stream;
mod watched_stream;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::settings::LimitSettings;
use crate::metrics::counters;
use crate::metrics::labels::LimitLabel;
use crate::proxy::http2::watched_stream::{FloodWatch, WatchedStream};
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::{AdmissionLost, ClientConnection};
use crate::state::connection_trust::ConnectionTrust;
use crate::time::client_timeouts::{TimedOut, TimedStream, TimeoutTracker};
use crate::tls::ClientStream;

/// Requests of one connection that are answered at the same time: more than browsers open connections of HTTP/1.1, and
/// few enough that all their answers are no more than one of those may hold.
const STREAMS: u32 = 8;
/// Requests that run at the same time, with those that were given up and still wait for the verdict on a credential.
const RUNNING: usize = 32;
/// Bytes of bodies that may come before they are taken, of a stream and of a connection, once its client has logged in.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// The same before: a login is short. RFC 9113 section 6.9.2 allows no smaller window of a connection.
const STRANGER_STREAM_WINDOW: u32 = 16 << 10;
const STRANGER_CONNECTION_WINDOW: u32 = 65_535;
/// The library changes windows only once the client has acknowledged the settings before.
const WIDEN_AGAIN: Duration = Duration::from_millis(50);
/// Streams that break the rules, before the connection ends.
const LOCAL_RESETS: usize = 100;
/// Streams that were given up before they were looked at, before the connection ends (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Beside what the settings allow, so that most heads which are too large are refused with a reason.
const MORE_HEAD: usize = 4 << 10;
/// For requests that were on their way when the client was asked to send no more.
const FAREWELL: Duration = Duration::from_secs(1);
/// For GOAWAY.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a connection came to its end.
pub enum ConnectionEnd {
    /// by itself
    Closed,
    /// the client has kept us waiting for its first request
    NoRequest,
    /// it is no longer admitted
    TurnedAway(AdmissionLost),
}

type Served<S> = Connection<WatchedStream<TimedStream<S>>, Bytes>;

/// Requests until the connection ends.
pub async fn serve<S: ClientStream>(
    worker: &Rc<Worker>,
    stream: S,
    client: &Rc<ClientConnection>,
) -> ConnectionEnd {
    client.clock.multiplex();
    let is_front = worker.context().state.is_proxy(client.peer);
    let watch = FloodWatch::new(is_front);
    let io =
        WatchedStream::new(TimedStream::new(stream, Bytes::new(), Arc::clone(&client.clock)), watch.clone());
    let builder = builder(&worker.context().state.config.settings.limits, is_front);
    let greeting = builder.handshake::<_, Bytes>(io);
    let connection = tokio::select! {
        biased;
        () = worker.stop.cancelled() => return ConnectionEnd::Closed,
        _ = client.clock.expired() => return ConnectionEnd::NoRequest,
        greeted = greeting => greeted,
    };
    match connection {
        Ok(connection) => {
            let mut open = OpenStreams {
                client: Rc::clone(client),
                streams: JoinSet::new(),
                busy: Rc::new(InFlight::new(client)),
            };
            let ended = open.run(worker, connection, watch).await;
            // Their clients have left. A guess is still judged, and keeps the place of its connection until then.
            while open.streams.join_next().await.is_some() {}
            ended
        }
        Err(error) => {
            tracing::debug!(peer = %client.peer.address(), %error, "no HTTP/2");
            ConnectionEnd::Closed
        }
    }
}

fn builder(limits: &LimitSettings, is_front: bool) -> Builder {
    let head = u32::try_from(limits.uri_bytes + limits.header + MORE_HEAD).unwrap_or(u32::MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STRANGER_STREAM_WINDOW)
        .initial_connection_window_size(STRANGER_CONNECTION_WINDOW)
        .max_header_list_size(head)
        .max_send_buffer_size(stream::PIECE)
        .max_local_error_reset_streams((!is_front).then_some(LOCAL_RESETS))
        .max_pending_accept_reset_streams(PENDING_RESETS);
    builder
}

struct OpenStreams {
    client: Rc<ClientConnection>,
    /// each tells whether the connection is to take no more
    streams: JoinSet<bool>,
    busy: Rc<InFlight>,
}

impl OpenStreams {
    async fn run<S: ClientStream>(
        &mut self,
        worker: &Rc<Worker>,
        mut connection: Served<S>,
        watch: FloodWatch,
    ) -> ConnectionEnd {
        let draining = worker.context().draining.clone();
        let clock = Arc::clone(&self.client.clock);
        let mut expired = pin!(clock.expired());
        let mut leaving = None;
        let trust = Rc::clone(&self.client.trust);
        let mut is_wide = None;
        loop {
            tokio::select! {
                biased;
                () = worker.stop.cancelled(), if leaving.is_none() => leaving = Some(GracefulShutdown::now()),
                () = draining.cancelled(), if leaving.is_none() => leaving = Some(GracefulShutdown::now()),
                () = watch.flooded.cancelled() => {
                    tracing::debug!(peer = %self.client.peer.address(), "flooded with frames");
                    counters::limited(LimitLabel::Frames);
                    return self.end(connection, Reason::ENHANCE_YOUR_CALM, ConnectionEnd::Closed).await;
                }
                cause = &mut expired => {
                    tracing::debug!(peer = %self.client.peer.address(), ?cause, "connection timed out");
                    return match cause {
                        TimedOut::Head => self.end(connection, Reason::NO_ERROR, ConnectionEnd::NoRequest).await,
                        TimedOut::TurnedOut => {
                            counters::limited(LimitLabel::Strangers);
                            ConnectionEnd::Closed
                        }
                        TimedOut::Idle | TimedOut::Quiet => self.end(connection, Reason::NO_ERROR, ConnectionEnd::Closed).await,
                        TimedOut::Write => ConnectionEnd::Closed,
                    };
                }
                () = trusted(&trust, is_wide.is_some()), if is_wide != Some(true) => is_wide = Some(widen(&mut connection)),
                () = GracefulShutdown::done(leaving.as_ref()), if self.streams.is_empty() => {
                    return self.end(connection, Reason::NO_ERROR, ConnectionEnd::Closed).await;
                }
                Some(closes) = self.streams.join_next() => {
                    leaving = leaving.or_else(|| closes.unwrap_or_default().then(GracefulShutdown::now));
                    leaving.iter_mut().for_each(GracefulShutdown::answered);
                }
                asked = connection.accept() => match asked {
                    Some(Ok((_, mut respond))) if watch.is_malformed(respond.stream_id().as_u32()) => {
                        tracing::debug!(peer = %self.client.peer.address(), "a malformed request");
                        respond.send_reset(Reason::PROTOCOL_ERROR);
                    }
                    Some(Ok((_, mut respond)))
                        if leaving.as_ref().is_some_and(GracefulShutdown::is_over) || self.streams.len() >= RUNNING =>
                    {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    Some(Ok((request, respond))) => {
                        if let Some(denied) = self.begin(worker, request, respond) {
                            return self.end(connection, Reason::NO_ERROR, ConnectionEnd::TurnedAway(denied)).await;
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(peer = %self.client.peer.address(), %error, "connection ended");
                        return ConnectionEnd::Closed;
                    }
                    None => return ConnectionEnd::Closed,
                },
            }
            if leaving.is_some() {
                // Says it once; requests that are on their way already are still answered.
                connection.graceful_shutdown();
            }
        }
    }

    /// Answers in a task of its own, unless the client may ask no longer: the reason.
    fn begin(
        &mut self,
        worker: &Rc<Worker>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Option<AdmissionLost> {
        let context = worker.context();
        if let Some(denied) = self.client.admission_lost(&context.state, context.generation) {
            return Some(denied);
        }
        let busy = InFlight::begin(&self.busy);
        let asking = Rc::new(self.client.for_stream(&context.state, stream::PIECE));
        self.streams.spawn_local(async move {
            let _busy = busy;
            stream::serve(context, asking, request, respond).await
        });
        None
    }

    /// Says why, and closes.
    async fn end<S: ClientStream>(
        &self,
        mut connection: Served<S>,
        reason: Reason,
        ended: ConnectionEnd,
    ) -> ConnectionEnd {
        connection.abrupt_shutdown(reason);
        let _ = timeout(LAST_WORDS, poll_fn(|context| connection.poll_closed(context))).await;
        ended
    }
}

/// Returns when the windows are to be widened, a little later where that was tried already.
async fn trusted(trust: &ConnectionTrust, is_tried: bool) {
    if is_tried {
        sleep(WIDEN_AGAIN).await;
    }
    trust.shown().await;
}

/// Gives a client that has logged in the windows of a user; whether that could be done.
fn widen<S: ClientStream>(connection: &mut Served<S>) -> bool {
    connection.set_target_window_size(CONNECTION_WINDOW);
    connection.set_initial_window_size(STREAM_WINDOW).is_ok()
}

/// The client was asked to send no more. One that does not listen keeps nothing open.
struct GracefulShutdown {
    since: Instant,
    /// when the last answer was there
    answered: Instant,
}

impl GracefulShutdown {
    fn now() -> Self {
        let now = Instant::now();
        Self { since: now, answered: now }
    }

    fn answered(&mut self) {
        self.answered = Instant::now();
    }

    /// Whether a request that comes now was not on its way before.
    fn is_over(&self) -> bool {
        self.since.elapsed() > FAREWELL
    }

    async fn done(leaving: Option<&Self>) {
        match leaving {
            Some(leaving) => sleep_until(leaving.answered + FAREWELL).await,
            None => pending().await,
        }
    }
}

/// Tells the connection's clock whether any of its requests is being answered.
struct InFlight {
    clock: Arc<TimeoutTracker>,
    running: Cell<usize>,
}

impl InFlight {
    fn new(client: &ClientConnection) -> Self {
        Self { clock: Arc::clone(&client.clock), running: Cell::new(0) }
    }

    fn begin(busy: &Rc<Self>) -> StreamTask {
        if busy.running.replace(busy.running.get() + 1) == 0 {
            busy.clock.asked();
        }
        StreamTask(Rc::clone(busy))
    }
}

/// One request that is being answered.
struct StreamTask(Rc<InFlight>);

impl Drop for StreamTask {
    fn drop(&mut self) {
        let running = self.0.running.get().saturating_sub(1);
        self.0.running.set(running);
        if running == 0 {
            self.0.clock.answered();
        }
    }
}

//! HTTP/2 (RFC 9113), if it is enabled and the client negotiated it: one connection, and a task for each stream. A
//! request takes the same path as one of HTTP/1.1 (`proxy/request`). Consoles need HTTP/1.1.
//!
//! Streams, heads, buffers, cheap frames (`frame_budget`) and the time of a client are bounded.

mod frame;
mod frame_budget;
mod head;
mod malformed;
mod stream;
mod watched_stream;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::settings::LimitSettings;
use crate::metrics::labels::LimitLabel;
use crate::proxy::http2::watched_stream::{FloodWatch, WatchedStream};
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::{AdmissionLost, ClientConnection};
use crate::state::connection_trust::ConnectionTrust;
use crate::time::client_timeouts::{TimedOut, TimedStream, TimeoutTracker};
use crate::tls::ClientStream;

/// Concurrent streams of one connection. Browsers open fewer connections of HTTP/1.1, and the responses together hold
/// no more than one of those may.
const MAX_STREAMS: u32 = 8;
/// Running requests, including cancelled ones that still wait for a login verdict.
const MAX_RUNNING_REQUESTS: usize = 32;
/// Flow-control windows in bytes after the client has logged in.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// The windows before a login, which is short. RFC 9113 section 6.9.2 allows no smaller window of a connection.
const INITIAL_STREAM_WINDOW: u32 = 16 << 10;
const INITIAL_CONNECTION_WINDOW: u32 = 65_535;
/// The library changes windows only once the client has acknowledged the settings before.
const WIDEN_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Protocol errors on streams before the library closes the connection.
const MAX_LOCAL_RESETS: usize = 100;
/// Streams reset before they were accepted, before the library closes the connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Bytes above the limits of the settings, so that most oversized heads get a response that says why.
const EXTRA_HEAD_BYTES: usize = 4 << 10;
/// Time for requests that were in transit when nodegate sent GOAWAY.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time to send the last GOAWAY.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a connection ended.
pub enum ConnectionEnd {
    Closed,
    /// the client sent no request before the deadline
    NoRequest,
    /// the access list no longer admits the client
    TurnedAway(AdmissionLost),
}

type Served<S> = Connection<WatchedStream<TimedStream<S>>, Bytes>;

/// Serves requests until the connection ends.
pub async fn serve<S: ClientStream>(
    worker: &Rc<Worker>,
    stream: S,
    client: &Rc<ClientConnection>,
) -> ConnectionEnd {
    client.clock.set_multiplexed();
    let is_trusted_proxy = worker.context().state.is_proxy(client.client_ip);
    let watch = FloodWatch::new(is_trusted_proxy);
    let io =
        WatchedStream::new(TimedStream::new(stream, Bytes::new(), Rc::clone(&client.clock)), watch.clone());
    let builder = builder(&worker.context().state.config.settings.limits, is_trusted_proxy);
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
            // The client has left. A login attempt still gets its verdict, and holds the connection permit until then.
            while open.streams.join_next().await.is_some() {}
            ended
        }
        Err(error) => {
            tracing::debug!(peer = %client.client_ip.address(), %error, "HTTP/2 handshake failed");
            ConnectionEnd::Closed
        }
    }
}

fn builder(limits: &LimitSettings, is_trusted_proxy: bool) -> Builder {
    let head = u32::try_from(limits.uri_bytes + limits.header + EXTRA_HEAD_BYTES).unwrap_or(u32::MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(INITIAL_STREAM_WINDOW)
        .initial_connection_window_size(INITIAL_CONNECTION_WINDOW)
        .max_header_list_size(head)
        .max_send_buffer_size(stream::PIECE_BYTES)
        .max_local_error_reset_streams((!is_trusted_proxy).then_some(MAX_LOCAL_RESETS))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    builder
}

struct OpenStreams {
    client: Rc<ClientConnection>,
    /// each returns whether the connection must close after it
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
        let clock = Rc::clone(&self.client.clock);
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
                    tracing::debug!(peer = %self.client.client_ip.address(), "the client exceeded its frame budget");
                    worker.context().state.metrics.count_limit(LimitLabel::Frames);
                    return self.end(connection, Reason::ENHANCE_YOUR_CALM, ConnectionEnd::Closed).await;
                }
                cause = &mut expired => {
                    tracing::debug!(peer = %self.client.client_ip.address(), ?cause, "connection timed out");
                    return match cause {
                        TimedOut::Head => self.end(connection, Reason::NO_ERROR, ConnectionEnd::NoRequest).await,
                        TimedOut::Evicted => {
                            worker.context().state.metrics.count_limit(LimitLabel::Strangers);
                            ConnectionEnd::Closed
                        }
                        TimedOut::Idle | TimedOut::Hibernate => self.end(connection, Reason::NO_ERROR, ConnectionEnd::Closed).await,
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
                        tracing::debug!(peer = %self.client.client_ip.address(), "a malformed request");
                        respond.send_reset(Reason::PROTOCOL_ERROR);
                    }
                    Some(Ok((_, mut respond)))
                        if leaving.as_ref().is_some_and(GracefulShutdown::is_over) || self.streams.len() >= MAX_RUNNING_REQUESTS =>
                    {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    Some(Ok((request, respond))) => {
                        if let Some(denied) = self.begin(worker, request, respond) {
                            return self.end(connection, Reason::NO_ERROR, ConnectionEnd::TurnedAway(denied)).await;
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(peer = %self.client.client_ip.address(), %error, "connection ended");
                        return ConnectionEnd::Closed;
                    }
                    None => return ConnectionEnd::Closed,
                },
            }
            if leaving.is_some() {
                // The library sends GOAWAY once and still accepts requests in transit.
                connection.graceful_shutdown();
            }
        }
    }

    /// Starts the task of one request. Returns a reason if the client is no longer admitted.
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
        let asking = Rc::new(self.client.for_stream(&context.state, stream::PIECE_BYTES));
        self.streams.spawn_local(async move {
            let _busy = busy;
            stream::serve(context, asking, request, respond).await
        });
        None
    }

    /// Sends GOAWAY with the reason and closes.
    async fn end<S: ClientStream>(
        &self,
        mut connection: Served<S>,
        reason: Reason,
        ended: ConnectionEnd,
    ) -> ConnectionEnd {
        connection.abrupt_shutdown(reason);
        let _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| connection.poll_closed(context))).await;
        ended
    }
}

/// Returns when the client has logged in; waits before a retry.
async fn trusted(trust: &ConnectionTrust, is_tried: bool) {
    if is_tried {
        sleep(WIDEN_RETRY_INTERVAL).await;
    }
    trust.authenticated().await;
}

/// Sets the windows of a client that has logged in. Returns whether the library accepted them.
fn widen<S: ClientStream>(connection: &mut Served<S>) -> bool {
    connection.set_target_window_size(CONNECTION_WINDOW);
    connection.set_initial_window_size(STREAM_WINDOW).is_ok()
}

/// GOAWAY was sent. The connection closes even if the client ignores it.
struct GracefulShutdown {
    since: Instant,
    /// time of the last response
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

    /// Whether a new request cannot have been in transit.
    fn is_over(&self) -> bool {
        self.since.elapsed() > SHUTDOWN_TIMEOUT
    }

    async fn done(leaving: Option<&Self>) {
        match leaving {
            Some(leaving) => sleep_until(leaving.answered + SHUTDOWN_TIMEOUT).await,
            None => pending().await,
        }
    }
}

/// Reports to the connection's timeouts whether a request is running.
struct InFlight {
    clock: Rc<TimeoutTracker>,
    running: Cell<usize>,
}

impl InFlight {
    fn new(client: &ClientConnection) -> Self {
        Self { clock: Rc::clone(&client.clock), running: Cell::new(0) }
    }

    fn begin(busy: &Rc<Self>) -> StreamTask {
        if busy.running.replace(busy.running.get() + 1) == 0 {
            busy.clock.begin_request();
        }
        StreamTask(Rc::clone(busy))
    }
}

/// Guard of one running request.
struct StreamTask(Rc<InFlight>);

impl Drop for StreamTask {
    fn drop(&mut self) {
        let running = self.0.running.get().saturating_sub(1);
        self.0.running.set(running);
        if running == 0 {
            self.0.clock.end_response();
        }
    }
}

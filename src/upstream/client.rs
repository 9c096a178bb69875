//! Requests to a local daemon or another node, over fresh or pooled connections.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::config::settings::TimeoutSettings;
pub use crate::metrics::labels::FailurePhase;
use crate::metrics::upstreams::UpstreamHealth;
use crate::os::log_limit::{self, LogTopic};
use crate::os::request_context;
use crate::upstream::connection::{ExchangeError, UpstreamConnection};
use crate::upstream::destination::UpstreamDestination;
pub use crate::upstream::error::{SendError, UpstreamError, io_message};
pub use crate::upstream::local::LocalDaemon;
use crate::upstream::local::WorkerReservation;
use crate::upstream::loopback;
use crate::upstream::peer::PeerNode;
use crate::upstream::pool::ConnectionPool;
pub use crate::upstream::pool::PeerPools;
use crate::upstream::request::{EncodedRequest, UpstreamRequest};
pub use crate::upstream::response_body::{READ_BYTES, UpstreamBody};
use crate::upstream::scheduler::QueueError;
use crate::upstream::write_batching;

/// The connections of one worker to one backend or node.
pub struct UpstreamClient {
    destination: UpstreamDestination,
    health: Arc<UpstreamHealth>,
    /// used if the destination does not accept connections
    fallback: Option<(UpstreamDestination, Arc<UpstreamHealth>)>,
    timeouts: TimeoutSettings,
    /// idle connections, if they are kept
    pool: Option<Rc<ConnectionPool>>,
}

/// A connection for a request, and the time at which the attempt began.
struct StartedAttempt {
    connection: UpstreamConnection,
    started: Instant,
}

impl UpstreamClient {
    /// A daemon of this machine.
    pub fn local(
        daemon: LocalDaemon,
        keepalive: bool,
        timeouts: TimeoutSettings,
        health: Arc<UpstreamHealth>,
    ) -> Self {
        let pool = keepalive.then(Rc::default);
        Self { destination: UpstreamDestination::Local(daemon), health, fallback: None, timeouts, pool }
    }

    /// Sets a daemon of this machine that gets the requests if this one does not accept connections.
    #[must_use]
    pub fn with_fallback(self, fallback: LocalDaemon, health: Arc<UpstreamHealth>) -> Self {
        Self { fallback: Some((UpstreamDestination::Local(fallback), health)), ..self }
    }

    /// Another node. Its connections are kept in `pools` while its address and certificate stay the same, because
    /// handshakes are expensive. A connection that begins with a PROXY header cannot be kept.
    pub fn peer(
        peer: PeerNode,
        timeouts: TimeoutSettings,
        pools: Option<&PeerPools>,
        health: Arc<UpstreamHealth>,
    ) -> Self {
        let pool = pools.map(|pools| pools.get_or_create(&peer));
        Self { destination: UpstreamDestination::Peer(peer), health, fallback: None, timeouts, pool }
    }

    /// Whether the upstream is a daemon of this machine, which may name files to send.
    pub fn is_local(&self) -> bool {
        matches!(self.destination, UpstreamDestination::Local(_))
    }

    /// Whether a request asks to keep its connection open.
    pub fn keeps_alive(&self, method: &Method) -> bool {
        self.pool.is_some() && *method == Method::GET
    }

    /// Waits until a daemon of this machine has a worker for the request. [`Self::send`] does so too, unless the request
    /// has one. Dropping the request gives the worker back.
    ///
    /// # Errors
    /// Too many requests wait, or this one has waited for too long.
    pub async fn reserve_worker(&self, request: &mut UpstreamRequest) -> Result<(), QueueError> {
        self.destination.acquire_worker(request.worker()).await
    }

    /// Sends one request and waits for the head of the response.
    ///
    /// Only a GET uses a pooled connection. If the server had closed it, the GET is sent again on a fresh connection. The
    /// connection returns to the pool after the last byte of the body.
    pub async fn send(&self, mut request: UpstreamRequest) -> Result<UpstreamResponse, SendError> {
        write_batching::yield_to_ready_tasks().await;
        self.reserve_worker(&mut request).await?;
        request_context::begin_upstream_call(&self.destination);
        let mut health = &self.health;
        let outcome = self.attempt(request, &mut health).await;
        match outcome {
            Ok(answer) => {
                health.count_answer();
                Ok(UpstreamResponse { body: answer.body.reporting_to(Arc::clone(health)), ..answer })
            }
            Err(error) => {
                if let SendError::Failed(error) = &error {
                    count_failure(health, error);
                }
                Err(error)
            }
        }
    }

    /// Sets `health` to the counters of the destination that was tried last.
    async fn attempt<'a>(
        &'a self,
        mut request: UpstreamRequest,
        health: &mut &'a Arc<UpstreamHealth>,
    ) -> Result<UpstreamResponse, SendError> {
        let mut worker = std::mem::take(request.worker());
        let started = Instant::now();
        let pool = self.pool.as_ref().filter(|_| self.keeps_alive(request.method()));
        let answer_timeout = request.timeout();
        let mut wire = request.encode();
        if let Some(connection) = pool.and_then(|pool| pool.take()) {
            let attempt = StartedAttempt { connection, started };
            match self.exchange(attempt, &mut wire, pool, answer_timeout).await {
                Err(error) if error.phase == FailurePhase::Answer && started.elapsed() < answer_timeout => (),
                answered => {
                    let answer = answered?;
                    worker.finish();
                    return Ok(answer);
                }
            }
            wire.rewind();
        }
        let attempt = self.connect(&mut wire, started, health, &mut worker).await?;
        let answer = self.exchange(attempt, &mut wire, pool, answer_timeout).await?;
        worker.finish();
        Ok(answer)
    }

    /// Connects, and may already send a part of the request.
    async fn connect<'a>(
        &'a self,
        wire: &mut EncodedRequest,
        mut started: Instant,
        health: &mut &'a Arc<UpstreamHealth>,
        worker: &mut WorkerReservation,
    ) -> Result<StartedAttempt, SendError> {
        let connection = match (self.connect_to(&self.destination, wire, started).await, &self.fallback) {
            (Err(error), Some((fallback, fallback_health))) => {
                count_failure(&self.health, &error);
                let message = format_args!("{error}; using {fallback} instead");
                log_limit::warn(LogTopic::Upstream, &error.upstream, &message);
                *health = fallback_health;
                worker.release();
                fallback.acquire_worker(worker).await?;
                started = Instant::now();
                self.connect_to(fallback, wire, started).await?
            }
            (connected, _) => connected?,
        };
        Ok(StartedAttempt { connection, started })
    }

    async fn connect_to(
        &self,
        destination: &UpstreamDestination,
        wire: &mut EncodedRequest,
        started: Instant,
    ) -> Result<UpstreamConnection, UpstreamError> {
        let error = |phase, cause| self.error(phase, destination, started, cause);
        let failed = |source: io::Error| error(FailurePhase::Connect, io_message(&source));
        let connecting = async {
            Ok(match destination {
                UpstreamDestination::Local(daemon) => {
                    Either::Left(loopback::connect(&daemon.address, wire).await.map_err(failed)?)
                }
                UpstreamDestination::Peer(peer) => {
                    let connected = peer.connect().await.map_err(|(phase, cause)| error(phase, cause))?;
                    Either::Right(Box::new(connected))
                }
            })
        };
        match timeout(self.timeouts.connect, connecting).await {
            Ok(connected) => connected.map(UpstreamConnection::new),
            Err(_) => Err(error(FailurePhase::Connect, "Connection timed out".to_owned())),
        }
    }

    async fn exchange(
        &self,
        attempt: StartedAttempt,
        wire: &mut EncodedRequest,
        pool: Option<&Rc<ConnectionPool>>,
        answer_timeout: Duration,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let StartedAttempt { mut connection, started } = attempt;
        let broken = |cause: String| self.error(FailurePhase::Answer, &self.destination, started, cause);
        match timeout(answer_timeout, connection.exchange(wire)).await {
            Ok(Ok(head)) => {
                request_context::end_upstream_call();
                self.health.observe_header(started.elapsed());
                let pool = pool.filter(|_| head.keeps_alive).cloned();
                let body = UpstreamBody::new(connection, head.framing, pool, answer_timeout);
                Ok(UpstreamResponse { response: head.response, body, started })
            }
            Ok(Err(ExchangeError::Malformed)) => Err(self.parse_error(started)),
            Ok(Err(ExchangeError::Closed)) => {
                Err(broken("Broken pipe: connection closed before a response".to_owned()))
            }
            Ok(Err(ExchangeError::Io(error))) => Err(broken(format!("Broken pipe: {}", io_message(&error)))),
            Err(_) => Err(broken("Connection timed out".to_owned())),
        }
    }

    /// Reads the whole body, up to `limit` bytes. A body that arrived with the head needs no timer.
    pub async fn read_whole(
        &self,
        body: &mut UpstreamBody,
        limit: usize,
        started: Instant,
    ) -> Result<Bytes, UpstreamError> {
        let answer_timeout = body.timeout();
        let mut reading = pin!(body.read_whole(limit));
        let at_once = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        let read = match at_once {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => timeout(answer_timeout, reading).await,
        };
        let cause = match read {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => "Broken pipe",
            Ok(Err(_)) | Err(_) => "Connection timed out",
        };
        let error = self.error(FailurePhase::Body, &self.destination, started, cause);
        count_failure(&self.health, &error);
        Err(error)
    }

    /// Counts a response that is valid HTTP, but not what the caller expects.
    pub fn invalid_response(&self, started: Instant) -> UpstreamError {
        let error = self.parse_error(started);
        count_failure(&self.health, &error);
        error
    }

    /// Counts a failed attempt.
    fn error(
        &self,
        phase: FailurePhase,
        upstream: &UpstreamDestination,
        started: Instant,
        cause: impl Into<String>,
    ) -> UpstreamError {
        self.health.count_error(phase);
        let (upstream, elapsed) = (upstream.to_string(), started.elapsed());
        UpstreamError { phase, upstream, elapsed, cause: cause.into() }
    }

    fn parse_error(&self, started: Instant) -> UpstreamError {
        self.error(FailurePhase::Parse, &self.destination, started, "Invalid server response")
    }
}

fn count_failure(health: &UpstreamHealth, error: &UpstreamError) {
    health.count_failure(&error.to_string(), request_context::current_id().map(|id| id.to_string()));
}

/// The head of a response, and its unread body.
pub struct UpstreamResponse {
    pub response: Response<()>,
    pub body: UpstreamBody,
    pub started: Instant,
}

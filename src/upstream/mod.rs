//! Connections that we open: to a local daemon, fresh for each request or kept.

pub mod nodes;
pub mod peer;
pub mod pins;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::settings::{BackendAddress, Timeouts};
use peer::Peer;

/// Kept connections of one worker to one backend.
const POOL_SIZE: usize = 64;
/// A kept connection may be closed by the other side at any time after this.
const POOL_AGE: Duration = Duration::from_secs(4);

/// What the upstream was doing when it failed; the status tells it to scripts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    Connect,
    Handshake,
    Answer,
    Body,
    Parse,
}

/// Why there is no answer from an upstream: who, doing what, for how long.
#[derive(Debug)]
pub struct UpstreamError {
    pub phase: Phase,
    /// the address or the node, as the admin knows it
    pub upstream: String,
    pub elapsed: Duration,
    pub cause: String,
}

impl UpstreamError {
    fn new(phase: Phase, upstream: &impl ToString, started: Instant, cause: impl Into<String>) -> Self {
        Self { phase, upstream: upstream.to_string(), elapsed: started.elapsed(), cause: cause.into() }
    }

    /// The pseudo statuses that clients of the original know.
    pub fn status(&self) -> StatusCode {
        let code = match self.phase {
            Phase::Connect => 595,
            Phase::Handshake | Phase::Answer => 596,
            Phase::Body => 597,
            Phase::Parse => 599,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Connect => "connecting",
            Phase::Handshake => "TLS handshake",
            Phase::Answer => "waiting for the answer",
            Phase::Body => "reading the body",
            Phase::Parse => "reading the answer",
        };
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{} ({phase}, upstream {}, after {seconds:.3} s)", self.cause, self.upstream)
    }
}

impl std::error::Error for UpstreamError {}

/// Where the connections of an upstream lead.
enum Destination {
    Local(BackendAddress),
    Peer(Peer),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(address) => address.fmt(f),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The connections of one worker to one backend.
pub struct Upstream {
    destination: Destination,
    keepalive: bool,
    timeouts: Timeouts,
    pool: RefCell<Vec<(Sender, Instant)>>,
}

impl Upstream {
    /// A daemon of this machine.
    pub fn local(address: BackendAddress, keepalive: bool, timeouts: Timeouts) -> Self {
        Self { destination: Destination::Local(address), keepalive, timeouts, pool: RefCell::new(Vec::new()) }
    }

    /// Another node.
    pub fn peer(peer: Peer, timeouts: Timeouts) -> Self {
        Self {
            destination: Destination::Peer(peer),
            keepalive: false,
            timeouts,
            pool: RefCell::new(Vec::new()),
        }
    }

    /// Whether answers come from a daemon that this machine trusts with its files.
    pub fn is_local(&self) -> bool {
        matches!(self.destination, Destination::Local(_))
    }

    /// Whether requests are to ask for a connection that stays open.
    pub fn keeps(&self, method: &Method) -> bool {
        self.keepalive && *method == Method::GET
    }

    /// Sends one request and waits for the head of the answer.
    ///
    /// A kept connection is used for GET only, and a GET whose kept connection had died is sent once more on a
    /// fresh one. The body of the answer is still to be read; give the sender back with `keep` afterwards.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        if self.keeps(request.method())
            && let Some(mut sender) = self.take_kept()
        {
            let again = request.clone();
            match self.exchange(&mut sender, request, started).await {
                Ok(response) => return Ok(Answer { response, connection: Kept(Some(sender)), started }),
                Err(error) if error.phase == Phase::Answer && started.elapsed() < self.timeouts.answer => {
                    return self.send_fresh(again, started).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.send_fresh(request, started).await
    }

    async fn send_fresh(
        &self,
        request: Request<Full<Bytes>>,
        started: Instant,
    ) -> Result<Answer, UpstreamError> {
        let keeps = self.keeps(request.method());
        let mut sender = self.connect(started).await?;
        let response = self.exchange(&mut sender, request, started).await?;
        Ok(Answer { response, connection: Kept(keeps.then_some(sender)), started })
    }

    fn take_kept(&self) -> Option<Sender> {
        let mut pool = self.pool.borrow_mut();
        while let Some((sender, since)) = pool.pop() {
            if since.elapsed() > POOL_AGE {
                pool.clear(); // the others are older still
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self, started: Instant) -> Result<Sender, UpstreamError> {
        let failed = |error: &io::Error| {
            UpstreamError::new(Phase::Connect, &self.destination, started, io_message(error))
        };
        let connecting = async {
            match &self.destination {
                Destination::Local(BackendAddress::Tcp(address)) => {
                    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
                    let _ = stream.set_nodelay(true);
                    self.handshake(stream, started).await
                }
                Destination::Peer(peer) => {
                    let stream = peer.connect().await.map_err(|(phase, cause)| {
                        UpstreamError::new(phase, &self.destination, started, cause)
                    })?;
                    self.handshake(stream, started).await
                }
                Destination::Local(BackendAddress::Unix(path)) => {
                    let stream = UnixStream::connect(path).await.map_err(|error| failed(&error))?;
                    self.handshake(stream, started).await
                }
            }
        };
        timeout(self.timeouts.connect, connecting).await.unwrap_or_else(|_| {
            Err(UpstreamError::new(Phase::Connect, &self.destination, started, "Connection timed out"))
        })
    }

    async fn handshake<S>(&self, stream: S, started: Instant) -> Result<Sender, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|error| {
                UpstreamError::new(Phase::Connect, &self.destination, started, error.to_string())
            })?;
        // Ends when the sender and the body of the answer are gone.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        sender: &mut Sender,
        request: Request<Full<Bytes>>,
        started: Instant,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match timeout(self.timeouts.answer, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_parse() => Err(self.parse_error(started)),
            Ok(Err(error)) => Err(UpstreamError::new(
                Phase::Answer,
                &self.destination,
                started,
                format!("Broken pipe: {}", hyper_message(&error)),
            )),
            Err(_) => {
                Err(UpstreamError::new(Phase::Answer, &self.destination, started, "Connection timed out"))
            }
        }
    }
}

/// The head of an answer, and the connection that its body comes on.
pub struct Answer {
    pub response: Response<Incoming>,
    pub connection: Kept,
    pub started: Instant,
}

/// A connection that may be used again.
pub struct Kept(Option<Sender>);

impl Upstream {
    /// Keeps a connection whose answer was read to the end.
    pub fn keep(&self, kept: Kept) {
        let Some(sender) = kept.0.filter(|sender| !sender.is_closed()) else { return };
        let mut pool = self.pool.borrow_mut();
        if pool.len() < POOL_SIZE {
            pool.push((sender, Instant::now()));
        }
    }

    /// An answer that makes no sense here.
    pub fn parse_error(&self, started: Instant) -> UpstreamError {
        UpstreamError::new(Phase::Parse, &self.destination, started, "Invalid server response")
    }

    /// An error while the body of an answer is read.
    pub fn body_error(&self, started: Instant, cause: &str) -> UpstreamError {
        UpstreamError::new(Phase::Body, &self.destination, started, cause)
    }
}

/// The system's words without Rust's "(os error N)".
pub fn io_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn hyper_message(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

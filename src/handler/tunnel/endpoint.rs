//! The two ends of a tunnel, and the relay between them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nodegate_spice::tunnel::{self, Transfer};
use nodegate_spice::{ByteCounter, TunnelBuffers};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::TunnelClient;
use crate::metrics::sessions::{SessionInfo, SessionKind, Sessions};

/// Shortest pause between two checks for an idle tunnel.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For the TLS shutdown of an end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(900);

/// A bidirectional stream on top of a TCP connection.
pub trait DuplexStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> DuplexStream for S {}

/// One end of a tunnel: a TCP connection, or a stream on top of one, such as TLS. Between two TCP connections, bytes stay
/// within the kernel.
pub type TunnelEndpoint = Either<TcpStream, Box<dyn DuplexStream>>;

/// A TCP connection with keep-alive: a viewer may be idle for hours, and only a dead one has to be noticed.
pub fn plain_endpoint(stream: TcpStream) -> TunnelEndpoint {
    enable_keepalive(&stream);
    Either::Left(stream)
}

/// Lets the kernel detect a dead peer.
pub fn enable_keepalive(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_keepalive(true);
}

/// Limits the kernel's send buffer for a slow end to about one piece.
fn limit_unsent_bytes(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(tunnel::PIECE_BYTES);
}

/// The server's end of a tunnel, and the bytes that it has sent already.
pub(super) struct UpstreamEndpoint {
    /// for the list of open sessions
    pub(super) name: String,
    pub(super) stream: TunnelEndpoint,
    pub(super) early: BytesMut,
}

/// A tunnel whose upstream is connected and whose client has its 200.
pub struct OpenTunnel {
    pub(super) upstream: UpstreamEndpoint,
    /// bytes that the client has sent for the upstream already
    pub(super) early: Vec<u8>,
    /// closes the tunnel if no byte moves for so long
    pub(super) idle: Option<Duration>,
    pub(super) sessions: Arc<Sessions>,
}

/// The worker on which a tunnel runs.
#[derive(Clone, Copy)]
pub struct TunnelWorker<'a> {
    pub buffers: &'a TunnelBuffers,
    pub stop: &'a CancellationToken,
}

impl OpenTunnel {
    /// Relays until both ends close, one fails, the tunnel is idle, the client is no longer admitted, or nodegate stops.
    pub async fn relay(self, client: TunnelClient<'_>, worker: TunnelWorker<'_>, denied: impl Future) {
        let Self { mut upstream, early, idle, sessions } = self;
        let (mut stream, peer) = (client.stream, client.client.client_ip.address());
        let session = sessions.open(SessionInfo::new(SessionKind::Tunnel, peer, None, upstream.name));
        let counter = &session.counter;
        let TunnelWorker { buffers, stop } = worker;
        let transfer = Transfer { early_up: &early, early_down: &upstream.early, counter, buffers };
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
            ended = relay(&mut stream, &mut upstream.stream, transfer) => ended,
            _ = denied => Err(io::ErrorKind::PermissionDenied.into()),
            () = wait_until_idle(counter, idle) => Err(io::ErrorKind::TimedOut.into()),
        };
        let error = ended.err().map(|error| error.to_string());
        let moved = counter.moved();
        tracing::debug!(peer = %peer, up = moved.up, down = moved.down, error, "tunnel ended");
        if error.is_some() {
            tokio::join!(shutdown_tls(&mut stream), shutdown_tls(&mut upstream.stream));
        }
    }
}

async fn relay(
    client: &mut TunnelEndpoint,
    server: &mut TunnelEndpoint,
    transfer: Transfer<'_>,
) -> io::Result<()> {
    match (client, server) {
        (Either::Left(client), Either::Left(server)) => {
            limit_unsent_bytes(client);
            limit_unsent_bytes(server);
            tunnel::run(client, server, transfer).await
        }
        (client, server) => tunnel::relay(client, server, transfer).await,
    }
}

/// Sends a TLS close alert, by which the peer tells an end from a lost connection.
async fn shutdown_tls(endpoint: &mut TunnelEndpoint) {
    if let Either::Right(stream) = endpoint {
        let _ = timeout(SHUTDOWN_TIMEOUT, stream.shutdown()).await;
    }
}

/// Returns when no byte has moved for `idle`.
async fn wait_until_idle(counter: &ByteCounter, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    let (mut moved, mut since) = (counter.moved(), Instant::now());
    while since.elapsed() < idle {
        sleep(idle.saturating_sub(since.elapsed()).max(IDLE_POLL_INTERVAL)).await;
        let now = counter.moved();
        if now != moved {
            (moved, since) = (now, Instant::now());
        }
    }
}

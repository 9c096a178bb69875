//! The two ends of a tunnel, and the relay between them.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nodegate_spice::{Meter, tunnel};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::sessions::{SessionInfo, SessionKind, Sessions};

/// Shortest pause between two checks for an idle tunnel.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For the TLS shutdown of an end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(900);

/// A bidirectional stream on top of a TCP connection.
pub trait DuplexStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> DuplexStream for S {}

/// One end of a tunnel.
pub enum TunnelEndpoint {
    /// between two of these, bytes stay within the kernel
    Plain(TcpStream),
    Tls(Box<dyn DuplexStream>),
}

impl TunnelEndpoint {
    /// A TCP connection with keep-alive: a viewer may be idle for hours, and only a dead one has to be noticed.
    pub fn plain(stream: TcpStream) -> Self {
        enable_keepalive(&stream);
        Self::Plain(stream)
    }
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
    pub(super) early: Vec<u8>,
}

/// A tunnel whose ends are connected.
pub(super) struct ConnectedTunnel<'a> {
    pub(super) client: &'a mut TunnelEndpoint,
    /// the bytes that the client has sent already
    pub(super) early: &'a [u8],
    pub(super) upstream: UpstreamEndpoint,
    pub(super) peer: IpAddr,
    /// closes the tunnel if no byte moves for so long
    pub(super) idle: Option<Duration>,
    pub(super) sessions: Arc<Sessions>,
}

impl ConnectedTunnel<'_> {
    /// Relays until both ends close, one fails, the tunnel is idle, the client is no longer admitted, or nodegate stops.
    pub(super) async fn relay(self, stop: &CancellationToken, denied: impl Future) {
        let Self { client, early, mut upstream, peer, idle, sessions } = self;
        let session = sessions.open(SessionInfo::new(SessionKind::Tunnel, peer, None, upstream.name));
        let meter = &session.meter;
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
            ended = relay(client, &mut upstream.stream, early, &upstream.early, meter) => ended,
            _ = denied => Err(io::ErrorKind::PermissionDenied.into()),
            () = wait_until_idle(meter, idle) => Err(io::ErrorKind::TimedOut.into()),
        };
        let error = ended.err().map(|error| error.to_string());
        let moved = meter.moved();
        tracing::debug!(peer = %peer, up = moved.up, down = moved.down, error, "tunnel ended");
        if error.is_some() {
            tokio::join!(client.shutdown_tls(), upstream.stream.shutdown_tls());
        }
    }
}

async fn relay(
    client: &mut TunnelEndpoint,
    server: &mut TunnelEndpoint,
    early_up: &[u8],
    early_down: &[u8],
    meter: &Meter,
) -> io::Result<()> {
    match (client, server) {
        (TunnelEndpoint::Plain(client), TunnelEndpoint::Plain(server)) => {
            limit_unsent_bytes(client);
            limit_unsent_bytes(server);
            tunnel::run(client, server, early_up, early_down, meter).await
        }
        (client, server) => tunnel::relay(client, server, early_up, early_down, meter).await,
    }
}

/// Returns when no byte has moved for `idle`.
async fn wait_until_idle(meter: &Meter, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    let (mut moved, mut since) = (meter.moved(), Instant::now());
    while since.elapsed() < idle {
        sleep(idle.saturating_sub(since.elapsed()).max(IDLE_POLL_INTERVAL)).await;
        let now = meter.moved();
        if now != moved {
            (moved, since) = (now, Instant::now());
        }
    }
}

impl TunnelEndpoint {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn DuplexStream> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }

    /// Sends a TLS close alert, by which the peer tells an end from a lost connection.
    async fn shutdown_tls(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = timeout(SHUTDOWN_TIMEOUT, stream.shutdown()).await;
        }
    }
}

impl AsyncRead for TunnelEndpoint {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for TunnelEndpoint {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

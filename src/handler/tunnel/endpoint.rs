//! One end of a tunnel, and what goes on between two of them.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nodegate_spice::{Meter, tunnel};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::sessions::{SessionInfo, SessionKind};
use crate::proxy::recheck::AdmissionLost;

/// Between two looks at a tunnel that is nearly unused long enough.
const MOMENT: Duration = Duration::from_millis(100);
/// For an end to be told that there is no more.
const FAREWELL: Duration = Duration::from_millis(900);

/// A stream both ways that is more than a TCP connection.
pub trait DuplexStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> DuplexStream for S {}

/// What a tunnel ends in.
pub enum TunnelEndpoint {
    /// between two of these, bytes stay within the kernel
    Plain(TcpStream),
    /// TLS
    Sealed(Box<dyn DuplexStream>),
}

impl TunnelEndpoint {
    /// A TCP connection; a viewer may sit idle for hours, and only a dead one is to be noticed.
    pub fn plain(stream: TcpStream) -> Self {
        keep_alive(&stream);
        Self::Plain(stream)
    }
}

/// Has the system find out whether the other side is still there.
pub fn keep_alive(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_keepalive(true);
}

/// The system takes a whole piece at once, and holds not much more for an end that is slow.
fn unsent_at_most_a_piece(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(tunnel::PIECE_BYTES);
}

/// The far end of a tunnel, and what it has sent already.
pub(super) struct FarEnd {
    /// for people
    pub(super) name: String,
    pub(super) stream: TunnelEndpoint,
    pub(super) early: Vec<u8>,
}

/// Bytes both ways until both ends are done, one fails, nothing has moved for `idle`, the client is `denied`, or nodegate
/// stops.
pub(super) async fn run(
    (client, early): (&mut TunnelEndpoint, &[u8]),
    server: &mut FarEnd,
    (peer, idle): (IpAddr, Option<Duration>),
    (stop, denied): (&CancellationToken, impl Future<Output = AdmissionLost>),
) {
    let name = std::mem::take(&mut server.name);
    let bridge = SessionInfo::new(SessionKind::Tunnel, peer, None, name).open();
    let meter = &bridge.meter;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
        ended = relay(client, &mut server.stream, early, &server.early, meter) => ended,
        _ = denied => Err(io::ErrorKind::PermissionDenied.into()),
        () = unused(meter, idle) => Err(io::ErrorKind::TimedOut.into()),
    };
    let error = ended.err().map(|error| error.to_string());
    let moved = meter.moved();
    tracing::debug!(peer = %peer, up = moved.up, down = moved.down, error, "tunnel ended");
    if error.is_some() {
        tokio::join!(client.say_farewell(), server.stream.say_farewell());
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
            unsent_at_most_a_piece(client);
            unsent_at_most_a_piece(server);
            tunnel::run(client, server, early_up, early_down, meter).await
        }
        (client, server) => Box::pin(tunnel::relay(client, server, early_up, early_down, meter)).await,
    }
}

/// Returns when nothing has moved for so long.
async fn unused(meter: &Meter, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    let (mut moved, mut since) = (meter.moved(), Instant::now());
    while since.elapsed() < idle {
        sleep(idle.saturating_sub(since.elapsed()).max(MOMENT)).await;
        let now = meter.moved();
        if now != moved {
            (moved, since) = (now, Instant::now());
        }
    }
}

impl TunnelEndpoint {
    /// Who speaks TLS can tell an end from a cut.
    async fn say_farewell(&mut self) {
        if let Self::Sealed(stream) = self {
            let _ = timeout(FAREWELL, stream.shutdown()).await;
        }
    }
}

impl AsyncRead for TunnelEndpoint {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Sealed(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for TunnelEndpoint {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Sealed(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Sealed(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Sealed(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}

//! Detection of `CONNECT` on a connection, with or without TLS, and the tunnel that follows.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::either::Either;

use crate::handler::tunnel::{self, TunnelClient, TunnelEndpoint, TunnelWorker, plain_endpoint};
use crate::proxy::recheck::until_denied;
use crate::proxy::tls_accept::{
    ConnectionSetup, TLS_HANDSHAKE, accept_tls, count_handshake, peek_first_byte,
};
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::ClientConnection;
use crate::tls::{ClientStream as _, TlsAcceptor, TlsStream};

/// The beginning of a head that asks for a tunnel (RFC 9110 section 9.3.6).
const CONNECT: &[u8] = b"CONNECT ";
const FIRST_READ_BYTES: usize = 4096;

/// The stream of a port that serves only tunnels.
pub struct OpenedEndpoint {
    pub stream: TunnelEndpoint,
    /// deadline of the request head
    pub until: Instant,
}

/// Accepts TLS if there is an acceptor and the client begins with it.
pub async fn open(
    setup: ConnectionSetup<'_>,
    acceptor: Option<&TlsAcceptor>,
    stream: TcpStream,
    until: Instant,
) -> Option<OpenedEndpoint> {
    let plain = |stream| OpenedEndpoint { stream: plain_endpoint(stream), until };
    let Some(acceptor) = acceptor else { return Some(plain(stream)) };
    let stop = &setup.context.stop;
    let timeouts = setup.context.state.config.settings.timeout;
    let first_byte = peek_first_byte(&stream, timeouts.first_byte.min(timeouts.header));
    match stop.run_until_cancelled(first_byte).await? {
        Some(TLS_HANDSHAKE) => {
            let stream = stop.run_until_cancelled(accept_tls(setup, acceptor, stream)).await??;
            count_handshake(&setup.context.state.metrics, &stream.session(), setup.peer);
            Some(OpenedEndpoint { stream: tls_endpoint(stream), until: Instant::now() + timeouts.header })
        }
        // A client that sent nothing before the deadline gets the same 408 as one that sent half a head.
        Some(_) | None => Some(plain(stream)),
    }
}

/// The protocol of the first request of a TLS connection.
pub enum DetectedStream<'a> {
    Tunnel(TunnelClient<'a>),
    /// HTTP requests, and the bytes that were already read
    Requests(TlsStream, Bytes),
}

/// Reads the beginning of the first head. `None` if the connection has to close.
///
/// hyper would reject the head of a tunnel: a ticket is no valid authority (RFC 9112 section 3.2.3).
pub async fn detect<'a>(
    worker: &Worker,
    mut stream: TlsStream,
    client: &'a ClientConnection,
) -> Option<DetectedStream<'a>> {
    let until = Instant::now() + worker.context().state.config.settings.timeout.header;
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    let requested = tokio::select! {
        biased;
        () = worker.stop.cancelled() => return None,
        requested = requests_tunnel(&mut stream, &mut read) => requested?,
        // Half a method is refused like half a head.
        _ = client.timeouts.expired() => false,
    };
    if !requested {
        return Some(DetectedStream::Requests(stream, read.freeze()));
    }
    let stream = tls_endpoint(stream);
    Some(DetectedStream::Tunnel(TunnelClient { stream, early: read.to_vec(), client, until }))
}

/// Opens the tunnel that a client requests, and relays it until it ends.
pub(super) async fn serve_tunnel(worker: &Worker, mut client: TunnelClient<'_>) {
    let context = worker.context();
    let Some(rules) = &context.handlers.tunnels else { return };
    let trust = Rc::clone(&client.client.trust);
    let opening = tunnel::open(&context.state, rules, &mut client);
    let opening = Box::pin(trust.unless_evicted(&context.state.metrics, opening));
    let opened = worker.stop.run_until_cancelled(opening).await.flatten().flatten();
    drop(context); // a tunnel may outlive many configurations
    if let Some(tunnel) = opened {
        let denied = until_denied(worker, client.client, client.client.client_ip.address());
        let on = TunnelWorker { buffers: &worker.buffers.tunnel, stop: &worker.stop };
        tunnel.relay(client, on, denied).await;
    }
}

/// Whether the first bytes of a client ask for a tunnel; `None` if it closed before. Cancel safe: `read` keeps what was
/// read.
async fn requests_tunnel(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Option<bool> {
    while CONNECT.starts_with(read) {
        stream.read_buf(read).await.ok().filter(|length| *length > 0)?;
        if read.starts_with(CONNECT) {
            return Some(true);
        }
    }
    Some(false)
}

fn tls_endpoint(mut stream: TlsStream) -> TunnelEndpoint {
    tunnel::enable_keepalive(stream.socket());
    stream.set_release_buffers();
    Either::Right(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn half_a_word_is_kept_until_its_end() {
        let mut read = BytesMut::new();
        assert_eq!(requests_tunnel(&mut &b"CONN"[..], &mut read).now_or_never(), Some(None));
        assert_eq!(read, "CONN");
        assert_eq!(requests_tunnel(&mut &b"ECT a:1"[..], &mut read).now_or_never(), Some(Some(true)));
        assert_eq!(read, "CONNECT a:1");
        let mut read = BytesMut::new();
        assert_eq!(requests_tunnel(&mut &b"CONFIG /"[..], &mut read).now_or_never(), Some(Some(false)));
        assert_eq!(read, "CONFIG /");
    }
}

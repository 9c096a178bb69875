//! A connection that may become a tunnel: which of its bytes tell so, and whether they come over TLS.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::handler::tunnel;
use crate::handler::tunnel::{TunnelClient, TunnelEndpoint};
use crate::limits::unauthenticated::UnauthenticatedConnection;
use crate::net::acl::PeerIp;
use crate::proxy::request::ClientConnection;
use crate::proxy::tls_accept::{TLS_HANDSHAKE, first_byte, note, shake_hands};
use crate::server::{WorkerContext, WorkerThread};
use crate::state::shared::ListenerRules;
use crate::tls::{ClientStream as _, TlsAcceptor, TlsStream};

/// What a head begins with that asks for a tunnel (RFC 9110 section 9.3.6).
const CONNECT: &[u8] = b"CONNECT ";
/// Read at once of a first head.
const FIRST_READ: usize = 4096;

/// On the port that serves tunnels alone: the end for one, and when a head has to be there. Where there is no
/// certificate nobody looks for TLS.
pub(crate) async fn open(
    worker: &WorkerContext,
    acceptor: Option<&TlsAcceptor>,
    rules: &ListenerRules,
    (stream, until): (TcpStream, Instant),
    (peer, stranger): (PeerIp, &UnauthenticatedConnection),
) -> Option<(TunnelEndpoint, Instant)> {
    let Some(acceptor) = acceptor else { return Some((TunnelEndpoint::plain(stream), until)) };
    let timeouts = worker.engine.config.settings.timeout;
    let patience = timeouts.first_byte.min(timeouts.header);
    match worker.stop.run_until_cancelled(first_byte(&stream, patience)).await? {
        Some(TLS_HANDSHAKE) => {
            let shaking = shake_hands(acceptor, &rules.clients, stream, timeouts.handshake, (peer, stranger));
            let stream = worker.stop.run_until_cancelled(shaking).await??;
            note(&stream.session(), peer);
            Some((sealed(stream), Instant::now() + timeouts.header))
        }
        // Who has said nothing is told so as one who has said half.
        Some(_) | None => Some((TunnelEndpoint::plain(stream), until)),
    }
}

/// On the port for HTTPS: a tunnel where the first head asks for one, else the stream comes back with what was read of
/// it. The library for requests would refuse that head: a ticket is no host (RFC 9112 section 3.2.3).
pub(crate) async fn serve_if_one(
    thread: Rc<WorkerThread>,
    mut stream: TlsStream,
    client: Rc<ClientConnection>,
) -> Option<(TlsStream, Bytes)> {
    let until = Instant::now() + thread.worker().engine.config.settings.timeout.header;
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let begun = tokio::select! {
        biased;
        () = thread.stop.cancelled() => return None,
        begun = beginning(&mut stream, &mut read) => Some(begun),
        _ = client.clock.expired() => None,
    };
    // The first half of a word is refused as half a head is: with what came behind it, if that is there by now.
    let begun = begun.unwrap_or(DetectedProtocol::Request);
    match begun {
        DetectedProtocol::None => None,
        DetectedProtocol::Request => Some((stream, read.freeze())),
        DetectedProtocol::Connect => {
            let caller =
                TunnelClient { stream: sealed(stream), early: read.to_vec(), client: &client, until };
            tunnel::serve(&thread, caller).await;
            None
        }
    }
}

/// What a client has begun to ask.
#[derive(Debug, PartialEq)]
enum DetectedProtocol {
    /// it has closed
    None,
    Connect,
    Request,
}

/// What was read stays in `read`, also where nobody waits for the end.
async fn beginning(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> DetectedProtocol {
    loop {
        match stream.read_buf(read).await {
            Ok(1..) => (),
            Ok(0) | Err(_) => return DetectedProtocol::None,
        }
        if read.starts_with(CONNECT) {
            return DetectedProtocol::Connect;
        }
        if !CONNECT.starts_with(read) {
            return DetectedProtocol::Request;
        }
    }
}

fn sealed(mut stream: TlsStream) -> TunnelEndpoint {
    tunnel::enable_keepalive(stream.socket());
    stream.spare();
    TunnelEndpoint::Tls(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn half_a_word_is_kept_until_its_end() {
        let mut read = BytesMut::new();
        assert_eq!(beginning(&mut &b"CONN"[..], &mut read).now_or_never(), Some(DetectedProtocol::None));
        assert_eq!(read, "CONN");
        assert_eq!(
            beginning(&mut &b"ECT a:1"[..], &mut read).now_or_never(),
            Some(DetectedProtocol::Connect)
        );
        assert_eq!(read, "CONNECT a:1");
        let mut read = BytesMut::new();
        assert_eq!(
            beginning(&mut &b"CONFIG /"[..], &mut read).now_or_never(),
            Some(DetectedProtocol::Request)
        );
        assert_eq!(read, "CONFIG /");
    }
}

//! A connection that may become a tunnel: which of its bytes tell so, and whether they come over TLS.

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::handshake::{TLS_HANDSHAKE, first_byte, note, shake_hands};
use crate::acl::PeerIp;
use crate::handler::tunnel::{self, End};
use crate::server::Worker;
use crate::tls::{Acceptor, ClientStream as _, TlsStream};

/// On the port that serves tunnels alone: the end for one, and when a head has to be there. Where there is no
/// certificate nobody looks for TLS.
pub(super) async fn open(
    worker: &Worker,
    acceptor: Option<&Acceptor>,
    (stream, until): (TcpStream, Instant),
    peer: PeerIp,
) -> Option<(End, Instant)> {
    let Some(acceptor) = acceptor else { return Some((End::plain(stream), until)) };
    let timeouts = worker.engine.config.settings.timeout;
    let patience = timeouts.first_byte.min(timeouts.header);
    match worker.stop.run_until_cancelled(first_byte(&stream, patience)).await? {
        Some(TLS_HANDSHAKE) => {
            let shaking = shake_hands(acceptor, stream, timeouts.handshake, peer);
            let stream = worker.stop.run_until_cancelled(shaking).await??;
            note(&stream.session(), peer);
            Some((sealed(stream), Instant::now() + timeouts.header))
        }
        // Who has said nothing is told so as one who has said half.
        Some(_) | None => Some((End::plain(stream), until)),
    }
}

fn sealed(mut stream: TlsStream) -> End {
    tunnel::keep_alive(stream.socket());
    stream.spare();
    End::Sealed(Box::new(stream))
}

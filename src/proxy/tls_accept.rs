//! How a connection begins: its first byte, and TLS where that says so.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client_hello;
use crate::config::settings::{ClientAuthPolicy, ClientCertificates};
use crate::limits::unauthenticated::{ConnectionPhase, UnauthenticatedConnection};
use crate::metrics::counters;
use crate::metrics::labels::HandshakeResult;
use crate::net::acl::PeerIp;
use crate::server::WorkerContext;
use crate::state::shared::ListenerRules;
use crate::tls::{ClientIdentity, HandshakeError, TlsAcceptor, TlsSession, TlsStream};

/// A TLS record of type handshake (RFC 8446 section 5.1).
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

/// What requests come over.
pub(crate) enum AcceptedStream {
    Tls(TlsStream),
    Plain(TcpStream),
}

pub(crate) async fn open(
    worker: &WorkerContext,
    acceptor: &TlsAcceptor,
    rules: &ListenerRules,
    stream: TcpStream,
    (peer, stranger): (PeerIp, &UnauthenticatedConnection),
) -> Option<AcceptedStream> {
    let timeouts = worker.engine.config.settings.timeout;
    let first = worker.stop.run_until_cancelled(first_byte(&stream, timeouts.first_byte)).await??;
    if first == TLS_HANDSHAKE && rules.tls {
        let demand = &rules.clients;
        let shaken = shake_hands(acceptor, demand, stream, timeouts.handshake, (peer, stranger)).await;
        if shaken.is_none() && demand.mode == ClientCertificates::Required {
            worker.engine.note_refused_node(peer, &rules.name, "it has to show a certificate");
        }
        return shaken.map(AcceptedStream::Tls);
    }
    if first == TLS_HANDSHAKE {
        worker.engine.note_refused_node(peer, &rules.name, "there is no TLS at this listener");
    }
    if first.is_ascii_alphabetic() {
        return Some(AcceptedStream::Plain(stream));
    }
    tracing::debug!(peer = %peer.address(), first, listener = &*rules.name, "not what is spoken here");
    None
}

pub(crate) async fn shake_hands(
    acceptor: &TlsAcceptor,
    demand: &ClientAuthPolicy,
    stream: TcpStream,
    patience: Duration,
    (peer, stranger): (PeerIp, &UnauthenticatedConnection),
) -> Option<TlsStream> {
    let failed = |error: &_| {
        counters::shook_hands(HandshakeResult::Failed);
        tracing::debug!(peer = %peer.address(), %error, "TLS handshake failed");
    };
    let began = Instant::now();
    // A few bytes are to cost no more than their socket.
    match timeout(patience, client_hello::arrived(&stream)).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.address(), %error, "no TLS handshake");
            counters::shook_hands(HandshakeResult::Failed);
            return None;
        }
        Err(_) => {
            failed(&HandshakeError::Deadline(patience));
            return None;
        }
    }
    stranger.reach(ConnectionPhase::Handshake);
    let left = patience.saturating_sub(began.elapsed());
    acceptor.accept(demand, stream, left).await.inspect_err(failed).ok()
}

/// The byte that tells TLS from plain HTTP, left where it is.
pub(crate) async fn first_byte(stream: &TcpStream, patience: Duration) -> Option<u8> {
    let mut byte = [0];
    match timeout(patience, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => byte.first().copied(),
        Ok(_) | Err(_) => None,
    }
}

/// A handshake that has succeeded.
pub(crate) fn note(session: &TlsSession, peer: PeerIp) {
    counters::shook_hands(HandshakeResult::of(session.version, session.resumed));
    if let Some(ClientIdentity { subject, fingerprint, .. }) = session.identity.as_deref() {
        tracing::debug!(peer = %peer.address(), subject, fingerprint, "a client's certificate is good");
    }
}

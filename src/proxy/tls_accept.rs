//! The first byte of a connection, and the TLS handshake.

use std::fmt::Display;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client_hello;
use crate::config::settings::ClientCertificates;
use crate::limits::unauthenticated::{ConnectionPhase, UnauthenticatedConnection};
use crate::metrics::counters::Metrics;
use crate::metrics::labels::{HandshakeResult, LimitLabel};
use crate::net::acl::PeerIp;
use crate::os::log_limit::{self, LogTopic};
use crate::proxy::worker_context::{Worker, WorkerContext};
use crate::state::shared::ListenerRules;
use crate::tls::{ClientIdentity, HandshakeError, TlsAcceptor, TlsSession, TlsStream};

/// A TLS record of type handshake (RFC 8446 section 5.1).
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// The stream of HTTP requests.
pub enum AcceptedStream {
    Tls(TlsStream),
    Plain(TcpStream),
}

/// A connection while it is set up.
#[derive(Clone, Copy)]
pub struct ConnectionSetup<'a> {
    pub context: &'a WorkerContext,
    pub rules: &'a ListenerRules,
    pub peer: PeerIp,
    pub unauthenticated: &'a UnauthenticatedConnection,
    /// the one that serves the connection
    pub worker: &'a Worker,
}

/// Accepts TLS if the client begins with it. `None` if the connection has to close.
pub async fn open(
    setup: ConnectionSetup<'_>,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<AcceptedStream> {
    let ConnectionSetup { context, rules, peer, .. } = setup;
    let limit = context.state.config.settings.timeout.first_byte;
    let first = context.stop.run_until_cancelled(peek_first_byte(&stream, limit)).await??;
    if first == TLS_HANDSHAKE && rules.settings.tls {
        let stream = accept_tls(setup, acceptor, stream).await;
        if stream.is_none() && rules.settings.clients.mode == ClientCertificates::Required {
            context.state.note_refused_node(peer, &rules.settings.name, "it has to show a certificate");
        }
        return stream.map(AcceptedStream::Tls);
    }
    if first == TLS_HANDSHAKE {
        context.state.note_refused_node(peer, &rules.settings.name, "this listener has no TLS");
    }
    if first.is_ascii_alphabetic() {
        return Some(AcceptedStream::Plain(stream));
    }
    tracing::debug!(peer = %peer.address(), first, listener = &*rules.settings.name, "neither TLS nor HTTP");
    None
}

/// Accepts TLS before the deadline. A failure is counted.
pub(super) async fn accept_tls(
    setup: ConnectionSetup<'_>,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<TlsStream> {
    let limit = setup.context.state.config.settings.timeout.handshake;
    let failed = |error: &dyn Display| {
        setup.context.state.metrics.tls_handshakes[HandshakeResult::Failed].inc();
        tracing::debug!(peer = %setup.peer.address(), %error, "TLS handshake failed");
    };
    let deadline = Instant::now() + limit;
    // A client that sent no whole ClientHello costs no TLS state.
    match timeout_at(deadline, client_hello::arrived(&stream)).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => {
            failed(&error);
            return None;
        }
        Err(_) => {
            failed(&HandshakeError::Deadline(limit));
            return None;
        }
    }
    match setup.unauthenticated.reserve_handshake(limit / 2) {
        Some(Duration::ZERO) => (),
        Some(delay) => sleep(delay).await,
        None => {
            setup.context.state.metrics.count_limit(LimitLabel::Handshakes);
            return None;
        }
    }
    setup.unauthenticated.set_phase(ConnectionPhase::Handshake);
    let policy = &setup.rules.settings.clients;
    let handshake = acceptor.accept(policy, stream, &setup.worker.buffers.tls);
    let accepted = timeout_at(deadline, setup.worker.handshake_turn.run(handshake)).await;
    accepted
        .unwrap_or(Err(HandshakeError::Deadline(limit)))
        .inspect_err(|error| {
            failed(error);
            note_client_certificate(setup, error);
        })
        .ok()
}

/// Logs a rejected client certificate: its user only sees that the connection closes.
fn note_client_certificate(setup: ConnectionSetup<'_>, error: &HandshakeError) {
    let Some(fault) = error.certificate_fault() else { return };
    let (peer, listener) = (setup.peer.address(), &*setup.rules.settings.name);
    let site = log_limit::site(peer).to_string();
    if let Some(left_out) = log_limit::is_due(LogTopic::ClientCertificate, &site) {
        tracing::warn!(%peer, listener, "client certificate rejected: {fault}{left_out}");
    }
}

/// The byte that tells TLS from plain HTTP. It stays in the socket.
pub(super) async fn peek_first_byte(stream: &TcpStream, limit: Duration) -> Option<u8> {
    let mut byte = [0];
    match timeout(limit, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => byte.first().copied(),
        Ok(_) | Err(_) => None,
    }
}

/// Counts a successful handshake.
pub(super) fn count_handshake(metrics: &Metrics, session: &TlsSession, peer: PeerIp) {
    metrics.tls_handshakes[HandshakeResult::new(session.version, session.resumed)].inc();
    if let Some(ClientIdentity { subject, fingerprint, .. }) = session.identity.as_deref() {
        tracing::debug!(peer = %peer.address(), subject, fingerprint, "client certificate verified");
    }
}

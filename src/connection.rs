//! One connection, top to bottom: may this address connect, TLS or not, then request after request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::acl::PeerIp;
use crate::clock::{Clock, Clocked, Expired};
use crate::engine::{Engine, Speaks};
use crate::handler::tunnel;
use crate::handler::websocket::bridge;
use crate::request::{self, Client};
use crate::response::access_log::Entry;
use crate::server::Worker;
use crate::tls::Acceptor;

/// A TLS record of type handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// More than any head we accept, so that it can be refused with a reason.
const READ_BUFFER: usize = 128 << 10;
const LAST_WORDS: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\
Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 39\r\n\r\nthe request head did not arrive in time";

/// Serves one accepted connection until it ends.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, address: SocketAddr) {
    let engine = Arc::clone(&worker.engine);
    let peer = PeerIp::new(address.ip());
    if !engine.config.settings.acl.admits(peer) {
        return turn_away(&engine, peer);
    }
    match &engine.speaks {
        Speaks::Connect(rules) => tunnel::serve(&worker, rules, stream, peer).await,
        Speaks::Https(acceptor) => serve_https(worker, acceptor, stream, peer).await,
    }
}

fn turn_away(engine: &Engine, peer: PeerIp) {
    tracing::debug!(peer = %peer.address(), "turned away by the ACL");
    log_without_request(engine, peer, 403);
}

/// For what was answered before there was a request.
fn log_without_request(engine: &Engine, peer: PeerIp, status: u16) {
    engine.log.write(&Entry { client: peer.address(), user: None, request: "-", status, bytes: None });
}

/// What hyper has answered by itself, with an empty body; it does not tell a long target from a large head.
fn status_by_hyper(error: &hyper::Error) -> Option<u16> {
    if error.is_parse_too_large() {
        Some(431)
    } else if error.is_parse() {
        Some(400)
    } else {
        None
    }
}

async fn serve_https(worker: Rc<Worker>, acceptor: &Acceptor, stream: TcpStream, peer: PeerIp) {
    let patience = worker.engine.config.settings.timeout.header;
    let first = worker.stop.run_until_cancelled(first_byte(&stream, patience)).await;
    let Some(first) = first.flatten() else { return };
    if first == TLS_HANDSHAKE {
        match acceptor.accept(stream, patience).await {
            Ok(stream) => serve_http(worker, stream, peer, true).await,
            Err(error) => tracing::debug!(peer = %peer.address(), %error, "TLS handshake failed"),
        }
    } else if first.is_ascii_alphabetic() {
        serve_http(worker, stream, peer, false).await;
    } else {
        tracing::debug!(peer = %peer.address(), first, "neither TLS nor HTTP");
    }
}

/// The byte that tells TLS from plain HTTP, left where it is.
async fn first_byte(stream: &TcpStream, patience: Duration) -> Option<u8> {
    let mut byte = [0];
    match timeout(patience, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => byte.first().copied(),
        Ok(_) | Err(_) => None,
    }
}

async fn serve_http<S>(worker: Rc<Worker>, stream: S, peer: PeerIp, encrypted: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let timeouts = &worker.engine.config.settings.timeout;
    let clock = Arc::new(Clock::new(timeouts.header, timeouts.idle));
    let client = Rc::new(Client { peer, encrypted, clock: Arc::clone(&clock), console: RefCell::new(None) });
    let stop = worker.stop.clone();
    let ping = worker.engine.config.settings.console_ping;
    let (asking, serving) = (Rc::clone(&client), Rc::clone(&worker));
    let service = service_fn(move |request| {
        let answered = request::handle(Rc::clone(&serving), Rc::clone(&asking), request);
        async move { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let io = TokioIo::new(Clocked::new(stream, Arc::clone(&clock)));
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(READ_BUFFER)
        .serve_connection(io, service);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %peer.address(), %error, "connection ended");
                    if let Some(status) = status_by_hyper(&error) {
                        log_without_request(&worker.engine, peer, status);
                    }
                    linger(connection.into_parts().io.into_inner()).await;
                    return;
                }
                break;
            }
            cause = clock.expired() => {
                tracing::debug!(peer = %peer.address(), ?cause, "connection timed out");
                if cause == Expired::Head {
                    log_without_request(&worker.engine, peer, 408);
                }
                let mut stream = connection.into_parts().io.into_inner();
                return match cause {
                    Expired::Head => say_last_words(&mut stream, REQUEST_TIMEOUT).await,
                    Expired::Idle => say_last_words(&mut stream, b"").await,
                    Expired::Write => (),
                };
            }
        }
    }
    // After a 101 hyper leaves the stream open; there is a console to bridge it to.
    let console = client.console.take();
    if let Some(console) = console {
        let parts = connection.into_parts();
        let stream = parts.io.into_inner().into_inner();
        bridge::run(stream, parts.read_buf, console, ping, &stop).await;
    }
}

/// Closes, but takes in what is still being sent: else the client's system would throw away the answer that says
/// what was wrong with it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = timeout(LAST_WORDS, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    })
    .await;
}

/// Writes and closes, for as long as that may take at most.
async fn say_last_words<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(LAST_WORDS, async {
        stream.write_all(words).await?;
        stream.shutdown().await
    })
    .await;
}

//! One connection, top to bottom: may this address connect, TLS or not, then request after request.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::handler::console::relay;
use crate::handler::console::target::ConnectedConsole;
use crate::handler::tunnel;
use crate::handler::tunnel::TunnelClient;
use crate::http::request_body::RequestBody;
use crate::metrics::counters;
use crate::os::memory;
use crate::proxy::admission::{AdmittedConnection, log_without_request, turn_away};
use crate::proxy::close::{explain, say_last_words, turn_out};
use crate::proxy::http2;
use crate::proxy::http2::ConnectionEnd;
use crate::proxy::recheck::until_denied;
use crate::proxy::request;
use crate::proxy::request::{Admission, ClientConnection, unless_turned_out};
use crate::proxy::tls_accept::{AcceptedStream, note, open};
use crate::server::{AcceptedConnection, WorkerThread};
use crate::state::shared::PortProtocol;
use crate::time::client_timeouts::{TimedOut, TimedStream};
use crate::tls::{ClientStream, TlsStream};

/// More than any head we accept, so that it can be refused with a reason.
const READ_BUFFER: usize = 72 << 10;

/// Serves one accepted connection until it ends.
///
/// Three boxes release at rest what an idle connection does not need: its opening, each stretch of requests, and a
/// console. Between them the task holds the stream, the client and one deadline.
pub async fn serve(thread: Rc<WorkerThread>, arrived: AcceptedConnection) {
    let _open = counters::ConnectionCount::new();
    let opening = Box::pin(begin(Rc::clone(&thread), arrived));
    let Some(OpenConnection { stream, early, client }) = opening.await else { return };
    match stream {
        AcceptedStream::Tls(stream) => serve_http(thread, stream, early, client).await,
        AcceptedStream::Plain(stream) => serve_http(thread, stream, early, client).await,
    }
}

/// A connection on which one HTTP/1 request after the other may come.
struct OpenConnection {
    stream: AcceptedStream,
    /// read of the first one already
    early: Bytes,
    client: Rc<ClientConnection>,
}

/// Lets it in, finds out what is spoken on it, and serves all of it that is not one HTTP/1 request after the other.
async fn begin(
    thread: Rc<WorkerThread>,
    AcceptedConnection { worker, rules, stream, address }: AcceptedConnection,
) -> Option<OpenConnection> {
    let AdmittedConnection { stream, who, place, excess } =
        crate::proxy::admission::enter(&worker, &rules, stream, address).await?;
    let peer = who.peer;
    let engine = &worker.engine;
    let stranger = Arc::new(engine.stranger(&rules, peer, excess.is_none()));
    let acceptor = match &engine.speaks {
        PortProtocol::Https(acceptor) => acceptor,
        PortProtocol::Connect(acceptor) => {
            let until = Instant::now() + engine.config.settings.timeout.header;
            let opening = crate::proxy::connect_detect::open(
                &worker,
                acceptor.as_ref(),
                &rules,
                (stream, until),
                (peer, &stranger),
            );
            let (stream, until) = unless_turned_out(&stranger, opening).await??;
            let client =
                ClientConnection::new(who, None, Admission { place, excess, stranger }, &worker, rules)
                    .ok()?;
            drop(worker);
            let caller = TunnelClient { stream, early: Vec::new(), client: &client, until };
            tunnel::serve(&thread, caller).await;
            return None;
        }
    };
    let opening = open(&worker, acceptor, &rules, stream, (peer, &stranger));
    let stream = unless_turned_out(&stranger, opening).await??;
    let tls = match &stream {
        AcceptedStream::Tls(stream) => Some(stream.session()),
        AcceptedStream::Plain(_) => None,
    };
    if let Some(session) = &tls {
        note(session, peer);
    }
    let has_tunnels = engine.tunnels.is_some() && rules.class.is_none();
    let client = ClientConnection::new(who, tls, Admission { place, excess, stranger }, &worker, rules)
        .map(Rc::new)
        .ok()?;
    drop(worker); // a connection may outlive many configurations
    match stream {
        AcceptedStream::Tls(stream) if stream.speaks_http2() => {
            serve_http2(thread, stream, client).await;
            None
        }
        AcceptedStream::Tls(stream) if has_tunnels => {
            let serving = crate::proxy::connect_detect::serve_if_one(thread, stream, Rc::clone(&client));
            let (stream, early) = serving.await?;
            Some(OpenConnection { stream: AcceptedStream::Tls(stream), early, client })
        }
        AcceptedStream::Tls(_) | AcceptedStream::Plain(_) => {
            Some(OpenConnection { stream, early: Bytes::new(), client })
        }
    }
}

/// The access list has changed, and admits this client no longer: the connection closes before its request is read.
#[derive(Debug, thiserror::Error)]
#[error("turned away: no longer admitted")]
struct TurnedAway;

/// How a stretch of requests ended that could not simply be closed.
enum RequestLoopEnd<S> {
    /// nothing was asked for a while; what was read of a next head goes before the stream
    Quiet(S, Bytes),
    /// the connection now belongs to a console; what the client has sent it already goes before the stream
    Bridged(S, Bytes, ConnectedConsole),
}

/// Many requests at once; how they end is logged here.
async fn serve_http2(thread: Rc<WorkerThread>, stream: TlsStream, client: Rc<ClientConnection>) {
    let ended = http2::serve(&thread, stream, &client).await;
    memory::count_released_connection();
    match ended {
        ConnectionEnd::Closed => (),
        ConnectionEnd::NoRequest => log_without_request(&thread.worker().engine, client.peer, 408),
        ConnectionEnd::TurnedAway(denied) => {
            turn_away(&thread.worker().engine, client.peer, &client.listener(), denied);
        }
    }
}

/// Serves requests until the connection ends. `early` was read before and goes first.
async fn serve_http<S>(
    thread: Rc<WorkerThread>,
    mut stream: S,
    mut early: Bytes,
    client: Rc<ClientConnection>,
) where
    S: ClientStream + 'static,
{
    let bridge = loop {
        (stream, early) = {
            let left = Box::pin(serve_requests(&thread, &client, stream, early)).await;
            memory::count_released_connection();
            match left {
                None => return,
                Some(RequestLoopEnd::Quiet(stream, early)) => (stream, early),
                Some(RequestLoopEnd::Bridged(mut stream, early, console)) => {
                    stream.spare();
                    let ping = thread.worker().engine.config.settings.console_ping;
                    let denied = until_denied(&thread, &client, console.listed.client);
                    break Box::pin(relay::run(stream, early, console, ping, (&thread.stop, denied)));
                }
            }
        };
        stream.rest();
        if early.is_empty() {
            early = Bytes::new(); // else it keeps its memory
        }
        let asks_again = poll_fn(|context| {
            if early.is_empty() { stream.socket().poll_read_ready(context) } else { Poll::Ready(Ok(())) }
        });
        let asks_again = tokio::select! {
            biased;
            () = thread.stop.cancelled() => false,
            asks_again = asks_again => asks_again.is_ok(),
            _ = client.clock.expired() => false,
        };
        if !asks_again {
            tracing::debug!(peer = %client.peer.address(), "quiet connection closed");
            return say_last_words(&mut stream, b"").await;
        }
    };
    bridge.await;
}

/// Requests until the connection ends, is bridged, or its client has nothing to ask for a while.
async fn serve_requests<S>(
    thread: &Rc<WorkerThread>,
    client: &Rc<ClientConnection>,
    stream: S,
    early: Bytes,
) -> Option<RequestLoopEnd<S>>
where
    S: ClientStream + 'static,
{
    let (asking, serving) = (Rc::clone(client), Rc::clone(thread));
    // Each request goes by the configuration of its moment, which may be a newer one than the connection's.
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, client) = (serving.worker(), Rc::clone(&asking));
        client.clock.understood(request.body().size_hint().exact());
        async move {
            if let Some(denied) = client.denial(&worker) {
                turn_away(&worker.engine, client.peer, &client.listener(), denied);
                return Err(TurnedAway);
            }
            Ok(request::handle(worker, client, request.map(RequestBody::Http1)).await)
        }
    });
    let io = TokioIo::new(TimedStream::http1(stream, early, Arc::clone(&client.clock)));
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(READ_BUFFER)
        .serve_connection(io, service);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            () = thread.stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended = &mut connection => {
                let parts = connection.into_parts();
                let left = parts.io.into_inner().into_parts();
                if let Err(error) = ended {
                    explain(&thread.worker(), client, &error, (left, &parts.read_buf)).await;
                    return None;
                }
                // After a 101 hyper leaves the stream open; there is a console to bridge it to.
                let console = *client.console.take()?;
                return Some(RequestLoopEnd::Bridged(left.stream, joined(parts.read_buf, left.early), console));
            }
            cause = client.clock.expired_or_quiet() => {
                let parts = connection.into_parts();
                let left = parts.io.into_inner().into_parts();
                if cause == TimedOut::Quiet {
                    return Some(RequestLoopEnd::Quiet(left.stream, joined(parts.read_buf, left.early)));
                }
                turn_out(&thread.worker(), client, left, cause).await;
                return None;
            }
        }
    }
}

/// What was read, in its order.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, _) => second,
        (false, false) => [first, second].concat().into(),
    }
}

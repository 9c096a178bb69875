//! One connection, from top to bottom: admission, TLS, then request after request.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::handler::console::relay::{self, ConsoleRelay};
use crate::handler::console::target::ConnectedConsole;
use crate::handler::tunnel::TunnelClient;
use crate::http::logged_body::LoggedBody;
use crate::http::request_body::RequestBody;
use crate::metrics::counters::ConnectionCount;
use crate::os::memory;
use crate::proxy::admission::{
    AcceptedConnection, AdmittedConnection, admit, log_without_request, reject_client,
};
use crate::proxy::close::{close_after_error, close_after_timeout, write_and_close};
use crate::proxy::connect_detect::{self, DetectedStream, OpenedEndpoint};
use crate::proxy::http2::{self, ConnectionEnd};
use crate::proxy::recheck::until_denied;
use crate::proxy::request;
use crate::proxy::tls_accept::{self, AcceptedStream};
use crate::proxy::worker_context::Worker;
use crate::state::client_connection::ClientConnection;
use crate::state::connection_trust::unless_evicted;
use crate::state::shared::PortProtocol;
use crate::time::client_timeouts::{TimedOut, TimedStream};
use crate::tls::{ClientStream, TlsStream};

/// Larger than every head that nodegate accepts, so that it can reject a larger one with a reason.
const READ_BUFFER_BYTES: usize = 72 << 10;

/// Serves one accepted connection until it ends.
///
/// Three boxes release at rest what an idle connection does not need: its opening, each series of requests, and a
/// console. Between them the task holds the stream, the client and one deadline.
pub async fn serve(worker: Rc<Worker>, accepted: AcceptedConnection) {
    let _open = ConnectionCount::new(&accepted.context.state.metrics);
    let opening = Box::pin(open(&worker, accepted));
    let Some(OpenConnection { stream, early, client }) = opening.await else { return };
    match stream {
        AcceptedStream::Tls(stream) => serve_http1(worker, client, stream, early).await,
        AcceptedStream::Plain(stream) => serve_http1(worker, client, stream, early).await,
    }
}

/// A connection for HTTP/1 requests.
struct OpenConnection {
    stream: AcceptedStream,
    /// bytes of the first request that were already read
    early: Bytes,
    client: Rc<ClientConnection>,
}

/// Admits the client, accepts TLS and detects the protocol. Tunnels and HTTP/2 are served here to their end.
async fn open(worker: &Rc<Worker>, accepted: AcceptedConnection) -> Option<OpenConnection> {
    let AdmittedConnection { context, rules, stream, addresses, admission } = admit(accepted).await?;
    let peer = addresses.client;
    let state = &context.state;
    let unauthenticated = Arc::clone(&admission.unauthenticated);
    let setup = tls_accept::ConnectionSetup {
        context: &context,
        rules: &rules,
        peer,
        unauthenticated: &unauthenticated,
        worker,
    };
    let acceptor = match &state.port_protocol {
        PortProtocol::Https(acceptor) => acceptor,
        PortProtocol::Connect(acceptor) => {
            let until = Instant::now() + state.config.settings.timeout.header;
            let opening = connect_detect::open(setup, acceptor.as_ref(), stream, until);
            let OpenedEndpoint { stream, until } =
                unless_evicted(&unauthenticated, &state.metrics, opening).await??;
            let client = ClientConnection::new(addresses, None, admission, state, rules).ok()?;
            drop(context); // a tunnel may outlive many configurations
            let tunnel = TunnelClient { stream, early: Vec::new(), client: &client, until };
            connect_detect::serve_tunnel(worker, tunnel).await;
            return None;
        }
    };
    let opening = tls_accept::open(setup, acceptor, stream);
    let stream = unless_evicted(&unauthenticated, &state.metrics, opening).await??;
    let session = if let AcceptedStream::Tls(stream) = &stream { Some(stream.session()) } else { None };
    if let Some(session) = &session {
        tls_accept::count_handshake(&state.metrics, session, peer);
    }
    let has_tunnels = context.handlers.tunnels.is_some() && rules.scope.is_none();
    let client = Rc::new(ClientConnection::new(addresses, session, admission, state, rules).ok()?);
    drop(context); // a connection may outlive many configurations
    match stream {
        AcceptedStream::Tls(stream) if stream.speaks_http2() => {
            serve_http2(worker, stream, client).await;
            None
        }
        AcceptedStream::Tls(stream) if has_tunnels => {
            let detected = connect_detect::detect(worker, stream, &client).await?;
            match detected {
                DetectedStream::Tunnel(tunnel) => {
                    connect_detect::serve_tunnel(worker, tunnel).await;
                    None
                }
                DetectedStream::Requests(stream, early) => {
                    Some(OpenConnection { stream: AcceptedStream::Tls(stream), early, client })
                }
            }
        }
        AcceptedStream::Tls(_) | AcceptedStream::Plain(_) => {
            Some(OpenConnection { stream, early: Bytes::new(), client })
        }
    }
}

/// Serves HTTP/2 until the connection ends, and logs an end without a request.
async fn serve_http2(worker: &Rc<Worker>, stream: TlsStream, client: Rc<ClientConnection>) {
    let ended = http2::serve(worker, stream, &client).await;
    memory::count_released_connection();
    let state = Arc::clone(&worker.context().state);
    match ended {
        ConnectionEnd::Closed => (),
        ConnectionEnd::NoRequest => log_without_request(&state, client.client_ip, 408),
        ConnectionEnd::TurnedAway(denied) => {
            reject_client(&state, client.client_ip, &client.listener(), denied);
        }
    }
}

/// Serves HTTP/1 requests until the connection ends. `early` was read from the stream before.
async fn serve_http1<S>(worker: Rc<Worker>, client: Rc<ClientConnection>, mut stream: S, mut early: Bytes)
where
    S: ClientStream + 'static,
{
    loop {
        let end = Box::pin(serve_requests(&worker, &client, stream, early)).await;
        memory::count_released_connection();
        (stream, early) = match end {
            RequestLoopEnd::Closed => return,
            RequestLoopEnd::Idle(stream, early) => (stream, early),
            RequestLoopEnd::Upgraded(stream, early, console) => {
                return Box::pin(relay_console(&worker, &client, stream, early, *console)).await;
            }
        };
        stream.release_buffers();
        if early.is_empty() {
            early = Bytes::new(); // an empty slice keeps its buffer alive
        }
        if !next_request_begins(&worker, &client, &mut stream, &early).await {
            tracing::debug!(peer = %client.client_ip.address(), "idle connection closed");
            return write_and_close(&mut stream, b"").await;
        }
    }
}

/// How a series of requests ended.
enum RequestLoopEnd<S> {
    Closed,
    /// no request for a while; the bytes of a next head were read before the stream
    Idle(S, Bytes),
    /// the connection belongs to a console; the bytes were read before the stream
    Upgraded(S, Bytes, Box<ConnectedConsole>),
}

/// The client is no longer admitted. hyper closes the connection before it answers.
#[derive(Debug, thiserror::Error)]
#[error("the client is no longer admitted")]
struct NoLongerAdmitted;

/// Serves requests until the connection ends, is upgraded, or is idle for a while.
async fn serve_requests<S>(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    stream: S,
    early: Bytes,
) -> RequestLoopEnd<S>
where
    S: ClientStream + 'static,
{
    // hyper takes only the response of a service, so the upgrade stays here.
    let upgrade = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        // Now, not in the future: hyper may read of the body before it polls that.
        client.timeouts.set_body_length(request.body().size_hint().exact());
        serve_request(worker, client, request, &upgrade)
    });
    let io = TokioIo::new(TimedStream::http1(stream, early, Rc::clone(&client.timeouts)));
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(io, service);
    let mut stopping = false;
    let outcome = loop {
        tokio::select! {
            biased;
            () = worker.stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            ended = &mut connection => break Ok(ended),
            cause = client.timeouts.expired_or_hibernate() => break Err(cause),
        }
    };
    let parts = connection.into_parts();
    let left = parts.io.into_inner().into_parts();
    match outcome {
        // After a 101 hyper leaves the stream open.
        Ok(Ok(())) => match upgrade.take() {
            Some(console) => {
                RequestLoopEnd::Upgraded(left.stream, joined(parts.read_buf, left.early), console)
            }
            None => RequestLoopEnd::Closed,
        },
        Ok(Err(error)) => {
            close_after_error(&worker.context(), client, &error, left, &parts.read_buf).await;
            RequestLoopEnd::Closed
        }
        Err(TimedOut::Hibernate) => RequestLoopEnd::Idle(left.stream, joined(parts.read_buf, left.early)),
        Err(cause) => {
            close_after_timeout(&worker.context(), client, left, cause).await;
            RequestLoopEnd::Closed
        }
    }
}

/// Answers one request under the configuration in effect, which may be newer than the connection.
async fn serve_request(
    worker: &Worker,
    client: &Rc<ClientConnection>,
    request: Request<Incoming>,
    upgrade: &Cell<Option<Box<ConnectedConsole>>>,
) -> Result<Response<LoggedBody>, NoLongerAdmitted> {
    let context = worker.context();
    if let Some(lost) = client.admission_lost(&context.state, context.generation) {
        reject_client(&context.state, client.client_ip, &client.listener(), lost);
        return Err(NoLongerAdmitted);
    }
    let answer = request::handle(context, Rc::clone(client), request.map(RequestBody::Http1)).await;
    upgrade.set(answer.upgrade);
    Ok(answer.response)
}

/// Whether the client sends another request before the idle timeout.
async fn next_request_begins<S: ClientStream>(
    worker: &Worker,
    client: &ClientConnection,
    stream: &mut S,
    early: &Bytes,
) -> bool {
    let readable = poll_fn(|context| {
        if early.is_empty() { stream.socket().poll_read_ready(context) } else { Poll::Ready(Ok(())) }
    });
    tokio::select! {
        biased;
        () = worker.stop.cancelled() => false,
        readable = readable => readable.is_ok(),
        _ = client.timeouts.expired() => false,
    }
}

/// Relays a console until one end closes, the client is no longer admitted, or nodegate stops.
async fn relay_console<S: ClientStream>(
    worker: &Worker,
    client: &ClientConnection,
    mut stream: S,
    early: Bytes,
    console: ConnectedConsole,
) {
    stream.set_release_buffers();
    let ping = worker.context().state.config.settings.console_ping;
    let denied = until_denied(worker, client, console.listed.client);
    let console = ConsoleRelay { console, early, ping, buffers: &worker.buffers.console };
    relay::run(stream, console, &worker.stop, denied).await;
}

/// The bytes of both, in the order in which they were read.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, _) => second,
        (false, false) => [first, second].concat().into(),
    }
}

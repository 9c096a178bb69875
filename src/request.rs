//! Step 4: one request, from its head to its answer. Read `answer` top to bottom: every `?` is a refusal.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, ETAG, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};

use crate::acl::PeerIp;
use crate::clock::Clock;
use crate::config::settings::Limits;
use crate::engine::Engine;
use crate::gate::{Denial, Gate, Identity};
use crate::handler::static_file::StaticError;
use crate::handler::websocket::{self, console::Console};
use crate::handler::{api, redirect};
use crate::response::body::{self, Body};
use crate::response::refusal::{Form, Refusal};
use crate::response::{LoggedBody, Record};
use crate::route::Route;
use crate::server::Worker;
use crate::target::{ApiPath, Target};

/// What a refused login waits for, counted from the beginning of the request.
const LOGIN_DELAY: Duration = Duration::from_secs(3);
/// An unread body is taken in for this long and to this size, so that the client reads the answer.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_BYTES: usize = 64 << 20;

/// The connection that a request came on.
pub struct Client {
    pub peer: PeerIp,
    /// without TLS every request is redirected
    pub encrypted: bool,
    pub clock: Arc<Clock>,
    /// what the connection is bridged to once the answer is out
    pub console: RefCell<Option<Console>>,
}

/// Answers one request; cannot fail.
pub async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<LoggedBody> {
    let started = Instant::now();
    client.clock.asked();
    let engine = &worker.engine;
    let form = Form::of(request.uri().path());
    let (head, body) = request.into_parts();
    let mut record = Record {
        client: engine.real_ip(client.peer, &head.headers),
        user: None,
        request: request_line(&head),
    };
    let mut body = Some(body);
    let outcome = if client.encrypted {
        answer(&worker, &client, &head, &mut body, &mut record).await
    } else {
        redirect::to_https(&head)
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            drain(body, &head.headers);
            refuse(refusal, form, started, &mut record).await
        }
    };
    let cacheable = response.headers().contains_key(ETAG);
    engine.common.add_to(&mut response, cacheable);
    LoggedBody::wrap(response, record, Arc::clone(&engine.log), Arc::clone(&client.clock))
}

async fn answer(
    worker: &Worker,
    client: &Client,
    head: &Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Response<Body>, Refusal> {
    let engine = &worker.engine;
    check_size(&head.headers, &engine.config.settings.limits)?;
    check_host(head)?;
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(allowed(API_METHODS));
    }
    let target = Target::parse(head.uri.path())?;
    let query = head.uri.query().unwrap_or_default();
    match &target {
        Target::Api(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(API_METHODS));
            }
            check_api_method(&head.method)?;
            let gate = engine.gate.as_ref().ok_or(Refusal::NoSuchUri)?;
            let identity = pass(gate, head, path)?;
            record.user.clone_from(&identity.user);
            let route = engine
                .routes
                .resolve(&head.method, &target, query, &engine.nodes)
                .map_err(|error| Refusal::nodes(&error))?;
            run_api(worker, client, head, &identity, route, path, body).await
        }
        Target::NoSuchUri => Err(Refusal::NoSuchUri),
        Target::Path(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(FILE_METHODS));
            }
            let route = engine
                .routes
                .resolve(&head.method, &target, query, &engine.nodes)
                .map_err(|error| Refusal::nodes(&error))?;
            run_file(engine, head, route, path).await
        }
    }
}

async fn run_api(
    worker: &Worker,
    client: &Client,
    head: &Parts,
    identity: &Identity,
    route: Route,
    path: &ApiPath,
    body: &mut Option<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let engine = &worker.engine;
    let call = |body| api::Call {
        head,
        target: path.upstream_target(head.uri.query()),
        identity,
        client: client.peer.address(),
        body,
    };
    match route {
        Route::Node(_) | Route::Master(_) if engine.backend_headers.is_looped(&head.headers) => {
            Err(Refusal::Loop)
        }
        Route::Node(name) | Route::Master(name) => {
            let upstream = engine.peer(&name)?;
            let body = read_body(engine, head, body).await?;
            api::call(engine, &upstream, call(body)).await
        }
        Route::Daemon | Route::Unprivileged => {
            let body = read_body(engine, head, body).await?;
            api::call(engine, worker.local(&route), call(body)).await
        }
        Route::UnknownNode(node) => {
            let known = engine.nodes.current().map_err(|error| Refusal::nodes(&error))?.names();
            Err(Refusal::UnknownNode { node, known })
        }
        Route::Upload => Err(Refusal::NotServed("uploads are")),
        Route::Websocket => {
            let body = read_body(engine, head, body).await?;
            let upstream = worker.local(&Route::Unprivileged);
            if websocket::handshake::is_asked_for(&head.headers) {
                websocket::open(engine, upstream, client, call(body)).await
            } else {
                api::call(engine, upstream, call(body)).await
            }
        }
        Route::NoSuchUri | Route::Page | Route::Static(_) | Route::Missing(_) => Err(Refusal::NoSuchUri),
    }
}

async fn run_file(
    engine: &Engine,
    head: &Parts,
    route: Route,
    path: &str,
) -> Result<Response<Body>, Refusal> {
    let is_head = head.method == Method::HEAD;
    if matches!(route, Route::Page | Route::Static(_)) && !is_head && head.method != Method::GET {
        return Err(Refusal::MethodNotAllowed { method: head.method.clone(), allow: FILE_METHODS });
    }
    match route {
        Route::Static(located) => {
            engine.routes.files.serve(&located, is_head, &head.headers).await.map_err(|error| match error {
                StaticError::NotFound => Refusal::NotFound(path.to_owned()),
                StaticError::RangeNotSatisfiable { size } => Refusal::Range { size },
                StaticError::Unreadable(error) => {
                    tracing::warn!(path, %error, "a static file cannot be read");
                    Refusal::Internal("the file cannot be read".to_owned())
                }
            })
        }
        Route::Page => Err(Refusal::NotServed("pages are")),
        Route::Missing(path) => Err(Refusal::NotFound(path)),
        Route::Daemon
        | Route::Unprivileged
        | Route::Node(_)
        | Route::Master(_)
        | Route::UnknownNode(_)
        | Route::Upload
        | Route::Websocket
        | Route::NoSuchUri => Err(Refusal::NoSuchUri),
    }
}

const API_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
const FILE_METHODS: &str = "GET, HEAD, OPTIONS";

fn allowed(methods: &'static str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// `: ` and the line end.
const AROUND_A_HEADER: usize = 4;

/// Lines and bytes of the header block, the request line not counted.
fn check_size(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    if headers.len() > limits.headers {
        return Err(Refusal::HeaderTooLarge { what: "too many lines", limit: limits.headers });
    }
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND_A_HEADER).sum();
    if bytes > limits.header {
        return Err(Refusal::HeaderTooLarge { what: "too many bytes", limit: limits.header });
    }
    Ok(())
}

/// Exactly one Host, and the one of an absolute target (RFC 9112 section 3.2). HTTP/1.0 may come without.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Refusal::BadRequest("more than one Host header")),
        (Some(host), None) => host.to_str().unwrap_or_default(),
        (None, _) if head.version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(Refusal::BadRequest("Host header missing")),
    };
    match host.parse::<http::uri::Authority>() {
        Ok(authority) if !host.contains('@') => match head.uri.authority() {
            Some(target) if !target.as_str().eq_ignore_ascii_case(authority.as_str()) => {
                Err(Refusal::BadRequest("Host header and request target disagree"))
            }
            Some(_) | None => Ok(()),
        },
        _ => Err(Refusal::BadRequest("malformed Host header")),
    }
}

fn check_api_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => Ok(()),
        _ => Err(Refusal::MethodUnknown(method.clone())),
    }
}

fn pass(gate: &Gate, head: &Parts, path: &ApiPath) -> Result<Identity, Refusal> {
    gate.pass(&head.method, path, &head.headers, SystemTime::now()).map_err(|denial| {
        tracing::debug!(%denial, "refused at the gate");
        match denial {
            Denial::Ticket(_) | Denial::ApiToken => Refusal::InvalidTicket(gate.invalid_reason().to_owned()),
            Denial::KeyFile(error) => {
                tracing::error!(%error, "tickets cannot be judged");
                Refusal::Denied(Denial::KeyFile(error))
            }
            Denial::NoCredential | Denial::Csrf => Refusal::Denied(denial),
        }
    })
}

/// The whole body, up to the limit: the daemon behind takes no chunks.
async fn read_body(engine: &Engine, head: &Parts, body: &mut Option<Incoming>) -> Result<Bytes, Refusal> {
    let limit = engine.config.settings.limits.body;
    let patience = engine.config.settings.timeout.answer;
    let announced = body.as_ref().map_or(0, |body| body.size_hint().lower());
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refusal::BodyTooLarge { limit });
    }
    let Some(incoming) = body.take().filter(|body| !body.is_end_stream()) else { return Ok(Bytes::new()) };
    let whole = match timeout(patience, Limited::new(incoming, limit).collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::BodyTooLarge { limit }),
        Ok(Err(_)) => return Err(Refusal::BodyBroken),
        Err(_) => return Err(Refusal::BodyTimeout(patience.as_secs())),
    };
    if !whole.is_empty() && !matches!(head.method, Method::POST | Method::PUT) {
        return Err(Refusal::UnexpectedContent(head.method.clone()));
    }
    Ok(whole)
}

/// A body that nobody read is taken in beside the answer; else the client's system would throw the answer away.
fn drain(body: Option<Incoming>, headers: &HeaderMap) {
    let Some(body) = body.filter(|body| !body.is_end_stream() && !headers.contains_key(EXPECT)) else {
        return;
    };
    tokio::task::spawn_local(async move {
        let _ = timeout(DRAIN_TIME, Limited::new(body, DRAIN_BYTES).collect()).await;
    });
}

async fn refuse(refusal: Refusal, form: Form, started: Instant, record: &mut Record) -> Response<Body> {
    if refusal.status() == StatusCode::UNAUTHORIZED {
        record.user = None;
        sleep_until(started + LOGIN_DELAY).await;
    }
    tracing::debug!(status = refusal.status().as_u16(), reason = %refusal, "refused");
    refusal.into_response(form)
}

fn request_line(head: &Parts) -> String {
    format!("{} {} {:?}", head.method, head.uri, head.version)
}

//! Step 4: one request, from its head to its answer. Read `answer` top to bottom: every `?` is a refusal.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use tokio::time::Instant;

use crate::proxy::buffered_body::{PreparedCall, SenderTrust};
use crate::proxy::call_timeout::{answer_timeout, or_client_left};
pub use crate::proxy::client::{Admission, ClientAddresses, ClientConnection};
use crate::proxy::login_attempt::LoginAttempt;
use crate::proxy::methods::{API_METHODS, FILE_METHODS, allowed, check_api_method};
use crate::proxy::response_headers::{complete, refuse};
pub use crate::proxy::trust::{ConnectionTrust, unless_turned_out};

use crate::auth::authenticator::AuthenticatedUser;
use crate::handler::upload;
use crate::handler::upload::UploadRequest;
use crate::handler::{api, console, page_title, redirect};
use crate::http::body::ResponseBody;
use crate::http::drain;
use crate::http::error::{ErrorFormat, ResponseError};
use crate::http::logged_body::{LoggedBody, RequestRecord};
use crate::http::request_body::RequestBody;
use crate::http::target::{ApiPath, RequestTarget};
use crate::http::validate;
use crate::metrics::counters;
use crate::metrics::labels::RequestDestination;
use crate::os::{fault_injection, request_context};
use crate::state::route_scope::RouteScope;
use crate::proxy::router::Route;
use crate::server::WorkerContext;

/// Answers one request; cannot fail. What is logged meanwhile names the request.
pub async fn handle(
    worker: Rc<WorkerContext>,
    client: Rc<ClientConnection>,
    request: Request<RequestBody>,
) -> Response<LoggedBody> {
    let address = worker.engine.real_ip(client.peer, request.headers());
    let context = request_context::LogContext::new(address, worker.engine.log.is_detailed());
    request_context::within(context, answer_in_full(worker, client, request, address)).await
}

async fn answer_in_full(
    worker: Rc<WorkerContext>,
    client: Rc<ClientConnection>,
    request: Request<RequestBody>,
    address: IpAddr,
) -> Response<LoggedBody> {
    let started = Instant::now();
    client.clock.asked();
    let engine = &worker.engine;
    let form = ErrorFormat::of(request.uri().path());
    let (head, body) = request.into_parts();
    let class = client.class();
    fault_injection::injected(&head);
    let named = client.named(engine, address);
    let real = named.unwrap_or(client.peer.address());
    let mut record = RequestRecord {
        started: started.into_std(),
        client: address,
        counted: real,
        user: None,
        request: validate::request_line(&head),
        place: None,
        details: None,
        destination: RequestDestination::Nowhere,
    };
    let mut body = Some(body);
    let told = named.and_then(|real| HeaderValue::from_str(&real.to_string()).ok());
    let outcome = if !client.is_real_admitted(engine, named) {
        counters::denied();
        Err(ResponseError::AddressDenied)
    } else if client.is_served {
        let asked = IncomingRequest {
            worker: &worker,
            client: &client,
            class: class.as_ref(),
            head: &head,
            real,
            address: told.as_ref().unwrap_or(&client.address),
            is_guess: false,
        };
        answer(asked, &mut body, &mut record, started).await
    } else {
        validate::check(&head, &engine.config.settings.limits)
            .and_then(|()| crate::proxy::host_check::check(&client, engine, &head))
            .and_then(|()| redirect::to_https(&head))
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            let counted = || engine.counted(client.peer, record.client);
            let refusal = crate::proxy::login_guard::hold_back(
                engine,
                refusal,
                (&engine.at(&client.listener()), counted),
                started,
            )
            .await;
            let login_page = engine.gate.as_ref().and_then(|gate| gate.login_page(head.uri.path()));
            refuse(refusal, form, login_page)
        }
    };
    let waits = head.headers.contains_key(EXPECT);
    let unread = drain::start(body, waits, &client.connection_clock);
    if unread.is_some() && !response.headers().contains_key(CONNECTION) {
        // Neither side can tell whether the body or the next request comes.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    complete((&worker, &client), (&head, form), &mut response, &mut record);
    LoggedBody::wrap(response, record, Arc::clone(&engine.log), Arc::clone(&client.clock), unread)
}

/// A request, and what it came by.
#[derive(Clone, Copy)]
pub(crate) struct IncomingRequest<'a> {
    pub(crate) worker: &'a Rc<WorkerContext>,
    pub(crate) client: &'a Rc<ClientConnection>,
    /// what is served there, where that is not all
    pub(crate) class: Option<&'a Arc<RouteScope>>,
    pub(crate) head: &'a Parts,
    /// who it comes from
    pub(crate) real: IpAddr,
    /// the same, as daemons are told it
    pub(crate) address: &'a HeaderValue,
    /// its call goes on without its client
    pub(crate) is_guess: bool,
}

async fn answer(
    asked: IncomingRequest<'_>,
    body: &mut Option<RequestBody>,
    record: &mut RequestRecord,
    began: Instant,
) -> Result<Response<ResponseBody>, ResponseError> {
    let IncomingRequest { worker, client, class, head, .. } = asked;
    let engine = &worker.engine;
    validate::check(head, &engine.config.settings.limits)?;
    crate::proxy::host_check::check(client, engine, head)?;
    record.place = client.place(engine, record.client)?;
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(allowed(API_METHODS));
    }
    let target = RequestTarget::parse(head.uri.path())?;
    let query = head.uri.query().unwrap_or_default();
    match &target {
        RequestTarget::Api(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(API_METHODS));
            }
            let identity = pass(&asked, path, record)?;
            if let Some(class) = class {
                crate::proxy::scope_check::check_login(class, &asked, path, body).await?;
            }
            let route = engine
                .routes
                .resolve(&head.method, &target, query, &engine.nodes)
                .map_err(|error| ResponseError::nodes(&error))?;
            record.destination = route.destination();
            if crate::proxy::login_guard::is_guess(engine, &head.method, path, &identity)
                && let Some(address) = engine.counted(client.peer, record.client)
            {
                let guess = LoginAttempt::new(&asked, identity, route, path, address);
                return Box::pin(guess.judge(body, began)).await;
            }
            crate::proxy::login_attempt::run_at_once(&asked, &identity, route, path, body).await
        }
        RequestTarget::NoSuchUri => Err(ResponseError::NoSuchUri),
        RequestTarget::Path(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(FILE_METHODS));
            }
            let route = engine
                .routes
                .resolve(&head.method, &target, query, &engine.nodes)
                .map_err(|error| ResponseError::nodes(&error))?;
            crate::proxy::scope_check::check_file(class.map(Arc::as_ref), &route, path, query)?;
            record.destination = route.destination();
            crate::proxy::files::run(&asked, route, path, record).await
        }
    }
}

/// Who asks the API for what may be asked here.
fn pass(
    asked: &IncomingRequest<'_>,
    path: &ApiPath,
    record: &mut RequestRecord,
) -> Result<AuthenticatedUser, ResponseError> {
    let IncomingRequest { worker, client, class, head, .. } = *asked;
    let engine = &worker.engine;
    check_api_method(&head.method)?;
    crate::proxy::scope_check::check_call(asked, path)?;
    let gate = engine.gate.as_ref().ok_or(ResponseError::NoSuchUri)?;
    let counted = || engine.counted(client.peer, asked.real);
    let identity = gate
        .pass(
            &head.method,
            path,
            &head.headers,
            || crate::proxy::login_guard::ticket_client(engine, counted()),
            SystemTime::now(),
        )
        .map_err(|denial| crate::proxy::login_guard::denied(engine, denial, counted))?;
    record.user = identity.user();
    if matches!(SenderTrust::of(&identity), SenderTrust::User(_)) {
        client.trust.show();
    }
    request_context::identify(record.user.as_ref());
    if let Some(class) = class {
        crate::proxy::scope_check::check_client(class, asked, path, &identity, record.client)?;
    }
    Ok(identity)
}

pub(crate) async fn run_api(
    asked: &IncomingRequest<'_>,
    identity: &AuthenticatedUser,
    route: Route,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<Response<ResponseBody>, ResponseError> {
    let IncomingRequest { worker, client, head, address, .. } = *asked;
    let engine = &worker.engine;
    engine.uploads.as_ref().map_or(Ok(()), |uploads| uploads.check_query(head))?;
    let privileged = matches!(route, Route::Daemon);
    let stands_in = privileged && page_title::differs(engine, &head.method, path);
    let timeout = answer_timeout(engine, &route, &head.method, path);
    let sender = SenderTrust::of(identity);
    let clock = (!asked.is_guess).then_some(&*client.clock);
    let call = |PreparedCall { query, body }| api::ApiCall {
        head,
        target: path.upstream_target(query.as_deref().or(head.uri.query())),
        identity,
        client: address,
        body,
        source: api::DownloadSource { method: &head.method, path, privileged, stands_in },
        timeout,
        piece: client.piece,
    };
    match route {
        Route::Node(_) | Route::Master(_) if engine.backend_headers.is_looped(&head.headers) => {
            Err(ResponseError::Loop)
        }
        Route::Node(name) | Route::Master(name) => {
            let upstream = worker.peer(&name, asked.real)?;
            let body = crate::proxy::buffered_body::read_for_daemon(asked, sender, body).await?;
            or_client_left(clock, api::forward_call(engine, &upstream, call(body))).await
        }
        Route::Daemon | Route::Unprivileged => {
            let body = crate::proxy::buffered_body::read_for_daemon(asked, sender, body).await?;
            or_client_left(clock, api::forward_call(engine, worker.local(&route), call(body))).await
        }
        Route::UnknownNode(node) => {
            let nodes = engine.nodes.current().map_err(|error| ResponseError::nodes(&error))?;
            Err(ResponseError::UnknownNode(nodes.unknown(&node)))
        }
        Route::Upload => {
            let upload =
                UploadRequest { head, path, identity, client: address, clock: &client.connection_clock };
            Box::pin(upload::handle_upload(worker, &upload, body)).await
        }
        Route::Websocket => {
            let body = crate::proxy::buffered_body::read_for_daemon(asked, sender, body).await?;
            let upstream = worker.local(&Route::Unprivileged);
            if console::handshake::requests_upgrade(&head.headers) {
                or_client_left(clock, Box::pin(console::open(engine, upstream, client, call(body)))).await
            } else {
                or_client_left(clock, api::forward_call(engine, upstream, call(body))).await
            }
        }
        Route::NoSuchUri | Route::Page | Route::Static(_) | Route::Probe(_) | Route::Missing(_) => {
            Err(ResponseError::NoSuchUri)
        }
    }
}

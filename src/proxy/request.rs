//! One request, from its head to its answer. Read `answer` from top to bottom: each `?` ends it with an error.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{ALLOW, CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;

use crate::auth::authenticator::AuthenticatedUser;
use crate::handler::console::target::ConnectedConsole;
use crate::handler::{HandlerAnswer, redirect};
use crate::http::body::{self, ResponseBody};
use crate::http::drain;
use crate::http::error::ResponseError;
use crate::http::logged_body::{LoggedBody, RequestRecord, ResponseObservers};
use crate::http::request_body::RequestBody;
use crate::http::target::{ApiPath, RequestTarget};
use crate::http::validate;
use crate::metrics::labels::RequestDestination;
use crate::os::{fault_injection, request_context};
use crate::proxy::buffered_body::SenderTrust;
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::login_attempt::{self, LoginAttempt};
use crate::proxy::response_headers::{complete, refuse};
use crate::proxy::router::Route;
use crate::proxy::worker_context::WorkerContext;
use crate::proxy::{files, host_check, login_guard, scope_check};
use crate::state::client_connection::ClientConnection;

const API_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
pub(super) const FILE_METHODS: &str = "GET, HEAD, OPTIONS";

/// The response to a request, and the console that its connection is relayed to.
pub struct RequestAnswer {
    pub response: Response<LoggedBody>,
    pub upgrade: Option<Box<ConnectedConsole>>,
}

/// Answers one request. Log lines of its handlers name the request.
pub async fn handle(
    context: Rc<WorkerContext>,
    client: Rc<ClientConnection>,
    request: Request<RequestBody>,
) -> RequestAnswer {
    context.state.count_ignored_report(&client, request.headers());
    let address = context.state.client_address(client.client_ip, request.headers());
    let log_context = request_context::LogContext::new(address, context.state.log.is_detailed());
    let answer = pin!(answer_and_log(&context, &client, request, address));
    request_context::within(log_context, answer).await
}

async fn answer_and_log(
    context: &Rc<WorkerContext>,
    client: &Rc<ClientConnection>,
    request: Request<RequestBody>,
    address: IpAddr,
) -> RequestAnswer {
    let started = Instant::now();
    client.timeouts.begin_request();
    let state = &context.state;
    let form = state.api.error_format(request.uri().path());
    let (head, body) = request.into_parts();
    fault_injection::panic_if_injected(&head);
    let named = client.reported_client(state, address);
    let real = named.unwrap_or(client.client_ip.address());
    let mut record = new_record(&head, started, address, real);
    let mut body = Some(body);
    let named_header = named.and_then(|real| HeaderValue::from_str(&real.to_string()).ok());
    let request = &IncomingRequest {
        context: Rc::clone(context),
        client: Rc::clone(client),
        scope: client.scope(),
        head,
        real,
        address: named_header.unwrap_or_else(|| client.address.clone()),
        outlives_client: false,
    };
    let outcome = if !client.admits_reported_client(state, named) {
        state.metrics.acl_denied.inc();
        Err(ResponseError::AddressDenied)
    } else if client.is_served {
        answer(request, &mut body, &mut record, started).await
    } else {
        redirect_to_https(request)
    };
    let HandlerAnswer { mut response, upgrade } = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            if error.limit().is_some() {
                client.trust.count_rejection();
            }
            refuse(login_guard::delay_error(request, error, address, started).await, request, form).into()
        }
    };
    let waits = request.head.headers.contains_key(EXPECT);
    let unread = drain::start(body, waits, &client.connection_timeouts);
    if unread.is_some() && !response.headers().contains_key(CONNECTION) {
        // Neither side can tell whether the body or the next request follows.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    complete(request, form, &mut response, &mut record);
    let (log, metrics) = (Arc::clone(&state.log), Arc::clone(&state.metrics));
    let observers = ResponseObservers { log, metrics, timeouts: Rc::clone(&client.timeouts) };
    let response = LoggedBody::wrap(response, record, observers, unread);
    RequestAnswer { response, upgrade }
}

fn new_record(head: &Parts, started: Instant, client: IpAddr, limit_key: IpAddr) -> RequestRecord {
    RequestRecord {
        started: started.into_std(),
        client,
        limit_key,
        user: None,
        request: validate::request_line(head),
        place: None,
        details: None,
        destination: RequestDestination::Nowhere,
    }
}

/// The answer to a request in clear text on a port for HTTPS.
fn redirect_to_https(request: &IncomingRequest) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, .. } = request;
    validate::check(head, &context.state.config.settings.limits)?;
    host_check::check(client, context, head)?;
    Ok(redirect::to_https(head)?.into())
}

async fn answer(
    request: &IncomingRequest,
    body: &mut Option<RequestBody>,
    record: &mut RequestRecord,
    began: Instant,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, scope, head, .. } = request;
    let state = &context.state;
    validate::check(head, &state.config.settings.limits)?;
    host_check::check(client, context, head)?;
    record.place = client.try_acquire_request(state, record.client)?;
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(allowed(API_METHODS).into());
    }
    let target = RequestTarget::parse(head.uri.path(), &state.api)?;
    match &target {
        RequestTarget::Api(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(API_METHODS).into());
            }
            let identity = authenticate(request, path, record)?;
            if let Some(scope) = scope {
                scope_check::check_login(scope, request, path, body).await?;
            }
            let route = resolve(request, &target)?;
            record.destination = route.destination();
            if login_guard::is_login_attempt(state, &head.method, path, &identity)
                && let Some(address) = state.login_limit_key(client.client_ip, record.client)
            {
                let attempt = LoginAttempt::new(request, identity, route, path, address);
                return Box::pin(attempt.verify(body, began)).await;
            }
            login_attempt::run_at_once(request, &identity, route, path, body).await
        }
        RequestTarget::NoSuchUri => Err(ResponseError::NoSuchUri),
        RequestTarget::Path(path) => {
            if head.method == Method::OPTIONS {
                return Ok(allowed(FILE_METHODS).into());
            }
            let route = resolve(request, &target)?;
            let query = head.uri.query().unwrap_or_default();
            scope_check::check_file(scope.as_deref(), &route, path, query)?;
            record.destination = route.destination();
            Ok(files::run(request, route, path, record).await?.into())
        }
    }
}

/// The answer to OPTIONS.
fn allowed(methods: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn resolve(request: &IncomingRequest, target: &RequestTarget) -> Result<Route, ResponseError> {
    let IncomingRequest { context, head, .. } = request;
    let query = head.uri.query().unwrap_or_default();
    let route = context.handlers.routes.resolve(&head.method, target, query, &context.state.nodes);
    route.map_err(|error| ResponseError::nodes(&error))
}

/// The user of an API call that the listener serves.
fn authenticate(
    request: &IncomingRequest,
    path: &ApiPath,
    record: &mut RequestRecord,
) -> Result<AuthenticatedUser, ResponseError> {
    let IncomingRequest { context, client, scope, head, .. } = request;
    let state = &context.state;
    if !matches!(head.method, Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE) {
        return Err(ResponseError::MethodUnknown(head.method.clone()));
    }
    scope_check::check_call(request, path)?;
    let authenticator = state.authenticator.as_ref().ok_or(ResponseError::NoSuchUri)?;
    let limit_key = || state.login_limit_key(client.client_ip, request.real);
    let ticket_client = || login_guard::ticket_client(state, limit_key());
    let identity = authenticator
        .authenticate(&head.method, path, &head.headers, ticket_client, SystemTime::now())
        .map_err(|denial| login_guard::auth_error(state, denial, limit_key))?;
    record.user = identity.user();
    if matches!(SenderTrust::from_identity(&identity), SenderTrust::User(_)) {
        client.trust.set_authenticated();
    }
    request_context::set_user(record.user.as_ref());
    if let Some(scope) = scope {
        scope_check::check_client(scope, request, path, &identity, record.client)?;
    }
    Ok(identity)
}

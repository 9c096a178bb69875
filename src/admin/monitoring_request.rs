//! A request to the listener for monitors. All of them only read.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use crate::admin::event_stream::{self, EventBody, EventKind};
use crate::admin::metrics_server::MetricsServerState;
use crate::admin::status_page;
use crate::admin::status_reporter::FailedLoginNames;
use crate::net::allowed_hosts::HostName;
use crate::state::shared::AppState;

const PLAIN: &str = "text/plain;charset=UTF-8";
const HTML: &str = "text/html;charset=UTF-8";
const JSON: &str = "application/json;charset=UTF-8";
const EVENTS: &str = "text/event-stream;charset=UTF-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const OTHER_HOST: &str = "the host name of this request is not served here (setting metrics.hosts)\n";
const READ_ONLY: &str = "only GET and HEAD\n";
const NOT_FOUND: &str = "only /, /status.json, /status/events, /metrics and the probes are here\n";
const NOT_ALLOWED: &str = "your address may not see the status (setting metrics.status_allow_from)\n";
const CROSS_SITE: &str = "the page of another site may not read the status\n";
const TOO_MANY_STREAMS: &str = "too many clients read the events; try again later\n";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The query of the page's own script.
const WITH_PAGE: &str = "page";

pub(super) type MonitoringBody = Either<Full<Bytes>, EventBody>;

/// The client of a connection.
pub(super) struct MonitoringClient {
    /// `None` at a Unix socket, whose permissions say who may connect
    pub(super) peer: Option<IpAddr>,
    /// the address of the listener; a Unix socket has none, and browsers cannot reach it
    local: Option<IpAddr>,
    has_events: AtomicBool,
}

impl MonitoringClient {
    pub(super) fn new(peer: Option<IpAddr>, local: Option<IpAddr>) -> Self {
        Self { peer, local, has_events: AtomicBool::new(false) }
    }

    /// Whether its response is a stream of events.
    pub(super) fn has_events(&self) -> bool {
        self.has_events.load(Ordering::Relaxed)
    }
}

/// Answers a request. A HEAD gets the header of the same GET.
pub(super) async fn answer(
    request: &Request<Incoming>,
    client: &MonitoringClient,
    state: &MetricsServerState,
) -> Response<MonitoringBody> {
    let response = respond(request, client, state).await;
    if *request.method() == Method::HEAD { response.map(|_| Either::Left(Full::default())) } else { response }
}

async fn respond(
    request: &Request<Incoming>,
    client: &MonitoringClient,
    state: &MetricsServerState,
) -> Response<MonitoringBody> {
    let (app, path) = (state.app(), request.uri().path());
    if !client.local.is_none_or(|local| is_host_answered(request, local, &app.state)) {
        return text(StatusCode::MISDIRECTED_REQUEST, PLAIN, OTHER_HOST);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, READ_ONLY);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(probe) = app.handlers.routes.probes.find(path) {
        let answer = app.handlers.probe(&app.state, probe).await;
        return text(answer.status, PLAIN, answer.text);
    }
    match path {
        "/metrics" => text(StatusCode::OK, PROMETHEUS, app.state.metrics.to_prometheus_text()),
        "/" | "/status.json" | "/status/events" => {
            let may_see = |peer| app.state.config.settings.monitoring.status_allow_from.contains(peer);
            if !client.peer.is_none_or(may_see) {
                return text(StatusCode::FORBIDDEN, PLAIN, NOT_ALLOWED);
            }
            if is_cross_site(request) {
                return text(StatusCode::FORBIDDEN, PLAIN, CROSS_SITE);
            }
            status(request, client, state).await
        }
        _ => text(StatusCode::NOT_FOUND, PLAIN, NOT_FOUND),
    }
}

/// The page, its JSON, or its events.
async fn status(
    request: &Request<Incoming>,
    client: &MonitoringClient,
    state: &MetricsServerState,
) -> Response<MonitoringBody> {
    let mut response = match request.uri().path() {
        "/status/events" => events(request, client, state),
        "/status.json" => {
            let report = state.reporter.report(FailedLoginNames::AsSet).await;
            text(StatusCode::OK, JSON, status_page::json(&report))
        }
        _ => {
            let report = state.reporter.report(FailedLoginNames::AsSet).await;
            let mut response = text(StatusCode::OK, HTML, state.page.render(&report));
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, state.page.policy());
            response
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn events(
    request: &Request<Incoming>,
    client: &MonitoringClient,
    state: &MetricsServerState,
) -> Response<MonitoringBody> {
    let Ok(place) = Arc::clone(&state.streams).try_acquire_owned() else {
        let mut response = text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, TOO_MANY_STREAMS);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let kind = match request.uri().query() {
        Some(WITH_PAGE) => EventKind::ReportAndPage,
        Some(_) | None => EventKind::Report,
    };
    client.has_events.store(true, Ordering::Relaxed);
    let body = event_stream::open(Arc::clone(&state.reporter), kind, state.end(), place);
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    response
}

/// Whether the page of another site sends this request. Its user may still open the status page by a link.
fn is_cross_site(request: &Request<Incoming>) -> bool {
    let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_own = matches!(header(SEC_FETCH_SITE), None | Some(b"same-origin" | b"none"));
    let is_link = request.uri().path() == "/" && header(SEC_FETCH_MODE) == Some(b"navigate");
    !is_own && !is_link
}

/// Whether the `Host` is a name that an attacker cannot choose. Otherwise a page could read the response by DNS
/// rebinding. A request without `Host` is not from a browser.
fn is_host_answered(request: &Request<Incoming>, local: IpAddr, state: &AppState) -> bool {
    let settings = &state.config.settings;
    let is_answered = |text: &str| {
        HostName::parse(text).is_some_and(|host| {
            host.is_loopback()
                || host == HostName::Address(local)
                || host == HostName::Name(settings.node_name.to_ascii_lowercase())
                || settings.monitoring.hosts.holds(&host)
                || settings.hosts.holds(&host)
        })
    };
    let headers = request.headers().get_all(HOST).iter();
    headers.map(|host| host.to_str().ok()).all(|host| host.is_some_and(is_answered))
        && request.uri().authority().is_none_or(|authority| is_answered(authority.as_str()))
}

fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<MonitoringBody> {
    let text = text.into();
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Either::Left(Full::new(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    response
}

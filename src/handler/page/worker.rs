//! The fallback for pages that nodegate cannot render: the unprivileged worker renders them with the installed
//! product's own code.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{PageError, PageSet};
use crate::auth::authenticator::{PageLogin, credential, joined};
use crate::config::Config;
use crate::config::page::VariableSource;
use crate::handler::api::request::add_client_headers;
use crate::http::body::ResponseBody;
use crate::http::error::{HandlerError, ResponseError};
use crate::http::target::query_parameters;
use crate::os::log_limit::{self, LogTopic};
use crate::state::shared::AppState;
use crate::upstream::client::{SendError, UpstreamClient, UpstreamError, UpstreamResponse};
use crate::upstream::request::UpstreamRequest;
use crate::upstream::scheduler::{QueueError, ScheduledCall};

const MAX_PAGE_BYTES: usize = 4 << 20;
/// Bytes of a cookie's value. Templates use only words.
const MAX_COOKIE_BYTES: usize = 256;
/// Bytes of `User-Agent`. The worker's server does not answer a head over 8 KiB.
const MAX_USER_AGENT_BYTES: usize = 1024;

/// Characters that are escaped in a path (RFC 3986, section 3.3).
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');
/// Characters that are escaped in a cookie's value. They are the same as in a credential for a daemon.
const COOKIE_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The worker, from profile and settings.
pub(super) struct PageWorker {
    /// as in the settings; `None` without a worker
    pub(super) address: Option<String>,
    /// advice to the admin for a page without a worker
    pub(super) remedy: String,
    /// cookies from which the templates' variables get values
    cookies: Vec<String>,
    ticket_cookie: Option<String>,
    /// query parameters that hold a ticket
    link_parameters: Vec<String>,
}

/// A request for a page of the worker.
pub struct PageRequest<'a> {
    pub head: &'a Parts,
    /// the decoded path
    pub path: &'a str,
    /// the login of a ticket that nodegate verified for this listener
    pub login: Option<&'a PageLogin>,
    /// the client's address for daemons
    pub client: &'a HeaderValue,
    /// whose turn it takes at the worker; `None` if nodegate asks for itself
    pub schedule: Option<Box<ScheduledCall>>,
}

/// A page that neither nodegate nor a worker renders. It names no path, so the client may see it.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct PageUnavailable {
    cause: PageError,
    remedy: String,
}

impl From<PageUnavailable> for ResponseError {
    fn from(error: PageUnavailable) -> Self {
        HandlerError::new(StatusCode::INTERNAL_SERVER_ERROR, error).into()
    }
}

/// The reason why there is no page from the worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error("the request target is malformed")]
    Target,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Saturated(#[from] QueueError),
    #[error("it answered {status}")]
    Status { status: u16, reason: String },
    #[error("its answer is not text/html")]
    ContentType,
    #[error("its answer is compressed, which nodegate did not request")]
    Compressed,
    #[error("its answer is empty")]
    Empty,
    #[error("its page is longer than {MAX_PAGE_BYTES} bytes")]
    TooLong,
}

impl From<SendError> for WorkerError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Queue(error) => Self::Saturated(error),
            SendError::Failed(error) => Self::Upstream(error),
        }
    }
}

impl PageWorker {
    pub(super) fn new(config: &Config) -> Self {
        let product = &config.product;
        let sources = product.variable.values().flat_map(|variable| &variable.from);
        let mut cookies: Vec<_> = sources
            .filter_map(
                |source| if let VariableSource::Cookie(name) = source { Some(name.clone()) } else { None },
            )
            .collect();
        cookies.sort();
        cookies.dedup();
        let tickets = product.auth.iter().flat_map(|auth| &auth.ticket);
        Self {
            address: config.settings.unprivileged.as_ref().map(ToString::to_string),
            remedy: match &product.worker_package {
                Some(package) => {
                    format!(
                        "install {package}, whose worker renders it with the product's own code, or report it"
                    )
                }
                None => {
                    "set backend.unprivileged to a worker that serves the product's own pages, or report it"
                        .to_owned()
                }
            },
            cookies,
            ticket_cookie: product.auth.as_ref().map(|auth| auth.cookie.clone()),
            link_parameters: tickets.filter_map(|kind| kind.link.clone()).collect(),
        }
    }

    /// Encodes the cookies of the templates' variables, and a ticket that nodegate verified. The worker verifies it
    /// again.
    fn encode_cookies(&self, asked: &PageRequest<'_>) -> Option<HeaderValue> {
        let given = joined(&asked.head.headers, &COOKIE);
        let ticket = self.ticket_cookie.as_ref().filter(|_| asked.login.is_some());
        let mut line = String::new();
        for name in self.cookies.iter().chain(ticket) {
            let Some(value) = credential::value_of(name, &given) else { continue };
            if Some(name) != ticket && value.len() > MAX_COOKIE_BYTES {
                continue;
            }
            let separator = if line.is_empty() { "" } else { "; " };
            let _ = write!(line, "{separator}{name}={}", utf8_percent_encode(&value, COOKIE_VALUE));
        }
        let mut value = HeaderValue::from_str(&line).ok().filter(|_| !line.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Path and query of the request, without a ticket in a link that nodegate did not verify. nodegate ignores a
    /// link if the request has a cookie, and then the worker must not see it either.
    fn encode_target(&self, asked: &PageRequest<'_>) -> String {
        let query = asked.head.uri.query().unwrap_or_default();
        let by_link = asked.login.is_some() && !asked.head.headers.contains_key(COOKIE);
        let is_sent = |parameter: &&str| {
            by_link
                || query_parameters(parameter)
                    .all(|(name, _)| !self.link_parameters.iter().any(|link| *link == name))
        };
        let mut target = utf8_percent_encode(asked.path, PATH).to_string();
        let parameters: Vec<_> = query.split(['&', ';']).filter(is_sent).collect();
        if !query.is_empty() {
            let _ = write!(target, "?{}", parameters.join("&"));
        }
        target
    }
}

/// The worker's answer.
pub(super) struct WorkerPage {
    page: Bytes,
    content_type: HeaderValue,
}

impl PageSet {
    /// Requests a page that nodegate could not render because of `cause`. If the worker fails, the answer is `draft`, a
    /// page with a gap.
    pub async fn fetch_from_worker(
        &self,
        state: &AppState,
        upstream: Option<&UpstreamClient>,
        asked: &PageRequest<'_>,
        cause: PageError,
        draft: Option<Response<ResponseBody>>,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let condition = if matches!(cause, PageError::Missing { .. }) { "if it is, " } else { "" };
        let unavailable = |remedy| PageUnavailable { cause, remedy }.into();
        let Some(upstream) = upstream else {
            return draft.ok_or_else(|| unavailable(format!("{condition}{}", self.worker.remedy)));
        };
        match self.fetch_page(state, upstream, asked).await {
            Ok(WorkerPage { page, content_type }) => {
                Ok(self.response(page, content_type, asked.head, asked.login).await)
            }
            Err(WorkerError::Saturated(error)) => draft.ok_or(error.into()),
            Err(error) => {
                self.log_worker_error(&error);
                let remedy = format!("the worker does not render it either: {error}; see its log");
                draft.ok_or_else(|| unavailable(remedy))
            }
        }
    }

    pub(super) async fn fetch_page(
        &self,
        state: &AppState,
        upstream: &UpstreamClient,
        asked: &PageRequest<'_>,
    ) -> Result<WorkerPage, WorkerError> {
        let request = self.build_request(state, asked).ok_or(WorkerError::Target)?;
        let UpstreamResponse { response, mut body, started } = upstream.send(request).await?;
        let (head, ()) = response.into_parts();
        if head.status != StatusCode::OK {
            let reason = head.extensions.get::<ReasonPhrase>();
            let reason = reason.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
            let reason = reason.unwrap_or_default();
            return Err(WorkerError::Status { status: head.status.as_u16(), reason });
        }
        let content_type = head.headers.get(CONTENT_TYPE).filter(|value| is_html(value));
        let content_type = content_type.ok_or(WorkerError::ContentType)?.clone();
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(WorkerError::Compressed);
        }
        let is_long = |length: u64| usize::try_from(length).map_or(true, |length| length > MAX_PAGE_BYTES);
        if body.length().is_some_and(is_long) {
            return Err(WorkerError::TooLong);
        }
        let page = upstream.read_whole(&mut body, MAX_PAGE_BYTES, started).await?;
        if page.is_empty() { Err(WorkerError::Empty) } else { Ok(WorkerPage { page, content_type }) }
    }

    /// A plain GET with only these headers of the client. HEAD becomes GET, because the worker's server lacks HEAD.
    fn build_request(&self, state: &AppState, asked: &PageRequest<'_>) -> Option<UpstreamRequest> {
        let headers = &asked.head.headers;
        let timeout = state.config.settings.timeout.answer;
        let mut request = UpstreamRequest::new(Method::GET, &self.worker.encode_target(asked), timeout)?;
        if let Some(schedule) = &asked.schedule {
            request.schedule(schedule.clone());
        }
        add_client_headers(&mut request, state, headers, asked.client);
        if let Some(cookies) = self.worker.encode_cookies(asked) {
            request.header(&COOKIE, &cookies);
        }
        let user_agent = headers.get(USER_AGENT).filter(|value| value.len() <= MAX_USER_AGENT_BYTES);
        if let Some(user_agent) = user_agent {
            request.header(&USER_AGENT, user_agent);
        }
        request.header(&CONNECTION, &HeaderValue::from_static("close"));
        Some(request)
    }

    /// The client gets less detail, because the reason phrase of the product's code may name files.
    fn log_worker_error(&self, error: &WorkerError) {
        let Some(left_out) = log_limit::is_due(LogTopic::Page, &format!("worker: {error}")) else { return };
        let worker = self.worker.address.as_deref().unwrap_or_default();
        let reason = if let WorkerError::Status { reason, .. } = error { reason } else { "" };
        tracing::error!(%worker, reason, "the worker does not render a page: {error}{left_out}");
    }
}

fn is_html(content_type: &HeaderValue) -> bool {
    let media_type = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("text/html")
}

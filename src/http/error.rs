//! The only place where an error becomes an answer.
//!
//! Modules above convert their own errors into `ResponseError`, each in its own module.

use std::error::Error;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::{self, ResponseBody};
use super::bound::BoundExceeded;
pub use super::error_format::ErrorFormat;
use crate::fs::cached_file::FileError;
use crate::http::body_parameters::ParameterError;
use crate::http::reason_phrase;
use crate::http::target::TargetError;
use crate::limits::LimitExceeded;
use crate::metrics::counters::Metrics;
use crate::metrics::labels::LimitLabel;
use crate::os::log_limit::{self, LogTopic};
use crate::os::request_context;
use crate::upstream::client::{SendError, UpstreamError};
use crate::upstream::nodes::UnknownNode;
use crate::upstream::peer::PeerError;
use crate::upstream::scheduler::QueueError;

/// The reason why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    #[error("{0}")]
    BadRequest(&'static str),
    /// not a valid request; the connection closes
    #[error("{reason}")]
    Malformed { status: StatusCode, reason: String },
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("no such file '{0}'")]
    NotFound(String),
    #[error("method '{method}' not available here, only {allow}")]
    MethodNotAllowed { method: Method, allow: &'static str },
    #[error("method '{0}' not available")]
    MethodUnknown(Method),
    #[error("no such uri")]
    NoSuchUri,
    #[error("Unexpected content for method '{0}'")]
    UnexpectedContent(Method),
    /// a destination that this version does not serve
    #[error("{0} not available yet")]
    NotServed(&'static str),
    #[error(transparent)]
    Bound(#[from] BoundExceeded),
    #[error("the body ended early or is malformed")]
    BodyBroken,
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error("requested range not satisfiable")]
    Range { size: u64 },
    #[error("the file has another version than If-Match or If-Unmodified-Since names")]
    PreconditionFailed,
    /// the access list denies the client that a trusted proxy reports
    #[error("this address is not admitted")]
    AddressDenied,
    /// outside of the route scope of the listener
    #[error("{0} is not served at this address and port")]
    NotHere(String),
    /// the request names a host that the setting does not list
    #[error("the host name of this request is not served here (setting {setting})")]
    OtherHost { setting: String },
    #[error("only users of the realm {realm} may log in at this address and port")]
    OtherRealm { realm: String },
    /// browsers are redirected to the login page
    #[error("No ticket")]
    NoCredential,
    /// the text that every refused ticket gets
    #[error("{0}")]
    InvalidTicket(String),
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
    #[error("proxy loop detected")]
    Loop,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("streaming denied: another node may not name a file of this one")]
    ForeignStream,
    #[error("streaming denied")]
    StreamDenied,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// the daemon has no worker for the request, which was not sent
    #[error(transparent)]
    Saturated(#[from] QueueError),
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// no client reads this answer; the access log has its status
    #[error("the client has left")]
    ClientLeft,
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    #[error("{0}")]
    Internal(String),
}

/// An error of a module above this one, with the data of its answer.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct HandlerError {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// whether a daemon had answered before
    pub is_after_upstream: bool,
    pub source: Box<dyn Error + Send + Sync>,
}

impl HandlerError {
    pub fn new(status: StatusCode, error: impl Error + Send + Sync + 'static) -> Self {
        Self { status, headers: HeaderMap::new(), is_after_upstream: false, source: Box::new(error) }
    }
}

impl From<SendError> for ResponseError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Queue(error) => Self::Saturated(error),
            SendError::Failed(error) => Self::Upstream(error),
        }
    }
}

impl ResponseError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Target(_) | Self::BodyBroken | Self::Parameters(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Malformed { status, .. } => *status,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MethodUnknown(_) | Self::NoSuchUri | Self::UnexpectedContent(_) | Self::NotServed(_) => {
                StatusCode::NOT_IMPLEMENTED
            }
            Self::Bound(bound) => bound.status(),
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::UnknownNode(_) | Self::Loop | Self::Internal(_) | Self::StreamDenied => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::ForeignStream | Self::AddressDenied | Self::NotHere(_) | Self::OtherRealm { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::OtherHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::NoCredential | Self::InvalidTicket(_) => StatusCode::UNAUTHORIZED,
            Self::ClientLeft => StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Peer(_) => StatusCode::from_u16(595).unwrap_or(StatusCode::BAD_GATEWAY),
            Self::Upstream(error) => error.status(),
            Self::Saturated(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Handler(error) => error.status,
            Self::LimitExceeded(exceeded) => exceeded.status(),
        }
    }

    /// The list of nodes cannot be read. The log has the name of the file.
    pub fn nodes(error: &FileError) -> Self {
        log_limit::error(
            LogTopic::Fault,
            "nodes",
            &format_args!("the list of nodes cannot be read: {error}"),
        );
        Self::Internal("the list of nodes cannot be read".to_owned())
    }

    /// Whether the connection must close, because the bytes that follow cannot be trusted.
    fn closes(&self) -> bool {
        let is_full = matches!(self, Self::LimitExceeded(exceeded) if exceeded.ends_connection());
        is_full || self.status() == StatusCode::BAD_REQUEST
    }

    /// The message for the client. The log may have more details.
    fn message(&self) -> String {
        let request = request_context::current_id().filter(|_| self.failed_upstream().is_some());
        match request {
            Some(id) => format!("{self}, request {id}"), // to search the log for
            None => self.to_string(),
        }
    }

    /// The daemon or the node that caused this error.
    fn failed_upstream(&self) -> Option<&str> {
        if let Self::Upstream(error) = self {
            return Some(&error.upstream);
        }
        if let Self::Peer(error) = self { Some(error.node()) } else { None }
    }

    /// The limit that the request exceeded.
    pub fn limit(&self) -> Option<LimitLabel> {
        if let Self::Bound(bound) = self {
            return Some(bound.label());
        }
        if let Self::LimitExceeded(exceeded) = self { Some(exceeded.limit()) } else { None }
    }

    /// The answer in the client's form, with the message as reason phrase too.
    pub fn into_response(self, form: ErrorFormat, metrics: &Metrics) -> Response<ResponseBody> {
        let status = self.status();
        let message = self.message();
        if let Some(upstream) = self.failed_upstream() {
            log_limit::warn(LogTopic::Upstream, upstream, &format_args!("a request got no answer: {self}"));
        }
        if let Some(limit) = self.limit() {
            metrics.count_limit(limit);
        }
        let keeps_status = matches!(status.as_u16(), 400 | 401 | 413 | 421 | 429 | 431)
            || matches!(self, Self::Malformed { .. } | Self::HeadTimeout);
        let code = if form == ErrorFormat::StatusInBody && !keeps_status { StatusCode::OK } else { status };
        let failure = form.failure(status, &message);
        let mut response = Response::new(body::full(Bytes::from(failure.text)));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(failure.content_type));
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::MethodNotAllowed { allow, .. } = &self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Self::LimitExceeded(exceeded) = &self {
            headers.insert(RETRY_AFTER, exceeded.retry_after().into());
        }
        if let Self::Saturated(_) = &self {
            headers.insert(RETRY_AFTER, SATURATED_RETRY_SECONDS.into());
        }
        if let Self::Range { size } = &self {
            let range = HeaderValue::try_from(format!("bytes */{size}"));
            headers.extend(range.ok().map(|value| (CONTENT_RANGE, value)));
        }
        if code == status
            && let Some(reason) = reason_phrase::reason_phrase(&message)
        {
            response.extensions_mut().insert(reason);
        }
        if let Self::Handler(error) = self {
            response.headers_mut().extend(error.headers);
        }
        response
    }
}

/// After this many seconds a client may send a request again that got no worker of the daemon.
const SATURATED_RETRY_SECONDS: u64 = 5;
/// The status that nginx and others log for a client that disconnected before its answer.
const CLIENT_LEFT: u16 = 499;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_statuses_keep_only_known_http_statuses() {
        let cases = [
            (ResponseError::NotFound("/x".into()), 200),
            (BoundExceeded::Body { limit: 1 }.into(), 413),
            (ResponseError::InvalidTicket("x".into()), 401),
            (ResponseError::BadRequest("x"), 400),
            (ResponseError::NoSuchUri, 200),
        ];
        for (refusal, status) in cases {
            let response = refusal.into_response(ErrorFormat::StatusInBody, &Metrics::default());
            assert_eq!(response.status().as_u16(), status);
        }
    }
}

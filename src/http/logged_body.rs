//! The headers of every answer, and the log record that is written after its last byte.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, SERVER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use crate::http::access_log::{AccessLog, LogDetails, LogEntry};
use crate::http::body::ResponseBody;
use crate::http::security_headers::BrowserHeaders;
use crate::limits::concurrency::ConnectionPermit;
use crate::metrics::counters::{FinishedResponse, Metrics};
use crate::metrics::labels::RequestDestination;
use crate::time::client_timeouts::TimeoutTracker;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The data of a request for its log line.
pub struct RequestRecord {
    pub started: Instant,
    pub client: IpAddr,
    /// the peer, or the address that a trusted proxy reports
    pub limit_key: IpAddr,
    pub user: Option<Arc<str>>,
    pub request: String,
    /// the permit of the request, held until the answer is sent
    pub place: Option<ConnectionPermit>,
    /// for a log with details
    pub details: Option<Box<LogDetails>>,
    pub destination: RequestDestination,
}

/// Marks an answer that is a file which the daemon sent or named. As with the originals, clients may cache it.
#[derive(Clone, Copy)]
pub struct FileAnswer;

/// Values that are the same in every answer.
pub struct CommonHeaders {
    pub server: HeaderValue,
    /// `timeout=65`, the time that a client may rely on
    pub keep_alive: HeaderValue,
    /// The scheme of a 401 (RFC 9110 section 11.6.1). No browser knows it, so none asks for a password.
    pub challenge: Option<HeaderValue>,
    pub browser: BrowserHeaders,
}

impl CommonHeaders {
    /// Adds the headers of every answer. Files have their own headers for caches.
    pub fn add_to(&self, response: &mut Response<ResponseBody>, cacheable: bool, keeps_alive: bool) {
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(SERVER, self.server.clone());
        if !cacheable {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=0"));
        }
        if status == StatusCode::UNAUTHORIZED && !headers.contains_key(WWW_AUTHENTICATE) {
            headers.extend(self.challenge.clone().map(|challenge| (WWW_AUTHENTICATE, challenge)));
        }
        if keeps_alive && !headers.contains_key(CONNECTION) {
            // Without that option a proxy in front would pass the header on (RFC 9110 section 7.6.1).
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(KEEP_ALIVE, self.keep_alive.clone());
        }
    }
}

/// The receivers of the end of a response.
pub struct ResponseObservers {
    pub log: Arc<AccessLog>,
    pub metrics: Arc<Metrics>,
    pub timeouts: Rc<TimeoutTracker>,
}

/// A body that counts itself and writes the access log when it is out, or given up.
pub struct LoggedBody {
    inner: ResponseBody,
    bytes: u64,
    status: u16,
    record: RequestRecord,
    observers: ResponseObservers,
    /// dropped when the head of the answer is out
    unread: Option<oneshot::Sender<()>>,
}

impl LoggedBody {
    pub fn wrap(
        response: Response<ResponseBody>,
        record: RequestRecord,
        observers: ResponseObservers,
        unread: Option<oneshot::Sender<()>>,
    ) -> Response<Self> {
        let status = response.status().as_u16();
        response.map(|inner| Self { inner, bytes: 0, status, record, observers, unread })
    }
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.unread = None;
        if self.observers.timeouts.has_left() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        self.observers.timeouts.end_response();
        let answer = FinishedResponse {
            destination: self.record.destination,
            status: self.status,
            bytes: self.bytes,
            started: Some(self.record.started),
        };
        self.observers.metrics.count_response(answer);
        self.observers.log.write(&LogEntry {
            client: self.record.client,
            limit_key: self.record.limit_key,
            user: self.record.user.as_deref(),
            request: &self.record.request,
            status: self.status,
            bytes: (self.bytes > 0).then_some(self.bytes),
            started: Some(self.record.started),
            details: self.record.details.as_deref(),
        });
    }
}

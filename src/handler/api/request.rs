//! The request for the daemon. nodegate copies only the headers that are named here from the client.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::auth::authenticator::AuthenticatedUser;
use crate::handler::trace_headers;
use crate::http::compression::{self, ContentCoding};
use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::state::shared::AppState;
use crate::upstream::client::{UpstreamClient, UpstreamResponse};
use crate::upstream::request::UpstreamRequest;
use crate::upstream::scheduler::ScheduledCall;

/// An authenticated call.
pub struct ApiCall<'a> {
    pub head: &'a Parts,
    /// path and query for the daemon
    pub target: String,
    pub identity: &'a AuthenticatedUser,
    /// the client's address for the daemon
    pub client: &'a HeaderValue,
    pub body: Bytes,
    pub source: DownloadSource<'a>,
    /// for the head of the answer, and between two pieces of its body
    pub timeout: Duration,
    /// bytes of the answer that are buffered for its client
    pub piece: usize,
    /// whose turn it takes at a daemon of this machine; `None` for a call to another node
    pub schedule: Option<Box<ScheduledCall>>,
}

/// The origin of an answer. It decides whether the answer may name a file (`download.rs`).
#[derive(Clone, Copy)]
pub struct DownloadSource<'a> {
    pub method: &'a Method,
    pub path: &'a ApiPath,
    /// the route table flags the method as one that answers with files
    pub sends_files: bool,
    /// the daemon that answers runs as root
    pub privileged: bool,
    /// the answer is a page of the privileged daemon instead of the unprivileged one
    pub stands_in: bool,
}

impl<'a> DownloadSource<'a> {
    /// A call whose answer may not name a file.
    pub fn without_files(method: &'a Method, path: &'a ApiPath) -> Self {
        Self { method, path, sends_files: false, privileged: false, stands_in: false }
    }
}

impl ApiCall<'_> {
    /// Sends the call. The daemon may compress its answer with `coding`.
    pub async fn send(
        self,
        state: &AppState,
        upstream: &UpstreamClient,
        coding: Option<ContentCoding>,
    ) -> Result<UpstreamResponse, ResponseError> {
        Ok(upstream.send(self.into_request(state, upstream, coding)?).await?)
    }

    /// The request for the daemon.
    pub fn into_request(
        self,
        state: &AppState,
        upstream: &UpstreamClient,
        coding: Option<ContentCoding>,
    ) -> Result<UpstreamRequest, ResponseError> {
        let method = if self.head.method == Method::HEAD { Method::GET } else { self.head.method.clone() };
        let has_body = matches!(method, Method::POST | Method::PUT);
        let closes = !upstream.keeps_alive(&method);
        let malformed = ResponseError::BadRequest("malformed request target");
        let mut request = UpstreamRequest::new(method, &self.target, self.timeout).ok_or(malformed)?;
        if let Some(schedule) = self.schedule {
            request.schedule(schedule);
        }
        add_client_headers(&mut request, state, &self.head.headers, self.client);
        if !upstream.is_local() {
            request.add_user_agent();
        }
        // Only the one credential that was verified, encoded again.
        if let Some(client) = &self.identity.client {
            request.header(&client.header.name, &client.header.value);
        }
        if let (Some(token), Some(authenticator)) = (&self.identity.csrf_token, &state.authenticator) {
            request.header(authenticator.csrf_header(), token);
        }
        if let Some(coding) = coding {
            request.header(&ACCEPT_ENCODING, &HeaderValue::from_static(coding.token()));
        }
        if closes {
            request.header(&CONNECTION, &HeaderValue::from_static("close"));
        }
        if has_body {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            let kind = self.head.headers.get(CONTENT_TYPE);
            if let Some(kind) = kind.or((!self.body.is_empty()).then_some(&form)) {
                request.header(&CONTENT_TYPE, kind);
            }
            request.body(self.body);
        }
        Ok(request)
    }
}

/// Adds the client's host and address, the mark against loops, and the headers of tracing.
pub fn add_client_headers(
    request: &mut UpstreamRequest,
    state: &AppState,
    headers: &HeaderMap,
    client: &HeaderValue,
) {
    if let Some(host) = headers.get(HOST) {
        request.header(&HOST, host);
    }
    if let Some(name) = &state.header_names.looped {
        request.header(name, &HeaderValue::from_static("true"));
    }
    if let Some(name) = &state.header_names.client {
        request.header(name, client);
    }
    for (name, value) in trace_headers::headers(&state.config.settings.tracing, headers) {
        request.header(&name, &value);
    }
}

/// The content coding of the answer. The daemon compresses with gzip or deflate. nodegate itself compresses with zstd,
/// which no daemon supports. Between nodes the daemon compresses, because bandwidth costs more there than CPU time.
pub(super) fn negotiate_coding(
    state: &AppState,
    upstream: &UpstreamClient,
    head: &Parts,
) -> Option<ContentCoding> {
    let settings = &state.config.settings;
    let accepted = head.headers.get(ACCEPT_ENCODING).filter(|_| settings.compression)?;
    let offered: &[ContentCoding] = if settings.compression_api && upstream.is_local() {
        &[ContentCoding::Zstd, ContentCoding::Gzip, ContentCoding::Deflate]
    } else {
        &[ContentCoding::Gzip, ContentCoding::Deflate]
    };
    compression::negotiate(accepted.to_str().ok(), offered)
}

//! API calls to a daemon. nodegate builds a new request, and copies only the headers that are named here from the
//! client.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, DATE,
    EXPIRES, HOST, LOCATION, PRAGMA, SERVER,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version};
use smallvec::SmallVec;

use crate::auth::authenticator::AuthenticatedUser;
use crate::config::Config;
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::http::compression;
use crate::http::compression::ContentCoding;
use crate::http::error::ResponseError;
use crate::http::logged_body::FileAnswer;
use crate::http::target::ApiPath;
use crate::http::zstd;
use crate::metrics::counters::Metrics;
use crate::state::shared::AppState;
use crate::upstream::client::{READ_BYTES, UpstreamClient, UpstreamResponse};
use crate::upstream::request::UpstreamRequest;
use crate::upstream::scheduler::ScheduledCall;

use super::download;
use super::page_title::PageTitle;
use crate::handler::coalesce::SharedCalls;
use crate::handler::spice_proxy_rewrite::AdvertisedProxy;
use crate::handler::{coalesce, trace_headers};

/// Headers that nodegate sets itself in every answer.
static REPLACED_HEADERS: [HeaderName; 5] = [DATE, SERVER, EXPIRES, CACHE_CONTROL, PRAGMA];

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

/// The answer to a login is read whole, because its verdict is in the body.
const MAX_LOGIN_ANSWER_BYTES: usize = 64 << 10;

/// Bytes of an answer that are buffered.
#[derive(Clone, Copy)]
struct ResponseBounds {
    /// An answer up to this length is read whole before its head is sent. If the daemon fails in the middle, the client
    /// gets a clean error.
    whole: usize,
    /// for longer answers
    piece: usize,
    /// an answer longer than `whole` is an error
    is_limit: bool,
}

impl ResponseBounds {
    fn reads_whole(self, length: Option<u64>) -> bool {
        let fits = |length| usize::try_from(length).is_ok_and(|length| length <= self.whole);
        self.is_limit || length.is_some_and(fits)
    }
}

impl<'a> DownloadSource<'a> {
    /// A call whose answer may not name a file.
    pub fn without_files(method: &'a Method, path: &'a ApiPath) -> Self {
        Self { method, path, sends_files: false, privileged: false, stands_in: false }
    }
}

/// Single flight and the rewrites of answers, from profile and settings.
pub struct ApiHandler {
    shared_calls: Option<SharedCalls>,
    advertised_proxy: Option<AdvertisedProxy>,
    page_title: Option<PageTitle>,
}

impl ApiHandler {
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, String> {
        Ok(Self {
            shared_calls: SharedCalls::new(config, metrics)?,
            advertised_proxy: AdvertisedProxy::new(config)?,
            page_title: config.product.page_title.as_ref().map(PageTitle::new),
        })
    }

    /// Whether answers in the format of `path` are pages with a title.
    pub fn has_title(&self, path: &ApiPath) -> bool {
        self.page_title.as_ref().is_some_and(|title| title.is_for(path))
    }

    /// Sends a call to the daemon and forwards its answer.
    pub async fn forward_call(
        &self,
        state: &AppState,
        upstream: &UpstreamClient,
        call: ApiCall<'_>,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let is_login = state.login_proof(call.source.method, call.source.path).is_some();
        // An answer that nodegate reads or rewrites must not be compressed.
        let coding = negotiate_coding(state, upstream, call.head).filter(|_| !is_login);
        let rewrites = self.rewrites(call.source);
        let is_changed = rewrites.proxy.is_some() || rewrites.title.is_some();
        let by_daemon = coding.filter(|coding| *coding != ContentCoding::Zstd && !is_changed);
        let shared = self.shared_calls.as_ref().filter(|_| upstream.is_local());
        let key = shared.and_then(|shared| Some((shared, shared.key(&call, by_daemon)?)));
        let whole = if key.is_some() { coalesce::MAX_SHARED_BYTES } else { call.piece };
        let whole = if is_login { MAX_LOGIN_ANSWER_BYTES } else { whole };
        let bounds = ResponseBounds { whole, piece: call.piece, is_limit: is_login };
        let forwarder = Forwarder { state, upstream, coding: by_daemon, rewrites, bounds };
        let answer = if let Some((shared, key)) = key {
            // The leader's longest time: in the queue, to connect, for the head, and for the body.
            let timeouts = &state.config.settings.timeout;
            let limit = timeouts.queue + timeouts.connect + call.timeout * 2;
            Box::pin(shared.send_once(key, limit, async || forwarder.send(call).await)).await
        } else {
            forwarder.send(call).await
        }?;
        Ok(if coding == Some(ContentCoding::Zstd) { zstd::zstd(answer) } else { answer })
    }

    fn rewrites(&self, source: DownloadSource<'_>) -> ResponseRewrites<'_> {
        ResponseRewrites {
            proxy: self
                .advertised_proxy
                .as_ref()
                .filter(|proxy| proxy.is_named_by(source.method, source.path)),
            title: self.page_title.as_ref().filter(|_| source.stands_in),
        }
    }
}

/// The rewrites of one answer.
#[derive(Clone, Copy, Default)]
struct ResponseRewrites<'h> {
    proxy: Option<&'h AdvertisedProxy>,
    title: Option<&'h PageTitle>,
}

/// Sends one call, and forwards its answer within bounds.
#[derive(Clone, Copy)]
struct Forwarder<'a> {
    state: &'a AppState,
    upstream: &'a UpstreamClient,
    coding: Option<ContentCoding>,
    rewrites: ResponseRewrites<'a>,
    bounds: ResponseBounds,
}

impl Forwarder<'_> {
    async fn send(self, call: ApiCall<'_>) -> Result<Response<ResponseBody>, ResponseError> {
        let source = call.source;
        let request = build_request(self.state, self.upstream, call, self.coding)?;
        let answer = self.upstream.send(request).await?;
        self.forward_answer(source, answer).await
    }

    async fn forward_answer(
        self,
        source: DownloadSource<'_>,
        answer: UpstreamResponse,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let Self { state, upstream, rewrites, bounds, .. } = self;
        let UpstreamResponse { response, body: mut incoming, started } = answer;
        let (mut head, ()) = response.into_parts();
        if !upstream.is_local() && state.header_names.is_stream(&head.headers) {
            return Err(ResponseError::ForeignStream);
        }
        if head.status.is_informational() {
            return Err(upstream.invalid_response(started).into());
        }
        let named = download::open_named_file(state, source, &mut head)?;
        if named.is_some() || is_file(source, &head.headers) {
            head.extensions.insert(FileAnswer);
        }
        remove_own_headers(state, &mut head.headers);
        let plain = !head.headers.contains_key(CONTENT_ENCODING);
        let title = rewrites.title.filter(|_| plain);
        let body = match (named, incoming.length()) {
            (Some(named), _) => named,
            (None, length) if bounds.reads_whole(length) => {
                let whole = upstream.read_whole(&mut incoming, bounds.whole, started).await?;
                let proxy = rewrites.proxy.filter(|_| plain && head.status.is_success());
                let whole = match proxy {
                    Some(proxy) => proxy.rewrite(whole),
                    None => whole,
                };
                body::full(match title {
                    Some(title) => title.rewrite(whole),
                    None => whole,
                })
            }
            _ if let Some(title) = title => {
                ResponseBody::streamed(title.rewrite_stream(incoming.with_read_bytes(bounds.piece)))
            }
            _ => ResponseBody::streamed(incoming.with_read_bytes(bounds.piece)),
        };
        head.version = Version::default(); // not the daemon's version
        Ok(Response::from_parts(head, body))
    }
}

/// The content coding of the answer. The daemon compresses with gzip or deflate. nodegate itself compresses with zstd,
/// which no daemon supports. Between nodes the daemon compresses, because bandwidth costs more there than CPU time.
fn negotiate_coding(state: &AppState, upstream: &UpstreamClient, head: &Parts) -> Option<ContentCoding> {
    let settings = &state.config.settings;
    let accepted = head.headers.get(ACCEPT_ENCODING).filter(|_| settings.compression)?;
    let offered: &[ContentCoding] = if settings.compression_api && upstream.is_local() {
        &[ContentCoding::Zstd, ContentCoding::Gzip, ContentCoding::Deflate]
    } else {
        &[ContentCoding::Gzip, ContentCoding::Deflate]
    };
    compression::negotiate(accepted.to_str().ok(), offered)
}

/// The request for the daemon.
pub(super) fn build_request(
    state: &AppState,
    upstream: &UpstreamClient,
    call: ApiCall<'_>,
    coding: Option<ContentCoding>,
) -> Result<UpstreamRequest, ResponseError> {
    let method = if call.head.method == Method::HEAD { Method::GET } else { call.head.method.clone() };
    let has_body = matches!(method, Method::POST | Method::PUT);
    let closes = !upstream.keeps_alive(&method);
    let malformed = ResponseError::BadRequest("malformed request target");
    let mut request = UpstreamRequest::new(method, &call.target, call.timeout).ok_or(malformed)?;
    if let Some(schedule) = call.schedule {
        request.schedule(schedule);
    }
    if let Some(host) = call.head.headers.get(HOST) {
        request.header(&HOST, host);
    }
    if let Some(name) = &state.header_names.looped {
        request.header(name, &HeaderValue::from_static("true"));
    }
    if let Some(name) = &state.header_names.client {
        request.header(name, call.client);
    }
    if !upstream.is_local() {
        request.add_user_agent();
    }
    for (name, value) in trace_headers::headers(&state.config.settings.tracing, &call.head.headers) {
        request.header(&name, &value);
    }
    // Only the one credential that was verified, encoded again.
    if let Some(client) = &call.identity.client {
        let (name, value) = &client.header;
        request.header(name, value);
    }
    if let (Some(token), Some(gate)) = (&call.identity.csrf_token, &state.gate) {
        request.header(gate.csrf_header(), token);
    }
    if let Some(coding) = coding {
        request.header(&ACCEPT_ENCODING, &HeaderValue::from_static(coding.token()));
    }
    if closes {
        request.header(&CONNECTION, &HeaderValue::from_static("close"));
    }
    if has_body {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let kind = call.head.headers.get(CONTENT_TYPE);
        if let Some(kind) = kind.or((!call.body.is_empty()).then_some(&form)) {
            request.header(&CONTENT_TYPE, kind);
        }
        request.body(call.body);
    }
    Ok(request)
}

/// The daemon's answer as the client gets it.
pub(super) async fn forward_answer(
    state: &AppState,
    upstream: &UpstreamClient,
    source: DownloadSource<'_>,
    answer: UpstreamResponse,
) -> Result<Response<ResponseBody>, ResponseError> {
    let bounds = ResponseBounds { whole: READ_BYTES, piece: READ_BYTES, is_limit: false };
    let rewrites = ResponseRewrites::default();
    Forwarder { state, upstream, coding: None, rewrites, bounds }.forward_answer(source, answer).await
}

/// Whether the daemon sends a file: the method may send files, and the answer is an attachment or lacks the headers
/// against caches.
fn is_file(source: DownloadSource<'_>, headers: &HeaderMap) -> bool {
    let looks_like_file = !headers.contains_key(CACHE_CONTROL) || headers.contains_key(CONTENT_DISPOSITION);
    looks_like_file && source.sends_files
}

/// Removes the headers that nodegate sets itself, and the daemon's own address.
fn remove_own_headers(state: &AppState, headers: &mut HeaderMap) {
    // Most are absent, and one pass over the names costs less than five look-ups.
    let present: SmallVec<[_; 5]> =
        REPLACED_HEADERS.iter().filter(|name| headers.keys().any(|known| known == *name)).collect();
    for name in present {
        headers.remove(name);
    }
    if let Some(name) = &state.header_names.stream {
        headers.remove(name);
    }
    let stripped = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .zip(state.header_names.location_prefix.as_deref())
        .and_then(|(location, prefix)| location.strip_prefix(prefix))
        .filter(|rest| rest.starts_with('/'))
        .and_then(|rest| HeaderValue::try_from(rest).ok());
    if let Some(location) = stripped {
        headers.insert(LOCATION, location);
    }
}

//! API calls to this node's daemon. The request is built anew: nothing of the client's head goes along but what is
//! named here.

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
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::http::compression;
use crate::http::compression::ContentCoding;
use crate::http::error::Refusal;
use crate::http::logged_body::FileAnswer;
use crate::http::target::ApiPath;
use crate::http::zstd;
use crate::state::shared::AppState;
use crate::upstream::client::{PIECE, UpstreamClient, UpstreamResponse};
use crate::upstream::request::UpstreamRequest;

use super::download;
use super::page_title::PageTitle;
use crate::handler::spice_proxy_rewrite::PublicProxy;
use crate::handler::{coalesce, trace_headers};

/// Said anew in every answer by ourselves.
static SAID_ANEW: [HeaderName; 5] = [DATE, SERVER, EXPIRES, CACHE_CONTROL, PRAGMA];

/// A call that has passed the gate.
pub struct ApiCall<'a> {
    pub head: &'a Parts,
    /// path and query as they are sent on
    pub target: String,
    pub identity: &'a AuthenticatedUser,
    /// who the daemon is told the client is
    pub client: &'a HeaderValue,
    pub body: Bytes,
    pub place: DownloadSource<'a>,
    /// for the head of the answer, and between two pieces of its body
    pub timeout: Duration,
    /// bytes of the answer that are held for its client
    pub piece: usize,
}

/// What an answer may name a file for (`download.rs`).
#[derive(Clone, Copy)]
pub struct DownloadSource<'a> {
    pub method: &'a Method,
    pub path: &'a ApiPath,
    /// the daemon that answers may read every file anyway
    pub privileged: bool,
    /// the answer is a page of the daemon with root, which stands in for another
    pub stands_in: bool,
}

/// No answer to a login is longer. It is read whole, whatever its framing, so that it can be judged.
const LONGEST_LOGIN_ANSWER: usize = 64 << 10;

/// How much of an answer is held, in bytes.
#[derive(Clone, Copy)]
struct ResponseBounds {
    /// an answer of known length up to this is read whole before its head goes out, so that a daemon that dies in the
    /// middle gives a clean error
    whole: usize,
    /// of others
    piece: usize,
    /// a longer one is an error
    is_limit: bool,
}

impl ResponseBounds {
    fn take_whole(self, length: Option<u64>) -> bool {
        let fits = |length| usize::try_from(length).is_ok_and(|length| length <= self.whole);
        self.is_limit || length.is_some_and(fits)
    }
}

impl<'a> DownloadSource<'a> {
    /// A call whose answer names no file, whoever answers.
    pub fn of_call(method: &'a Method, path: &'a ApiPath) -> Self {
        Self { method, path, privileged: false, stands_in: false }
    }
}

/// Asks the daemon and passes its answer on.
pub async fn call(
    engine: &AppState,
    upstream: &UpstreamClient,
    call: ApiCall<'_>,
) -> Result<Response<ResponseBody>, Refusal> {
    let is_login = engine.login_proof(call.place.method, call.place.path).is_some();
    // What is looked into must not be compressed.
    let coding = coding(engine, upstream, call.head).filter(|_| !is_login);
    let is_changed = named_proxy(engine, call.place).is_some() || page_title(engine, call.place).is_some();
    let by_daemon = coding.filter(|coding| *coding != ContentCoding::Zstd && !is_changed);
    let shared = engine.shared_calls.as_ref().filter(|_| upstream.is_local());
    let key = shared.and_then(|shared| Some((shared, shared.key(&call, by_daemon)?)));
    let whole = if key.is_some() { coalesce::LARGEST } else { call.piece };
    let whole = if is_login { LONGEST_LOGIN_ANSWER } else { whole };
    let bounds = ResponseBounds { whole, piece: call.piece, is_limit: is_login };
    let answer = if let Some((shared, key)) = key {
        // One that leads may take so long: to connect, for the head, and for the body.
        let longest = engine.config.settings.timeout.connect + call.timeout * 2;
        let ask = async || ask(engine, upstream, call, by_daemon, bounds).await;
        Box::pin(shared.ask(key, longest, ask)).await
    } else {
        ask(engine, upstream, call, by_daemon, bounds).await
    }?;
    Ok(if coding == Some(ContentCoding::Zstd) { zstd::zstd(answer) } else { answer })
}

async fn ask(
    engine: &AppState,
    upstream: &UpstreamClient,
    call: ApiCall<'_>,
    coding: Option<ContentCoding>,
    bounds: ResponseBounds,
) -> Result<Response<ResponseBody>, Refusal> {
    let place = call.place;
    let answer = upstream.send(request(engine, upstream, call, coding)?).await?;
    pass_on_within(engine, upstream, place, answer, bounds).await
}

/// What the answer is to be compressed with. Gzip and deflate are the daemon's, and come through as they are; zstd, where
/// it is offered, is our own: a daemon does not know it, and between nodes bytes are dearer than processors.
fn coding(engine: &AppState, upstream: &UpstreamClient, head: &Parts) -> Option<ContentCoding> {
    let settings = &engine.config.settings;
    let accepted = head.headers.get(ACCEPT_ENCODING).filter(|_| settings.compression)?;
    let offered: &[ContentCoding] = if settings.compression_api && upstream.is_local() {
        &[ContentCoding::Zstd, ContentCoding::Gzip, ContentCoding::Deflate]
    } else {
        &[ContentCoding::Gzip, ContentCoding::Deflate]
    };
    compression::negotiate(accepted.to_str().ok(), offered)
}

/// The request as the daemon gets it.
pub(super) fn request(
    engine: &AppState,
    upstream: &UpstreamClient,
    call: ApiCall<'_>,
    coding: Option<ContentCoding>,
) -> Result<UpstreamRequest, Refusal> {
    let method = if call.head.method == Method::HEAD { Method::GET } else { call.head.method.clone() };
    let has_body = matches!(method, Method::POST | Method::PUT);
    let closes = !upstream.keeps(&method);
    let malformed = Refusal::BadRequest("malformed request target");
    let mut request = UpstreamRequest::new(method, &call.target, call.timeout).ok_or(malformed)?;
    if let Some(host) = call.head.headers.get(HOST) {
        request.header(&HOST, host);
    }
    if let Some(name) = &engine.backend_headers.looped {
        request.header(name, &HeaderValue::from_static("true"));
    }
    if let Some(name) = &engine.backend_headers.client {
        request.header(name, call.client);
    }
    if !upstream.is_local() {
        request.identify();
    }
    for (name, value) in trace_headers::headers(&engine.config.settings.tracing, &call.head.headers) {
        request.header(&name, &value);
    }
    // Exactly the one credential that was judged, built anew.
    if let Some(client) = &call.identity.client {
        let (name, value) = &client.header;
        request.header(name, value);
    }
    if let (Some(token), Some(gate)) = (&call.identity.csrf_token, &engine.gate) {
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

/// The answer as the client gets it.
pub(super) async fn pass_on(
    engine: &AppState,
    upstream: &UpstreamClient,
    place: DownloadSource<'_>,
    answer: UpstreamResponse,
) -> Result<Response<ResponseBody>, Refusal> {
    pass_on_within(
        engine,
        upstream,
        place,
        answer,
        ResponseBounds { whole: PIECE, piece: PIECE, is_limit: false },
    )
    .await
}

/// The same within other bounds.
async fn pass_on_within(
    engine: &AppState,
    upstream: &UpstreamClient,
    place: DownloadSource<'_>,
    answer: UpstreamResponse,
    bounds: ResponseBounds,
) -> Result<Response<ResponseBody>, Refusal> {
    let UpstreamResponse { response, body: mut incoming, started } = answer;
    let (mut head, ()) = response.into_parts();
    if !upstream.is_local() && engine.backend_headers.is_stream(&head.headers) {
        return Err(Refusal::ForeignStream);
    }
    if head.status.is_informational() {
        return Err(upstream.senseless(started).into());
    }
    let named = download::body(engine, place, &mut head)?;
    if named.is_some() || is_file(engine, place, &head.headers) {
        head.extensions.insert(FileAnswer);
    }
    clean(engine, &mut head.headers);
    let plain = !head.headers.contains_key(CONTENT_ENCODING);
    let title = page_title(engine, place).filter(|_| plain);
    let body = match (named, incoming.length()) {
        (Some(named), _) => named,
        (None, length) if bounds.take_whole(length) => {
            let whole = upstream.whole(&mut incoming, bounds.whole, started).await?;
            let proxy = named_proxy(engine, place).filter(|_| plain && head.status.is_success());
            let whole = match proxy {
                Some(proxy) => proxy.put(whole),
                None => whole,
            };
            body::full(match title {
                Some(title) => title.put(whole),
                None => whole,
            })
        }
        _ if let Some(title) = title => {
            ResponseBody::boxed(title.put_in_stream(incoming.in_pieces_of(bounds.piece)))
        }
        _ => ResponseBody::boxed(incoming.in_pieces_of(bounds.piece)),
    };
    head.version = Version::default(); // the daemon's is between it and us
    Ok(Response::from_parts(head, body))
}

/// Whether the daemon sends a file rather than data: of a method that may, without the headers against caches that
/// data has, or as an attachment.
fn is_file(engine: &AppState, place: DownloadSource<'_>, headers: &HeaderMap) -> bool {
    let looks_like_one = !headers.contains_key(CACHE_CONTROL) || headers.contains_key(CONTENT_DISPOSITION);
    looks_like_one && download::may_send_file(engine, place)
}

/// What is put into an answer that names a proxy.
fn named_proxy<'e>(engine: &'e AppState, place: DownloadSource<'_>) -> Option<&'e PublicProxy> {
    engine.public_proxy.as_ref().filter(|proxy| proxy.is_named_by(place.method, place.path))
}

/// What an answer that is a page is called.
fn page_title<'e>(engine: &'e AppState, place: DownloadSource<'_>) -> Option<&'e PageTitle> {
    engine.page_title.as_ref().filter(|_| place.stands_in)
}

/// Takes out what we say ourselves, and the daemon's own address.
fn clean(engine: &AppState, headers: &mut HeaderMap) {
    // Few of them are there; to look for each would cost more.
    let there: SmallVec<[_; 5]> =
        SAID_ANEW.iter().filter(|name| headers.keys().any(|known| known == *name)).collect();
    for name in there {
        headers.remove(name);
    }
    if let Some(name) = &engine.backend_headers.stream {
        headers.remove(name);
    }
    let stripped = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .zip(engine.backend_headers.location_prefix.as_deref())
        .and_then(|(location, prefix)| location.strip_prefix(prefix))
        .filter(|rest| rest.starts_with('/'))
        .and_then(|rest| HeaderValue::try_from(rest).ok());
    if let Some(location) = stripped {
        headers.insert(LOCATION, location);
    }
}

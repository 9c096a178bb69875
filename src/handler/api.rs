//! API calls to this node's daemon. The request is built anew: nothing of the client's head goes along but what is
//! named here.

use std::future::Future as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE,
    EXPIRES, HOST, LOCATION, PRAGMA, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::ext::ReasonPhrase;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::engine::Engine;
use crate::gate::Identity;
use crate::gate::credential::Credential;
use crate::response::body::{self, Body};
use crate::response::compress::{self, Coding};
use crate::response::refusal::Refusal;
use crate::target::ApiPath;
use crate::upstream::{Answer, Upstream};

use super::download;

/// An answer of known length up to this is read whole before its head goes out, so that a daemon that dies in the
/// middle gives a clean error.
const COLLECT: u64 = 65_536;

/// What `uri_escape` of the original leaves alone.
const COOKIE_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Hop-by-hop (RFC 9110 section 7.6.1), or set by ourselves in every answer.
static NOT_PASSED_ON: [HeaderName; 13] = [
    CONNECTION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    DATE,
    SERVER,
    EXPIRES,
    CACHE_CONTROL,
    PRAGMA,
];

/// A call that has passed the gate.
pub struct Call<'a> {
    pub head: &'a Parts,
    /// path and query as they are sent on
    pub target: String,
    pub identity: &'a Identity,
    /// who the daemon is told the client is
    pub client: IpAddr,
    pub body: Bytes,
    pub place: Place<'a>,
}

/// What an answer may name a file for (`download.rs`).
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub method: &'a Method,
    pub path: &'a ApiPath,
    /// the daemon that answers may read every file anyway
    pub privileged: bool,
}

impl<'a> Place<'a> {
    /// A call whose answer names no file, whoever answers.
    pub fn of_call(method: &'a Method, path: &'a ApiPath) -> Self {
        Self { method, path, privileged: false }
    }
}

/// Asks the daemon and passes its answer on.
pub async fn call(engine: &Engine, upstream: &Upstream, call: Call<'_>) -> Result<Response<Body>, Refusal> {
    let place = call.place;
    let answer = upstream.send(request(engine, upstream, call)?).await?;
    pass_on(engine, upstream, place, answer).await
}

/// The request as the daemon gets it.
pub(super) fn request(
    engine: &Engine,
    upstream: &Upstream,
    call: Call<'_>,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let method = if call.head.method == Method::HEAD { Method::GET } else { call.head.method.clone() };
    let mut request = Request::new(Full::new(call.body));
    *request.uri_mut() = call.target.parse().map_err(|_| Refusal::BadRequest("malformed request target"))?;
    let has_body = matches!(method, Method::POST | Method::PUT);
    let length = request.body().size_hint().exact().unwrap_or_default();
    let headers = request.headers_mut();
    copy(&call.head.headers, headers, &HOST);
    if let Some(name) = &engine.backend_headers.looped {
        headers.insert(name, HeaderValue::from_static("true"));
    }
    if let Some(name) = &engine.backend_headers.client {
        headers
            .extend(HeaderValue::try_from(call.client.to_string()).ok().map(|value| (name.clone(), value)));
    }
    add_credential(engine, headers, call.identity)?;
    if engine.config.settings.compression {
        let accepted = call.head.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        if let Some(coding) = compress::negotiate(accepted, &[Coding::Gzip, Coding::Deflate]) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding.token()));
        }
    }
    if has_body {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        copy(&call.head.headers, headers, &CONTENT_TYPE);
        if length > 0 && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
    }
    if !upstream.keeps(&method) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    *request.method_mut() = method;
    Ok(request)
}

/// The first line of a header, as it came.
fn copy(from: &HeaderMap, to: &mut HeaderMap, name: &HeaderName) {
    if let Some(value) = from.get(name) {
        to.insert(name, value.clone());
    }
}

/// Exactly the one credential that was judged, built anew.
fn add_credential(engine: &Engine, headers: &mut HeaderMap, identity: &Identity) -> Result<(), Refusal> {
    let Some(gate) = &engine.gate else { return Ok(()) };
    let (name, value) = match &identity.credential {
        None => return Ok(()),
        Some(Credential::Ticket(ticket)) => {
            (COOKIE, format!("{}={}", gate.cookie_name(), utf8_percent_encode(ticket, COOKIE_VALUE)))
        }
        Some(Credential::ApiToken(token)) => {
            let scheme = gate.api_token_name().unwrap_or_default();
            (AUTHORIZATION, format!("{scheme} {}", utf8_percent_encode(token, COOKIE_VALUE)))
        }
    };
    let unsendable = |_| Refusal::BadRequest("malformed credential");
    let mut value = HeaderValue::try_from(value).map_err(unsendable)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    if let Some(token) = &identity.csrf_token {
        let token = HeaderValue::try_from(token).map_err(|_| Refusal::BadRequest("malformed CSRF token"))?;
        headers.insert(gate.csrf_header().clone(), token);
    }
    Ok(())
}

/// The answer as the client gets it.
pub(super) async fn pass_on(
    engine: &Engine,
    upstream: &Upstream,
    place: Place<'_>,
    answer: Answer,
) -> Result<Response<Body>, Refusal> {
    let Answer { response, connection, started } = answer;
    let (mut head, incoming) = response.into_parts();
    if !upstream.is_local() && engine.backend_headers.is_stream(&head.headers) {
        return Err(Refusal::ForeignStream);
    }
    if head.status.is_informational() {
        return Err(upstream.parse_error(started).into());
    }
    let named = download::body(engine, place, &mut head)?;
    clean(engine, &mut head.headers);
    let patience = engine.config.settings.timeout.answer;
    let body = match (named, incoming.size_hint().exact()) {
        (Some(named), _) => named,
        (None, Some(length)) if length <= COLLECT => {
            let collected = timeout(patience, incoming.collect()).await;
            let whole = match collected {
                Ok(Ok(whole)) => whole.to_bytes(),
                Ok(Err(_)) => return Err(upstream.body_error(started, "Broken pipe").into()),
                Err(_) => return Err(upstream.body_error(started, "Connection timed out").into()),
            };
            upstream.keep(connection);
            body::full(whole)
        }
        _ => Streamed::new(incoming, patience).boxed_unsync(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.extensions.remove::<ReasonPhrase>() {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}

/// Takes out what is between the daemon and us, with what it names itself in `Connection`. The length is told anew.
fn clean(engine: &Engine, headers: &mut HeaderMap) {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        connection.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in &NOT_PASSED_ON {
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

/// A body passed on as it comes, given up when the daemon pauses for too long. Trailers end here.
pub(super) struct Streamed<B> {
    incoming: B,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<B> Streamed<B> {
    pub(super) fn new(incoming: B, patience: Duration) -> Self {
        Self { incoming, patience, deadline: Box::pin(sleep(patience)) }
    }
}

impl<B> http_body::Body for Streamed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                let next = Instant::now() + self.patience;
                self.deadline.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Ok(_)) | None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Pending => match self.deadline.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

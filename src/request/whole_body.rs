//! The body of an API call, taken in whole.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::engine::Engine;
use crate::incoming::RequestBody;
use crate::limits::pace::Pace;
use crate::parameters::{self, BodyKind, ParameterError};
use crate::response::refusal::Refusal;

/// Takes in the whole body, and puts it back for whoever reads it next.
pub(super) async fn look_into(
    engine: &Engine,
    head: &Parts,
    body: &mut Option<RequestBody>,
) -> Result<Bytes, Refusal> {
    let whole = read(engine, head, body).await?;
    *body = Some(RequestBody::Whole(whole.clone().into()));
    Ok(whole)
}

/// What a call is sent on with.
pub(super) struct Sent {
    /// instead of the client's own
    pub(super) query: Option<String>,
    pub(super) body: Bytes,
}

/// The whole body. That of a DELETE becomes a part of the query: the daemon behind takes none with that method.
pub(super) async fn read_for_daemon(
    engine: &Engine,
    head: &Parts,
    body: &mut Option<RequestBody>,
) -> Result<Sent, Refusal> {
    let body = read(engine, head, body).await?;
    if head.method != Method::DELETE || body.is_empty() {
        return Ok(Sent { query: None, body });
    }
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = BodyKind::of(kind).ok_or_else(|| Refusal::UnexpectedContent(head.method.clone()))?;
    let query = parameters::into_query(head.uri.query().unwrap_or_default(), kind, &body)?;
    let limit = engine.config.settings.limits.url;
    if head.uri.path().len() + 1 + query.len() > limit {
        return Err(ParameterError::TooLong { limit }.into());
    }
    Ok(Sent { query: (!query.is_empty()).then_some(query), body: Bytes::new() })
}

/// The whole body, up to the limit: the daemon behind takes no chunks.
pub(super) async fn read(
    engine: &Engine,
    head: &Parts,
    body: &mut Option<RequestBody>,
) -> Result<Bytes, Refusal> {
    let limit = engine.config.settings.limits.body;
    let settings = &engine.config.settings;
    let pace = Pace { grace: settings.timeout.body, rate: settings.limits.body_rate };
    let announced = body.as_ref().map_or(0, |body| body.size_hint().lower());
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refusal::BodyTooLarge { limit });
    }
    let Some(incoming) = body.as_mut().filter(|body| !body.is_end_stream()) else {
        return Ok(Bytes::new());
    };
    let collected = collect(incoming, limit, pace).await;
    // What is too large is left where it is, to be drained.
    if !matches!(collected, Err(Refusal::BodyTooLarge { .. })) {
        *body = None;
    }
    let whole = collected?;
    if !whole.is_empty() && !matches!(head.method, Method::POST | Method::PUT | Method::DELETE) {
        return Err(Refusal::UnexpectedContent(head.method.clone()));
    }
    Ok(whole)
}

/// Trailers are dropped.
async fn collect(incoming: &mut RequestBody, limit: usize, pace: Pace) -> Result<Bytes, Refusal> {
    let began = Instant::now();
    let mut whole = BytesMut::new();
    let late = || Refusal::BodyTimeout { seconds: pace.grace.as_secs(), rate: pace.rate };
    loop {
        let received = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let until = began + pace.time_for(received).unwrap_or(pace.grace);
        let frame = timeout_at(until, incoming.frame()).await.map_err(|_| late())?;
        let Some(frame) = frame else { return Ok(whole.freeze()) };
        let data = frame.map_err(|_| Refusal::BodyBroken)?.into_data().unwrap_or_default();
        if whole.len() + data.len() > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        whole.extend_from_slice(&data);
    }
}

//! The body of an API call, read whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::auth::authenticator::AuthenticatedUser;
use crate::http::body_parameters::{self, BodyKind, ParameterError};
use crate::http::bound::BoundExceeded;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::limits::buffer_budget::{BufferOwner, BufferPermit, UNCOUNTED_BYTES};
use crate::limits::failure_table::ClientKey;
use crate::limits::min_rate::{MinRate, RateTracker};
use crate::proxy::incoming_request::IncomingRequest;

/// How much nodegate trusts the sender of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SenderTrust {
    /// without a login
    Unauthenticated,
    /// with an API token that the daemon has not accepted yet
    UnverifiedToken,
    User(Arc<str>),
}

impl SenderTrust {
    pub fn from_identity(identity: &AuthenticatedUser) -> Self {
        match &identity.client {
            None => Self::Unauthenticated,
            Some(known) if known.is_unverified() => Self::UnverifiedToken,
            Some(known) => Self::User(Arc::clone(&known.user)),
        }
    }

    /// A user with a verified credential.
    fn user(&self) -> Option<&Arc<str>> {
        match self {
            Self::Unauthenticated | Self::UnverifiedToken => None,
            Self::User(name) => Some(name),
        }
    }
}

/// Whether the body is so small that the connection's memory covers it.
pub fn is_small(body: Option<&RequestBody>) -> bool {
    let upper = body.map_or(Some(0), |body| body.size_hint().upper());
    upper.and_then(|bytes| usize::try_from(bytes).ok()).is_some_and(|bytes| bytes <= UNCOUNTED_BYTES)
}

/// Reads the whole body, and puts it back for the next reader.
pub async fn peek(
    request: &IncomingRequest,
    sender: SenderTrust,
    body: &mut Option<RequestBody>,
) -> Result<Bytes, ResponseError> {
    let whole = read(request, sender, body).await?;
    *body = Some(RequestBody::Whole(whole.clone().into()));
    Ok(whole)
}

/// A call's query and body for the daemon.
pub(super) struct PreparedCall {
    /// instead of the client's own
    pub query: Option<String>,
    pub body: Bytes,
}

/// The whole body. The body of a DELETE becomes part of the query, because the daemon reads none with this method.
pub(super) async fn read_for_daemon(
    request: &IncomingRequest,
    identity: &AuthenticatedUser,
    body: &mut Option<RequestBody>,
) -> Result<PreparedCall, ResponseError> {
    let body = read(request, SenderTrust::from_identity(identity), body).await?;
    let head = &request.head;
    if let Some(uploads) = &request.context.handlers.uploads {
        uploads.check_body(head, &body)?;
    }
    if head.method != Method::DELETE || body.is_empty() {
        return Ok(PreparedCall { query: None, body });
    }
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = BodyKind::from_content_type(kind)
        .ok_or_else(|| ResponseError::UnexpectedContent(head.method.clone()))?;
    let query = body_parameters::into_query(head.uri.query().unwrap_or_default(), kind, &body)?;
    let limit = request.context.state.config.settings.limits.uri_bytes;
    if head.uri.path().len() + 1 + query.len() > limit {
        return Err(ParameterError::TooLong { limit }.into());
    }
    Ok(PreparedCall { query: (!query.is_empty()).then_some(query), body: Bytes::new() })
}

/// The whole body, up to the limit. The daemon does not accept chunks.
pub async fn read(
    request: &IncomingRequest,
    sender: SenderTrust,
    body: &mut Option<RequestBody>,
) -> Result<Bytes, ResponseError> {
    let Some(incoming) = body.as_mut().filter(|body| !body.is_end_stream()) else {
        return Ok(Bytes::new());
    };
    let bounds = BodyBounds::from_request(request, &sender);
    let method = &request.head.method;
    let takes_one = matches!(*method, Method::POST | Method::PUT | Method::DELETE);
    let announced = incoming.size_hint();
    let least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
    if least > bounds.limit {
        return Err(BoundExceeded::Body { limit: bounds.limit }.into());
    }
    if least > 0 && !takes_one {
        return Err(ResponseError::UnexpectedContent(method.clone()));
    }
    // A body that was read before has its room already.
    let mut room = (!matches!(incoming, RequestBody::Whole(_))).then(|| room(request, &sender));
    let most = if announced.exact().is_some() { least } else { bounds.limit };
    let size = BodySize { most, at_once: sender.user().is_some() };
    let collected = collect(incoming, room.as_mut(), size, bounds).await;
    // A body without room stays unread, to be drained.
    if !matches!(
        collected,
        Err(ResponseError::Bound(BoundExceeded::Body { .. }) | ResponseError::LimitExceeded(_))
    ) {
        *body = None;
    }
    let whole = collected?;
    if !whole.is_empty() && !takes_one {
        return Err(ResponseError::UnexpectedContent(method.clone()));
    }
    Ok(held(whole, room))
}

/// The size limit and the rate for a body.
#[derive(Clone, Copy)]
struct BodyBounds {
    limit: usize,
    min_rate: MinRate,
}

impl BodyBounds {
    fn from_request(request: &IncomingRequest, sender: &SenderTrust) -> Self {
        let settings = &request.context.state.config.settings;
        let (limits, timeout) = (&settings.limits, &settings.timeout);
        // Without a rate the deadline covers the whole body.
        let whole_within = |grace: Duration| MinRate { grace, rate: 0 };
        match sender {
            SenderTrust::Unauthenticated => {
                let limit = limits.login_body.min(limits.body);
                Self { limit, min_rate: whole_within(timeout.login_body) }
            }
            SenderTrust::UnverifiedToken => Self { limit: limits.body, min_rate: whole_within(timeout.body) },
            SenderTrust::User(_) => Self {
                limit: limits.body,
                min_rate: MinRate { grace: timeout.body, rate: limits.request_body_min_rate },
            },
        }
    }
}

fn room(request: &IncomingRequest, sender: &SenderTrust) -> BufferPermit {
    let state = &request.context.state;
    let source = state.rate_limit_key(request.client.client_ip, request.real).map(ClientKey::from_address);
    let holder = BufferOwner::new(request.client.listener(), source, sender.user().cloned());
    state.limiters.buffered.empty_permit(state.body_budget(), holder)
}

/// The room that a body may need.
#[derive(Clone, Copy)]
struct BodySize {
    most: usize,
    /// Whether room is claimed for the whole body once it exceeds `UNCOUNTED_BYTES`. Users wait for room, and bodies
    /// that each held a part would block each other.
    at_once: bool,
}

impl BodySize {
    /// The room to claim for `needed` bytes. An unauthenticated client gets at most twice the bytes that arrived,
    /// even if it announces more.
    fn step(self, needed: usize) -> usize {
        let step = match self.at_once {
            _ if needed <= UNCOUNTED_BYTES => UNCOUNTED_BYTES,
            true => self.most,
            false => needed.saturating_mul(2),
        };
        step.min(self.most).max(needed)
    }
}

/// Bytes that release their room when they are dropped.
fn held(whole: Bytes, room: Option<BufferPermit>) -> Bytes {
    struct BufferedBody {
        bytes: Bytes,
        _room: BufferPermit,
    }
    impl AsRef<[u8]> for BufferedBody {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let Some(mut room) = room.filter(|_| !whole.is_empty()) else { return whole };
    room.shrink_to(whole.len());
    Bytes::from_owner(BufferedBody { bytes: whole, _room: room })
}

/// Reads a body to its end. Trailers are dropped.
async fn collect(
    incoming: &mut RequestBody,
    mut room: Option<&mut BufferPermit>,
    size: BodySize,
    bounds: BodyBounds,
) -> Result<Bytes, ResponseError> {
    let BodyBounds { limit, min_rate } = bounds;
    let mut received = RateTracker::new(min_rate);
    let mut whole = Vec::new();
    let late = || BoundExceeded::BodyTime { seconds: min_rate.grace.as_secs(), rate: min_rate.rate };
    loop {
        let began = Instant::now();
        let frame = timeout(received.remaining(), incoming.frame()).await.map_err(|_| late())?;
        received.add_wait(began.elapsed());
        let Some(frame) = frame else {
            whole.shrink_to_fit();
            return Ok(whole.into());
        };
        let data = frame.map_err(|_| ResponseError::BodyBroken)?.into_data().unwrap_or_default();
        received.add_bytes(data.len());
        let needed = whole.len() + data.len();
        if needed > limit {
            return Err(BoundExceeded::Body { limit }.into());
        }
        let Some(room) = room.as_deref_mut() else {
            if incoming.is_end_stream() && whole.is_empty() {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
            continue;
        };
        if needed > whole.capacity() {
            let step = size.step(needed);
            room.grow_to(step).await?;
            // `Vec` would grow to more than the claimed room.
            whole.reserve_exact(step - whole.len());
        }
        whole.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_as_bytes_come() {
        let (unauthenticated, user) =
            (BodySize { most: 500_000, at_once: false }, BodySize { most: 500_000, at_once: true });
        for size in [unauthenticated, user] {
            assert_eq!(size.step(1), UNCOUNTED_BYTES, "what is announced costs nothing");
            assert_eq!(size.step(500_000), 500_000);
        }
        assert_eq!((unauthenticated.step(5000), user.step(5000)), (10_000, 500_000));
        assert_eq!(BodySize { most: 300, at_once: true }.step(200), 300);
    }
}

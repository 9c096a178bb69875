//! Consoles: nodegate decodes the client's WebSocket frames and relays their payload to the port or socket that the
//! daemon names. [`open`] answers the request; afterwards [`relay`] owns the connection.

pub mod decoder;
pub mod frame;
mod frame_stream;
pub mod handshake;
mod keepalive;
pub mod origin;
pub mod relay;
pub mod target;
mod utf8;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};

use super::HandlerAnswer;
use super::api::ApiCall;
use super::api::answer::AnswerForwarder;
use crate::handler::console::target::{ConnectedConsole, ConsoleRules, ConsoleTargetError};
use crate::http::body;
use crate::http::error::{HandlerError, ResponseError};
use crate::metrics::sessions::{SessionInfo, SessionKind};
use crate::net::forwarded_host;
use crate::os::log_limit::{self, LogTopic};
use crate::os::log_text::shortened;
use crate::state::client_connection::ClientConnection;
use crate::state::shared::AppState;
use crate::upstream::client::{UpstreamClient, UpstreamResponse};
use crate::verdict::api_answer::ApiAnswer;
use handshake::{HandshakeError, WebSocketHandshake};
use origin::{ConsoleCall, ForeignOrigin};

/// The daemon's answer is one port or path.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// The reason why a client gets no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Target(#[from] ConsoleTargetError),
    #[error(transparent)]
    Origin(#[from] ForeignOrigin),
    #[error("this product has no consoles")]
    Unsupported,
}

impl From<ConsoleError> for ResponseError {
    fn from(error: ConsoleError) -> Self {
        let status = match &error {
            ConsoleError::Handshake(error) => error.status(),
            ConsoleError::Target(_) | ConsoleError::Origin(_) => StatusCode::FORBIDDEN,
            ConsoleError::Unsupported => StatusCode::NOT_IMPLEMENTED,
        };
        let is_after_upstream = matches!(error, ConsoleError::Target(_));
        let mut headers = HeaderMap::new();
        if let ConsoleError::Handshake(error) = &error {
            error.add_headers(&mut headers);
        }
        HandlerError { headers, is_after_upstream, ..HandlerError::new(status, error) }.into()
    }
}

/// Asks the daemon for the console's target, connects to it and accepts the WebSocket. Any other answer of the daemon
/// goes to the client.
pub async fn open(
    rules: &ConsoleRules,
    state: &AppState,
    upstream: &UpstreamClient,
    client: &ClientConnection,
    call: ApiCall<'_>,
) -> Result<HandlerAnswer, ResponseError> {
    let handshake = WebSocketHandshake::check(call.head, &rules.subprotocols).map_err(ConsoleError::from)?;
    let foreign = check_origin(state, rules, client, &call)?;
    let source = call.source;
    let named = call.client.to_str().ok().and_then(|address| address.parse().ok());
    let (user, target) = (call.identity.user(), source.path.joined().into_owned());
    let answer = call.send(state, upstream, None).await?;
    if answer.response.status() != StatusCode::OK {
        return Ok(AnswerForwarder::new(state, upstream).forward(source, answer).await?.into());
    }
    let UpstreamResponse { response, mut body, started } = answer;
    let (head, ()) = response.into_parts();
    let invalid = || upstream.invalid_response(started);
    let body = upstream.read_whole(&mut body, MAX_ANSWER_BYTES, started).await?;
    let answer = ApiAnswer::read(&head.headers, &body).ok_or_else(invalid)?;
    match rules.find_target(&answer).map_err(ConsoleError::from)? {
        Some(target_address) => {
            let stream = rules.connect(&target_address, state.config.settings.timeout.connect).await?;
            let client = named.unwrap_or(client.client_ip.address());
            let session = SessionInfo::new(SessionKind::Console, client, user, target);
            let listed = state.metrics.sessions.open(session);
            if let Some(foreign) = foreign {
                log_foreign_origin(&foreign);
            }
            let upgrade = Some(Box::new(ConnectedConsole { stream, listed }));
            Ok(HandlerAnswer { response: handshake.response(), upgrade })
        }
        // Where the status is in the body, an error has HTTP status 200.
        None if answer.data().is_some_and(serde_json::Value::is_null) => {
            let mut response = Response::new(body::full(body));
            response
                .headers_mut()
                .extend(head.headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
            Ok(response.into())
        }
        None => Err(invalid().into()),
    }
}

/// Verifies the page's origin. `Some` is a foreign origin that is accepted because the call has the console's own
/// ticket.
fn check_origin(
    state: &AppState,
    rules: &ConsoleRules,
    client: &ClientConnection,
    call: &ApiCall<'_>,
) -> Result<Option<ForeignOrigin>, ConsoleError> {
    let (headers, settings) = (&call.head.headers, &state.config.settings);
    let forwarded = if state.is_proxy(client.client_ip) {
        forwarded_host::host_names(headers, |address| settings.real_ip.is_proxy(address))
    } else {
        Vec::new()
    };
    let query = call.head.uri.query().unwrap_or_default();
    let by_cookie = state
        .authenticator
        .as_ref()
        .is_some_and(|authenticator| authenticator.is_by_cookie(call.identity, headers));
    let has_own_ticket = rules.has_own_ticket(call.source.path, query);
    let call = ConsoleCall { headers, by_cookie, has_own_ticket, forwarded };
    origin::check_origin(&settings.console_origins, &call).map_err(|foreign| {
        // Browsers show only that the connection failed, so the reason goes to the log.
        if let Some(left_out) = log_limit::is_due(LogTopic::Origin, &format!("refused {}", foreign.origin)) {
            let foreign = foreign.to_string();
            let foreign = shortened(&foreign, 2 * log_limit::MAX_CLIENT_TEXT_BYTES);
            tracing::warn!("console refused: {foreign}{left_out}");
        }
        ConsoleError::Origin(foreign)
    })
}

fn log_foreign_origin(foreign: &ForeignOrigin) {
    let ForeignOrigin { origin, own } = foreign;
    if log_limit::is_due(LogTopic::Origin, origin).is_some() {
        let origin = shortened(origin, log_limit::MAX_CLIENT_TEXT_BYTES);
        tracing::info!(
            ?origin,
            %own,
            "a page of another origin opened a console with the console's own ticket; console.origins forbids that"
        );
    }
}

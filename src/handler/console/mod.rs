//! Consoles: a websocket whose frames are unpacked here, and a plain stream to the port or socket that the daemon
//! names. `open` answers the request; the connection then becomes the bridge.

pub mod decoder;
pub mod frame;
mod frame_stream;
pub mod handshake;
mod keepalive;
pub mod origin;
pub mod relay;
pub mod target;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};

use super::api::{self, ApiCall};
use crate::handler::console::target::{ConnectedConsole, ConsoleRules, PlaceError};
use crate::http::body;
use crate::http::body::ResponseBody;
use crate::http::error::Refusal;
use crate::metrics::sessions::{SessionInfo, SessionKind};
use crate::net::forwarded_host;
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;
use crate::os::log_text::shortened;
use crate::proxy::request::ClientConnection;
use crate::state::shared::AppState;
use crate::upstream::client::{UpstreamClient, UpstreamResponse};
use crate::verdict::api_answer::ApiAnswer;
use handshake::{HandshakeError, WebSocketHandshake};
use origin::{ConsoleCall, ForeignOrigin};

/// The daemon's answer is one port or path.
const ANSWER: usize = 16 << 10;

/// Why a client gets no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("{0}")]
    Origin(ForeignOrigin),
    #[error("this product has no consoles")]
    None,
}

impl ConsoleError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Handshake(error) => error.status(),
            Self::Place(_) | Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::None => StatusCode::NOT_IMPLEMENTED,
        }
    }

    pub fn add_headers(&self, headers: &mut HeaderMap) {
        if let Self::Handshake(error) = self {
            error.add_headers(headers);
        }
    }
}

/// Asks the daemon where the console is, connects to it, and agrees to the websocket. Whatever else the daemon says
/// is passed on.
pub async fn open(
    engine: &AppState,
    upstream: &UpstreamClient,
    client: &ClientConnection,
    call: ApiCall<'_>,
) -> Result<Response<ResponseBody>, Refusal> {
    let rules = engine.consoles.as_ref().ok_or(ConsoleError::None)?;
    let handshake = WebSocketHandshake::check(call.head).map_err(ConsoleError::from)?;
    let foreign = check_origin(engine, rules, client, &call)?;
    let asked = call.place;
    let named = call.client.to_str().ok().and_then(|address| address.parse().ok());
    let (user, target) = (call.identity.user(), asked.path.joined().into_owned());
    let answer = upstream.send(api::request(engine, upstream, call, None)?).await?;
    if answer.response.status() != StatusCode::OK {
        return api::pass_on(engine, upstream, asked, answer).await;
    }
    let UpstreamResponse { response, mut body, started } = answer;
    let (head, ()) = response.into_parts();
    let invalid = || upstream.senseless(started);
    let body = upstream.whole(&mut body, ANSWER, started).await?;
    let told = ApiAnswer::read(&head.headers, &body).ok_or_else(invalid)?;
    match rules.place(&told) {
        Some(place) => {
            let place = place.map_err(ConsoleError::from)?;
            let stream = rules.connect(&place, engine.config.settings.timeout.connect).await?;
            let listed =
                SessionInfo::new(SessionKind::Console, named.unwrap_or(client.peer.address()), user, target)
                    .open();
            if let Some(foreign) = foreign {
                log_foreign_origin(&foreign);
            }
            client.console.set(Some(Box::new(ConnectedConsole { stream, listed })));
            Ok(handshake.response())
        }
        // In the extjs form an error is a success of HTTP.
        None if told.data().is_some_and(serde_json::Value::is_null) => {
            let mut response = Response::new(body::full(body));
            response
                .headers_mut()
                .extend(head.headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
            Ok(response)
        }
        None => Err(invalid().into()),
    }
}

/// Whether the page that asks may; `Some`: only because of the console's own ticket.
fn check_origin(
    engine: &AppState,
    rules: &ConsoleRules,
    client: &ClientConnection,
    call: &ApiCall<'_>,
) -> Result<Option<ForeignOrigin>, ConsoleError> {
    let (headers, settings) = (&call.head.headers, &engine.config.settings);
    let forwarded = if engine.is_proxy(client.peer) {
        forwarded_host::named(headers, |address| settings.real_ip.is_proxy(address))
    } else {
        Vec::new()
    };
    let query = call.head.uri.query().unwrap_or_default();
    let by_cookie = engine.gate.as_ref().is_some_and(|gate| gate.is_by_cookie(call.identity, headers));
    let has_own_ticket = rules.has_own_ticket(call.place.path, query);
    let call = ConsoleCall { headers, by_cookie, has_own_ticket, forwarded };
    origin::check(&settings.console_origins, &call).map_err(|foreign| {
        // A page shows its user no more than that the connection failed.
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

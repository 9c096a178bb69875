//! Consoles: a websocket whose frames are unpacked here, and a plain stream to the port or socket that the daemon
//! names. `open` answers the request; the connection then becomes the bridge.

pub mod bridge;
pub mod console;
pub mod decoder;
mod ends;
pub mod frame;
pub mod handshake;
mod pulse;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::api::{self, Call};
use crate::engine::Engine;
use crate::request::Client;
use crate::response::body::{self, Body};
use crate::response::refusal::Refusal;
use crate::status::bridges::{Bridge, Kind};
use crate::upstream::{Answer, Upstream};
use console::{Console, PlaceError};
use handshake::{Handshake, HandshakeError};

/// The daemon's answer is one port or path.
const ANSWER: usize = 16 << 10;

/// Why a client gets no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("this product has no consoles")]
    None,
}

impl ConsoleError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Handshake(error) => error.status(),
            Self::Place(_) => StatusCode::FORBIDDEN,
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
    engine: &Engine,
    upstream: &Upstream,
    client: &Client,
    call: Call<'_>,
) -> Result<Response<Body>, Refusal> {
    let rules = engine.consoles.as_ref().ok_or(ConsoleError::None)?;
    let handshake = Handshake::check(call.head).map_err(ConsoleError::from)?;
    let asked = call.place;
    let named = call.client.to_str().ok().and_then(|address| address.parse().ok());
    let (user, target) = (call.identity.user(), asked.path.joined().into_owned());
    let answer = upstream.send(api::request(engine, upstream, call, None)?).await?;
    if answer.response.status() != StatusCode::OK {
        return api::pass_on(engine, upstream, asked, answer).await;
    }
    let Answer { response, mut body, started } = answer;
    let (head, ()) = response.into_parts();
    let invalid = || upstream.parse_error(started);
    let body = upstream.whole(&mut body, ANSWER, started).await?;
    let told: Value = serde_json::from_slice(&body).map_err(|_| invalid())?;
    match rules.place(&told) {
        Some(place) => {
            let place = place.map_err(ConsoleError::from)?;
            let stream = rules.connect(&place, engine.config.settings.timeout.connect).await?;
            let listed =
                Bridge::new(Kind::Console, named.unwrap_or(client.peer.address()), user, target).open();
            client.console.set(Some(Box::new(Console { stream, listed })));
            Ok(handshake.response())
        }
        // In the extjs form an error is a success of HTTP.
        None if told.get("data").is_some_and(Value::is_null) => {
            let mut response = Response::new(body::full(body));
            response
                .headers_mut()
                .extend(head.headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
            Ok(response)
        }
        None => Err(invalid().into()),
    }
}

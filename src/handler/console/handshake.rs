//! The opening handshake of a WebSocket (RFC 6455 section 4.2). It needs only the head of a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};

use crate::http::body::{self, ResponseBody};
use crate::http::validate::is_token_byte;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The reason why a request opens no WebSocket.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    #[error("unable to upgrade to protocol '{0}', only to websocket")]
    Protocol(String),
    #[error("a websocket is opened with GET and HTTP/1.1")]
    Method,
    #[error("Connection: upgrade is missing")]
    Connection,
    #[error("missing websocket-version")]
    NoVersion,
    #[error("unsupported websocket-version '{0}', only 13")]
    Version(String),
    #[error("missing websocket-key")]
    NoKey,
    #[error("malformed websocket-key")]
    Key,
    #[error("malformed websocket-protocol")]
    Subprotocol,
}

impl HandshakeError {
    pub fn status(&self) -> StatusCode {
        let is_version = matches!(self, Self::Version(_));
        if is_version { StatusCode::UPGRADE_REQUIRED } else { StatusCode::BAD_REQUEST }
    }

    /// Adds the headers that tell the client the supported protocol and version.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        if matches!(self, Self::NoVersion | Self::Version(_)) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if matches!(self, Self::Version(_)) {
            headers.insert(UPGRADE, WEBSOCKET);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
}

/// A verified handshake, and the values of its answer.
#[derive(Debug, Eq, PartialEq)]
pub struct WebSocketHandshake {
    accept: String,
    subprotocol: Option<String>,
}

/// Whether the client asks for another protocol.
pub fn requests_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

impl WebSocketHandshake {
    /// `spoken` are the subprotocols of consoles.
    ///
    /// # Errors
    /// The head requests no WebSocket that nodegate supports.
    pub fn check(head: &Parts, spoken: &[String]) -> Result<Self, HandshakeError> {
        let headers = &head.headers;
        if !tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
            return Err(HandshakeError::Protocol(tokens(headers, &UPGRADE).collect::<Vec<_>>().join(", ")));
        }
        if head.method != Method::GET || head.version != Version::HTTP_11 {
            return Err(HandshakeError::Method);
        }
        if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(HandshakeError::Connection);
        }
        let version = headers.get(SEC_WEBSOCKET_VERSION).ok_or(HandshakeError::NoVersion)?;
        if version.as_bytes().trim_ascii() != b"13" {
            return Err(HandshakeError::Version(String::from_utf8_lossy(version.as_bytes()).into_owned()));
        }
        Ok(Self { accept: accept(headers)?, subprotocol: subprotocol(headers, spoken)? })
    }

    /// `101 Switching Protocols`.
    pub fn response(self) -> Response<ResponseBody> {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.extend(HeaderValue::try_from(self.accept).ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        let subprotocol = self.subprotocol.and_then(|name| HeaderValue::try_from(name).ok());
        headers.extend(subprotocol.map(|name| (SEC_WEBSOCKET_PROTOCOL, name)));
        response
    }
}

/// The elements of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn accept(headers: &HeaderMap) -> Result<String, HandshakeError> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().ok_or(HandshakeError::NoKey)?.as_bytes().trim_ascii();
    let decoded = STANDARD.decode(key).map_err(|_| HandshakeError::Key)?;
    if decoded.len() != 16 || keys.next().is_some() {
        return Err(HandshakeError::Key);
    }
    Ok(STANDARD.encode(openssl::sha::sha1(&[key, GUID].concat())))
}

/// The first subprotocol of the client that consoles speak. Without one the answer names none, and the client decides
/// whether it goes on (RFC 6455 section 4.2.2).
fn subprotocol(headers: &HeaderMap, spoken: &[String]) -> Result<Option<String>, HandshakeError> {
    let offered: Vec<&str> = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    if offered.iter().any(|name| !name.bytes().all(is_token_byte)) {
        return Err(HandshakeError::Subprotocol);
    }
    Ok(offered.into_iter().find(|name| spoken.iter().any(|known| known == name)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("Host", "node1:8006"),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The good request with changed or added lines. An empty value removes a line.
    fn checked(changes: &[(&str, &str)]) -> Result<WebSocketHandshake, HandshakeError> {
        let kept = GOOD.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let lines = kept.chain(changes.iter().filter(|(_, value)| !value.is_empty()));
        let request =
            lines.fold(http::Request::get("/"), |request, (name, value)| request.header(*name, *value));
        WebSocketHandshake::check(&request.body(()).unwrap().into_parts().0, &["binary".to_owned()])
    }

    #[test]
    fn only_a_spoken_subprotocol_is_chosen() {
        let chosen = |offered| checked(&[("Sec-WebSocket-Protocol", offered)]).unwrap().subprotocol;
        assert_eq!(chosen("binary, base64").as_deref(), Some("binary"));
        assert_eq!(chosen("base64, binary").as_deref(), Some("binary"));
        assert_eq!(chosen("base64").as_deref(), None);
        assert_eq!(chosen("").as_deref(), None);
        let malformed = checked(&[("Sec-WebSocket-Protocol", "binary, two words")]);
        assert_eq!(malformed.unwrap_err(), HandshakeError::Subprotocol);
    }
}

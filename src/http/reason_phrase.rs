//! The reason phrase: which bytes it may hold (RFC 9110 section 15.1, RFC 9112 section 4), and where it goes in
//! HTTP versions that have none (RFC 9113 section 8.3.2). Clients of the products show it to their users.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Extensions, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::body::{self, ResponseBody};
use crate::http::error::ErrorFormat;

/// The reason phrase as an HTTP/2 header, percent-encoded UTF-8.
const STATUS_MESSAGE: HeaderName = HeaderName::from_static("status-message");
/// Printable ASCII stays readable. Everything else is encoded, and so is `%` itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
/// Bytes of a reason phrase that nodegate makes itself.
const MAX_BYTES: usize = 512;

/// `text` as a reason phrase. Non-ASCII text stays as its UTF-8 bytes (obs-text); control characters, which could
/// split the head, become spaces.
pub fn reason_phrase(text: &str) -> Option<ReasonPhrase> {
    let mut bytes = text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or_default().as_bytes().to_vec();
    for byte in &mut bytes {
        if byte.is_ascii_control() && *byte != b'\t' {
            *byte = b' ';
        }
    }
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() { None } else { ReasonPhrase::try_from(trimmed).ok() }
}

/// The reason of a status: its own phrase, otherwise the usual one.
pub fn reason_of(status: StatusCode, extensions: &Extensions) -> String {
    let usual = status.canonical_reason().unwrap_or_default();
    extensions.get::<ReasonPhrase>().map_or(usual.into(), text_of).into_owned()
}

/// The text of a phrase.
pub fn text_of(phrase: &ReasonPhrase) -> Cow<'_, str> {
    utf8_or_latin1(phrase.as_bytes())
}

/// Reads bytes that are not UTF-8 as Latin-1, the historical charset of HTTP.
pub fn utf8_or_latin1(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), Cow::from)
}

/// Copies a phrase that differs from the standard one to a header, and to the body of an error without a body.
pub fn add_status_message(response: &mut Response<ResponseBody>, method: &Method, form: ErrorFormat) {
    let Some(phrase) = response.extensions_mut().remove::<ReasonPhrase>() else { return };
    let status = response.status();
    if status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase.as_bytes()) {
        return;
    }
    let text = text_of(&phrase);
    let encoded = utf8_percent_encode(&text, ENCODED).to_string();
    response.headers_mut().extend(HeaderValue::try_from(encoded).ok().map(|value| (STATUS_MESSAGE, value)));
    let is_empty = matches!(response.body(), ResponseBody::Full(bytes) if bytes.is_empty());
    if !is_empty || *method == Method::HEAD || status.as_u16() < 400 {
        return;
    }
    let failure = form.failure(status, &text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(failure.content_type));
    response.headers_mut().insert(CONTENT_LENGTH, failure.text.len().into());
    *response.body_mut() = body::full(failure.text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response_with(
        status: u16,
        phrase: &'static [u8],
        method: &Method,
        body: &'static str,
    ) -> Response<ResponseBody> {
        let mut response = Response::new(body::full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.extensions_mut().insert(ReasonPhrase::from_static(phrase));
        add_status_message(&mut response, method, ErrorFormat::Json);
        response
    }

    fn text(response: &Response<ResponseBody>) -> &[u8] {
        let ResponseBody::Full(bytes) = response.body() else { unreachable!() };
        bytes
    }

    #[test]
    fn a_phrase_fills_header_and_empty_body() {
        let response = response_with(595, b"no route", &Method::GET, "");
        assert_eq!(response.headers()[STATUS_MESSAGE], "no route");
        assert_eq!(text(&response), br#"{"data":null,"message":"no route"}"#);
        assert_eq!(response.headers()[CONTENT_LENGTH], "34");
        assert_eq!(text(&response_with(595, b"no route", &Method::GET, "x")), b"x");
        assert_eq!(text(&response_with(595, b"no route", &Method::HEAD, "")), b"");
        assert_eq!(text(&response_with(200, b"fine", &Method::GET, "")), b"");
        assert!(!response_with(404, b"Not Found", &Method::GET, "").headers().contains_key(STATUS_MESSAGE));
    }

    #[test]
    fn the_phrase_header_is_percent_encoded_utf8() {
        for (phrase, encoded, body) in [
            (
                "no such user ('m\u{fc}ller@pve')".as_bytes(),
                "no such user ('m%C3%BCller@pve')",
                "m\u{fc}ller",
            ),
            (b"caf\xe9 100%", "caf%C3%A9 100%25", "caf\u{e9} 100%"),
            (b"a\tb", "a%09b", "a\\tb"),
        ] {
            let phrase: &'static [u8] = phrase.to_vec().leak();
            let response = response_with(500, phrase, &Method::GET, "");
            assert_eq!(response.headers()[STATUS_MESSAGE], encoded);
            let text = String::from_utf8_lossy(text(&response)).into_owned();
            assert!(text.contains(body), "{text}");
        }
    }

    #[test]
    fn a_reason_phrase_cannot_split_the_head() {
        let reason = |text| reason_phrase(text).map(|reason| text_of(&reason).into_owned());
        assert_eq!(reason("a\r\nSet-Cookie: x\0y\u{7f}").as_deref(), Some("a  Set-Cookie: x y"));
        assert_eq!(reason(" \u{fc}\u{20ac}\tx ").as_deref(), Some("\u{fc}\u{20ac}\tx"));
        assert_eq!(reason("\r\n \0"), None);
        let long = reason(&"\u{20ac}".repeat(400)).unwrap();
        assert_eq!((long.len(), long.trim_matches('\u{20ac}')), (510, ""));
    }
}

//! The reason phrase, where HTTP has no place for one: version 2 and above (RFC 9113 section 8.3.2). Clients of the products read it.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response};
use hyper::ext::ReasonPhrase;

use super::body::{self, Body};
use super::refusal::Form;

/// Beside the status, what it means.
const STATUS_MESSAGE: HeaderName = HeaderName::from_static("status-message");

/// Tells a phrase that says more than the status in a header, and in the body of a failure that has none.
pub fn tell(response: &mut Response<Body>, method: &Method, form: Form) {
    let Some(phrase) = response.extensions_mut().remove::<ReasonPhrase>() else { return };
    let status = response.status();
    if status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase.as_bytes()) {
        return;
    }
    response
        .headers_mut()
        .extend(HeaderValue::from_bytes(phrase.as_bytes()).ok().map(|value| (STATUS_MESSAGE, value)));
    let is_empty = matches!(response.body(), Body::Full(bytes) if bytes.is_empty());
    if !is_empty || *method == Method::HEAD || status.as_u16() < 400 {
        return;
    }
    let (content_type, text) = form.failure(status, &String::from_utf8_lossy(phrase.as_bytes()));
    let text = Bytes::from(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    *response.body_mut() = body::full(text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use http::StatusCode;

    use super::*;

    fn told(status: u16, phrase: &'static [u8], method: &Method, body: &'static str) -> Response<Body> {
        let mut response = Response::new(body::full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.extensions_mut().insert(ReasonPhrase::from_static(phrase));
        tell(&mut response, method, Form::Json);
        response
    }

    fn text(response: &Response<Body>) -> &[u8] {
        let Body::Full(bytes) = response.body() else { unreachable!() };
        bytes
    }

    #[test]
    fn a_phrase_goes_into_a_header_and_into_an_empty_body() {
        let response = told(595, b"no route", &Method::GET, "");
        assert_eq!(response.headers()[STATUS_MESSAGE], "no route");
        assert_eq!(text(&response), br#"{"data":null,"message":"no route"}"#);
        assert_eq!(response.headers()[CONTENT_LENGTH], "34");
        assert_eq!(text(&told(595, b"no route", &Method::GET, "x")), b"x");
        assert_eq!(text(&told(595, b"no route", &Method::HEAD, "")), b"");
        assert_eq!(text(&told(200, b"fine", &Method::GET, "")), b"");
        assert!(!told(404, b"Not Found", &Method::GET, "").headers().contains_key(STATUS_MESSAGE));
    }
}

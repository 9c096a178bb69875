//! Malformed request heads, and the answer to them.

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};

use crate::config::settings::LimitSettings;
use crate::http::body::ResponseBody;
use crate::http::bound::BoundExceeded;
use crate::http::error::ResponseError;
use crate::http::validate::is_token_byte;
use crate::state::shared::AppState;

/// A head that hyper rejected.
pub(super) struct MalformedHead<'a> {
    /// hyper's own answer
    pub own_response: &'a [u8],
    pub error: &'a hyper::Error,
    /// the head; empty if it was rejected after it was parsed
    pub head: &'a [u8],
}

impl MalformedHead<'_> {
    /// The same with a reason.
    pub fn refusal(&self, limits: &LimitSettings) -> ResponseError {
        match self.status() {
            StatusCode::URI_TOO_LONG => BoundExceeded::Uri { limit: limits.uri_bytes }.into(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if !self.head.contains(&b'\n') => {
                BoundExceeded::Uri { limit: limits.uri_bytes }.into()
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                BoundExceeded::Head { what: "too many bytes or lines", limit: limits.header }.into()
            }
            _ => self.fault(),
        }
    }

    /// A head that was rejected after it was parsed is well-formed.
    fn fault(&self) -> ResponseError {
        let message = self.error.to_string();
        let of_length = || malformed(fault_of_length(&message).unwrap_or("malformed request target"));
        if self.head.is_empty() || fault_of_length(&message).is_some() {
            return of_length();
        }
        fault_of_head(self.head).unwrap_or_else(of_length)
    }

    fn status(&self) -> StatusCode {
        let digits = self.own_response.get(9..12);
        digits.and_then(|digits| StatusCode::from_bytes(digits).ok()).unwrap_or(StatusCode::BAD_REQUEST)
    }
}

fn malformed(reason: impl Into<String>) -> ResponseError {
    ResponseError::Malformed { status: StatusCode::BAD_REQUEST, reason: reason.into() }
}

/// hyper's message for a body length that it does not understand.
fn fault_of_length(message: &str) -> Option<&'static str> {
    match message {
        "invalid content-length parsed" => {
            Some("Content-Length is not a number, or there are two that differ")
        }
        "invalid transfer-encoding parsed" => {
            Some("only the transfer coding 'chunked' is supported, and only once")
        }
        "unexpected transfer-encoding parsed" => Some("HTTP/1.0 has no Transfer-Encoding"),
        _ => None,
    }
}

/// The first fault of a head. The message names bytes, and repeats no text of the client.
fn fault_of_head(head: &[u8]) -> Option<ResponseError> {
    let head = head.trim_ascii_start();
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    fault_of_request_line(lines.next()?).or_else(|| {
        (1..)
            .zip(lines.take_while(|line| !line.is_empty()))
            .find_map(|(number, line)| fault_of_field(number, line))
    })
}

fn fault_of_request_line(line: &[u8]) -> Option<ResponseError> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next(), words.next());
    if let Some(byte) = method.iter().find(|byte| !is_token_byte(**byte)) {
        return Some(malformed(format!("the method holds the byte {byte:#04X}")));
    }
    let (Some(target), Some(version)) = (target, version) else {
        return Some(malformed("the request line is not METHOD TARGET HTTP/1.1"));
    };
    if let Some(byte) = target.iter().find(|byte| byte.is_ascii_control()) {
        return Some(malformed(format!(
            "the request target holds the byte {byte:#04X}; percent-encode it, unless it is a mistake"
        )));
    }
    match version {
        _ if target.is_empty() => Some(malformed("the request line is not METHOD TARGET HTTP/1.1")),
        b"HTTP/1.1" | b"HTTP/1.0" => None,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && *major != b'1' =>
        {
            Some(ResponseError::Malformed {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "HTTP/1.1 is spoken on this connection".to_owned(),
            })
        }
        _ => Some(malformed("the request line does not end in HTTP/1.0 or HTTP/1.1")),
    }
}

/// `number` counts from the line behind the request line.
fn fault_of_field(number: usize, line: &[u8]) -> Option<ResponseError> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Some(malformed(format!("header line {number} begins with white space")));
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0) else {
        return Some(malformed(format!("header line {number} has no name and colon")));
    };
    let (name, value) = line.split_at(colon);
    if let Some(byte) = name.iter().find(|byte| !is_token_byte(**byte)) {
        return Some(malformed(format!("the name in header line {number} holds the byte {byte:#04X}")));
    }
    let is_bad = |byte: &&u8| byte.is_ascii_control() && **byte != b'\t';
    let byte = value.iter().find(is_bad)?;
    Some(malformed(format!("the value in header line {number} holds the byte {byte:#04X}")))
}

/// The answer to a malformed head in bytes; the connection closes after it. `target` is the beginning of the target,
/// which decides the format.
pub fn answer(state: &AppState, refusal: ResponseError, target: &[u8], over_tls: bool) -> Vec<u8> {
    let form = state.api.error_format(std::str::from_utf8(target).unwrap_or_default());
    let mut response = refusal.into_response(form, &state.metrics);
    state.common_headers.add_to(&mut response, false, false);
    let (head, ()) = Request::new(()).into_parts();
    state.common_headers.browser.add_to(response.headers_mut(), &head, over_tls, true);
    written(&response)
}

fn written(response: &Response<ResponseBody>) -> Vec<u8> {
    let status = response.status();
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason =
        reason.map_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes(), |it| it.as_bytes());
    let empty = Bytes::new();
    let body = match response.body() {
        ResponseBody::Full(bytes) => bytes,
        ResponseBody::Streamed(_) => &empty,
    };
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut text = [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason, b"\r\n"].concat();
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != http::header::CONNECTION) {
        text.extend(title_case(name));
        text.extend([b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let length = body.len();
    text.extend(
        format!("Connection: close\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n").into_bytes(),
    );
    text.extend_from_slice(body);
    text
}

/// The same headers as in every other answer.
fn title_case(name: &HeaderName) -> Vec<u8> {
    let mut starts = true;
    let letters = name.as_str().bytes().map(|byte| {
        let letter = if starts { byte.to_ascii_uppercase() } else { byte };
        starts = byte == b'-';
        letter
    });
    letters.collect()
}

//! Checks the head of every request before anything else: size, Host, framing.

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Version};

use crate::config::settings::LimitSettings;
use crate::http::bound::BoundExceeded;
use crate::http::error::ResponseError;

/// `: ` and the line end.
const HEADER_OVERHEAD_BYTES: usize = 4;

/// Rejects what hyper accepts and nodegate does not.
pub fn check(head: &Parts, limits: &LimitSettings) -> Result<(), ResponseError> {
    check_target(head, limits)?;
    check_size(&head.headers, limits)?;
    check_host(head)?;
    check_framing(&head.headers)
}

/// Whether a token may hold the byte (`tchar`, RFC 9110 section 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// In the form of the access log.
pub fn request_line(head: &Parts) -> String {
    let version = match head.version {
        Version::HTTP_10 => " HTTP/1.0",
        Version::HTTP_2 => " HTTP/2.0",
        _ => " HTTP/1.1",
    };
    let target = head.uri.path_and_query().filter(|_| head.uri.authority().is_none());
    match target {
        Some(target) => [head.method.as_str(), " ", target.as_str(), version].concat(),
        None => format!("{} {}{version}", head.method, head.uri),
    }
}

/// Path and query.
fn check_target(head: &Parts, limits: &LimitSettings) -> Result<(), ResponseError> {
    match head.uri.path_and_query() {
        Some(target) if target.as_str().len() > limits.uri_bytes => {
            Err(BoundExceeded::Uri { limit: limits.uri_bytes }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Lines and bytes of the header block, the request line not counted.
fn check_size(headers: &HeaderMap, limits: &LimitSettings) -> Result<(), ResponseError> {
    if headers.len() > limits.headers {
        return Err(BoundExceeded::Head { what: "too many lines", limit: limits.headers }.into());
    }
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES).sum();
    if bytes > limits.header {
        return Err(BoundExceeded::Head { what: "too many bytes", limit: limits.header }.into());
    }
    Ok(())
}

/// Exactly one Host, and the one of an absolute target (RFC 9112 section 3.2). HTTP/1.0 may come without.
fn check_host(head: &Parts) -> Result<(), ResponseError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(ResponseError::BadRequest("more than one Host header")),
        (Some(host), None) => host.to_str().unwrap_or_default(),
        (None, _) if head.version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(ResponseError::BadRequest("Host header missing")),
    };
    match host.parse::<Authority>() {
        Ok(authority) if !host.contains('@') && has_good_port(&authority) => match head.uri.authority() {
            Some(target) if !target.as_str().eq_ignore_ascii_case(authority.as_str()) => {
                Err(ResponseError::BadRequest("Host header and request target disagree"))
            }
            Some(_) | None => Ok(()),
        },
        _ => Err(ResponseError::BadRequest("malformed Host header")),
    }
}

/// A port must be a number.
fn has_good_port(authority: &Authority) -> bool {
    authority.as_str().rsplit_once(':').is_none_or(|(_, port)| {
        port.is_empty() || authority.as_str().ends_with(']') || authority.port_u16().is_some()
    })
}

/// Whether the sender keeps the connection open (RFC 9112 section 9.3).
pub fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let names = |option: &str| {
        let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|named| named.trim().eq_ignore_ascii_case(option))
    };
    match version {
        Version::HTTP_10 => names("keep-alive"),
        Version::HTTP_2 => false, // a connection does not end with a request
        _ => !names("close"),
    }
}

/// One transfer coding, `chunked`, applied once (RFC 9112 section 6.1). Another one would reach the daemon undecoded.
fn check_framing(headers: &HeaderMap) -> Result<(), ResponseError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(ResponseError::BadRequest("only the transfer coding 'chunked' is supported, and only once")),
    }
}

//! The head of an answer (RFC 9112), and how long its body is.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

use crate::head::keeps_alive;

/// Header lines of one answer.
const LINES: usize = 128;
/// So many need no memory of their own.
const USUAL: usize = 16;
/// Bytes of one head.
const LONGEST: usize = 256 << 10;

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Head {
    pub response: Response<()>,
    pub framing: Framing,
    /// whether the other side lets the connection open
    pub keeps_alive: bool,
}

/// It is no answer of HTTP/1.
#[derive(Debug, Eq, PartialEq)]
pub struct Malformed;

/// Where in the head one line's name and value lie.
type Place = (Range<usize>, Range<usize>);

/// Takes a whole head from the front of `buffer`; `None` while its end has not come. Interim answers but 101 are
/// skipped.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    loop {
        if buffer.is_empty() {
            return Ok(None);
        }
        let mut lines = [const { MaybeUninit::uninit() }; LINES];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut lines);
        let length = match status.map_err(|_| Malformed)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if buffer.len() > LONGEST => return Err(Malformed),
            httparse::Status::Partial => return Ok(None),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            buffer.advance(length);
            continue;
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let reason = parsed.reason.filter(|text| Some(*text) != status.canonical_reason());
        if let Some(reason) = reason.and_then(|text| ReasonPhrase::try_from(text.as_bytes().to_vec()).ok()) {
            response.extensions_mut().insert(reason);
        }
        let place = |text: &[u8]| {
            let start = text.as_ptr().addr().saturating_sub(buffer.as_ptr().addr());
            start..start + text.len()
        };
        let places: SmallVec<[Place; USUAL]> =
            parsed.headers.iter().map(|line| (place(line.name.as_bytes()), place(line.value))).collect();
        let head = buffer.split_to(length).freeze();
        fill(response.headers_mut(), &places, &head).ok_or(Malformed)?;
        return finish(response).map(Some);
    }
}

/// Headers that share the memory of the head.
fn fill(headers: &mut HeaderMap, places: &[Place], head: &Bytes) -> Option<()> {
    headers.reserve(places.len());
    for (name, value) in places {
        let name = HeaderName::from_bytes(head.get(name.clone())?).ok()?;
        let value = head.get(value.clone())?;
        headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(value)).ok()?);
    }
    Some(())
}

fn finish(response: Response<()>) -> Result<Head, Malformed> {
    let (version, headers) = (response.version(), response.headers());
    let framing = framing(response.status(), version, headers)?;
    let keeps_alive = keeps_alive(version, headers) && framing != Framing::UntilClose;
    Ok(Head { response, framing, keeps_alive })
}

fn framing(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<Framing, Malformed> {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return match (version, chunked) {
            (Version::HTTP_10, _) => Err(Malformed),
            (_, true) => Ok(Framing::Chunked),
            (_, false) => Ok(Framing::UntilClose),
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(length_of);
    match lengths.next() {
        None => Ok(Framing::UntilClose),
        Some(Some(first)) if lengths.all(|more| more == Some(first)) => Ok(Framing::Length(first)),
        Some(_) => Err(Malformed),
    }
}

/// Digits alone: a sign, as `u64` would read it, is none.
fn length_of(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn taken(text: &str) -> (Result<Option<Head>, Malformed>, String) {
        let mut buffer = BytesMut::from(text);
        let head = take(&mut buffer);
        (head, String::from_utf8(buffer.to_vec()).unwrap())
    }

    fn framing_of(lines: &str) -> Option<(Framing, bool)> {
        let (head, _) = taken(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        head.ok().map(|head| head.map(|head| (head.framing, head.keeps_alive)).unwrap())
    }

    #[test]
    fn a_head_is_taken_and_the_body_left() {
        let (head, rest) =
            taken("HTTP/1.1 403 Permission check failed\r\nA: b\r\nA: c\r\nContent-Length: 4\r\n\r\nbody");
        let head = head.unwrap().unwrap();
        assert_eq!(head.response.status(), 403);
        assert_eq!(head.response.headers().get_all("a").iter().count(), 2);
        let reason = head.response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Permission check failed");
        assert_eq!((head.framing, rest.as_str()), (Framing::Length(4), "body"));
        assert!(taken("HTTP/1.1 200 OK\r\nA: b\r\n").0.unwrap().is_none());
    }

    #[test]
    fn interim_answers_are_skipped() {
        let (head, rest) = taken("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(head.unwrap().unwrap().response.status(), 204);
        assert_eq!(rest, "");
    }

    #[test]
    fn the_end_of_a_body_is_known_without_doubt_or_the_answer_refused() {
        let cases = [
            ("", Some((Framing::UntilClose, false))),
            ("Content-Length: 5\r\n", Some((Framing::Length(5), true))),
            ("Content-Length: 5\r\nConnection: x, Close\r\n", Some((Framing::Length(5), false))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Some((Framing::Length(5), true))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            ("Content-Length: +5\r\n", None),
            ("Content-Length: \r\n", None),
            ("Content-Length: 5, 5\r\n", None),
            ("Content-Length: 99999999999999999999\r\n", None),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Some((Framing::Chunked, true))),
            ("Transfer-Encoding: gzip, Chunked\r\n", Some((Framing::Chunked, true))),
            ("Transfer-Encoding: chunked, gzip\r\n", Some((Framing::UntilClose, false))),
        ];
        for (lines, expected) in cases {
            assert_eq!(framing_of(lines), expected, "{lines}");
        }
        assert!(taken("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").0.is_err());
    }

    #[test]
    fn rubbish_is_no_answer() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        ] {
            assert!(taken(text).0.is_err(), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(LONGEST));
        assert_eq!(taken(&endless).0.unwrap_err(), Malformed);
    }
}

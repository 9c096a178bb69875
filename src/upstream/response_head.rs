//! The head of a response (RFC 9112), and the framing of its body.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

/// Header lines of one response.
const MAX_HEADER_LINES: usize = 128;
/// Header lines that need no heap allocation.
const INLINE_HEADER_LINES: usize = 16;
const MAX_HEAD_BYTES: usize = 256 << 10;

/// More hop-by-hop headers. A `const` that holds `Bytes` would be made again at each use.
static HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    UPGRADE,
];

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFraming {
    /// by `Content-Length`
    Length(u64),
    /// by `Transfer-Encoding: chunked`
    Chunked,
    /// by the end of the connection
    UntilClose,
}

/// A response before its body. It holds only end-to-end headers.
#[derive(Debug)]
pub struct ResponseHead {
    /// status and headers
    pub response: Response<()>,
    /// how the body ends
    pub framing: BodyFraming,
    /// whether the server keeps the connection open
    pub keeps_alive: bool,
}

/// The bytes are no HTTP/1 response.
#[derive(Debug, Eq, PartialEq)]
pub struct MalformedResponse;

/// Ranges of a header's name and value in the head.
type HeaderSpan = (Range<usize>, Range<usize>);

/// Takes a whole head from the front of `buffer`; `None` if its end has not arrived. Skips interim responses except
/// 101.
pub fn take(buffer: &mut BytesMut) -> Result<Option<ResponseHead>, MalformedResponse> {
    loop {
        match take_any(buffer)? {
            Some(ResponseHead { response, .. })
                if response.status().is_informational()
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS => {}
            head => return Ok(head),
        }
    }
}

/// The same for any response. A request with HTTP/1.0 gets no interim response (RFC 9110 section 15.2).
pub fn take_any(buffer: &mut BytesMut) -> Result<Option<ResponseHead>, MalformedResponse> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let phrase = clean_phrase(buffer);
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut lines);
    let length = match status.map_err(|_| MalformedResponse)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if buffer.len() > MAX_HEAD_BYTES => return Err(MalformedResponse),
        httparse::Status::Partial => return Ok(None),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(MalformedResponse)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let place = |text: &[u8]| {
        let start = text.as_ptr().addr().saturating_sub(buffer.as_ptr().addr());
        start..start + text.len()
    };
    let places: SmallVec<[HeaderSpan; INLINE_HEADER_LINES]> =
        parsed.headers.iter().map(|line| (place(line.name.as_bytes()), place(line.value))).collect();
    let head = buffer.split_to(length).freeze();
    if let Some(phrase) = own_phrase(phrase.and_then(|range| head.get(range)), status) {
        response.extensions_mut().insert(phrase);
    }
    let (headers, hop) = headers_of(&places, &head).ok_or(MalformedResponse)?;
    let framing = hop.framing(status, response.version())?;
    let keeps_alive = hop.keeps_alive(response.version()) && framing != BodyFraming::UntilClose;
    *response.headers_mut() = headers;
    Ok(Some(ResponseHead { response, framing, keeps_alive }))
}

/// Finds the reason phrase in a head that begins with a whole status line. httparse drops a phrase that is not ASCII, and
/// rejects control characters. Daemons put names of users and files into it, so its control characters become spaces.
fn clean_phrase(head: &mut [u8]) -> Option<Range<usize>> {
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let line = head.get_mut(..end)?;
    let end = line.strip_suffix(b"\r").map_or(end, <[u8]>::len);
    let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let start = spaces.nth(1)? + 1;
    let phrase = line.get_mut(start..end)?;
    for byte in phrase {
        if byte.is_ascii_control() && *byte != b'\t' {
            *byte = b' ';
        }
    }
    Some(start..end)
}

/// The phrase if it is not the canonical one; it may be empty.
fn own_phrase(phrase: Option<&[u8]>, status: StatusCode) -> Option<ReasonPhrase> {
    let phrase = phrase?.trim_ascii();
    let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase);
    if is_usual { None } else { ReasonPhrase::try_from(phrase).ok() }
}

/// The end-to-end headers, which share the memory of the head, and the meaning of the hop-by-hop headers.
fn headers_of(places: &[HeaderSpan], head: &Bytes) -> Option<(HeaderMap, HopByHop)> {
    let mut headers = HeaderMap::with_capacity(places.len());
    let mut hop = HopByHop::default();
    for (name, value) in places {
        let name = HeaderName::from_bytes(head.get(name.clone())?).ok()?;
        let text = head.get(value.clone())?;
        if !hop.read(&name, text) {
            headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(text)).ok()?);
        }
    }
    for name in &hop.named {
        headers.remove(name);
    }
    Some((headers, hop))
}

/// The transfer coding of a body. nodegate could not undo another one, and `chunked` is applied once (RFC 9112 section
/// 6.1).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum TransferCoding {
    #[default]
    None,
    Chunked,
    Unsupported,
}

/// The meaning of the hop-by-hop headers (RFC 9110 section 7.6.1).
#[derive(Default)]
struct HopByHop {
    length: Option<u64>,
    /// an invalid length, or two that differ
    is_ambiguous: bool,
    coding: TransferCoding,
    close: bool,
    keep_alive: bool,
    /// headers that `Connection` names
    named: SmallVec<[HeaderName; 1]>,
}

impl HopByHop {
    /// Reads a hop-by-hop header. Returns whether it is one. nodegate writes its own `Content-Length`.
    fn read(&mut self, name: &HeaderName, value: &[u8]) -> bool {
        if name == CONTENT_LENGTH {
            let length = parse_length(value);
            self.is_ambiguous |= length.is_none() || (self.length.is_some() && self.length != length);
            self.length = length;
        } else if name == TRANSFER_ENCODING {
            for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let is_chunked = self.coding == TransferCoding::None && name.eq_ignore_ascii_case(b"chunked");
                self.coding = if is_chunked { TransferCoding::Chunked } else { TransferCoding::Unsupported };
            }
        } else if name == CONNECTION {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    self.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                } else {
                    self.named.extend(HeaderName::from_bytes(option).ok());
                }
            }
        } else {
            return HOP_BY_HOP.contains(name);
        }
        true
    }

    fn framing(&self, status: StatusCode, version: Version) -> Result<BodyFraming, MalformedResponse> {
        if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(BodyFraming::Length(0));
        }
        match (self.coding, self.length) {
            (TransferCoding::None, _) if self.is_ambiguous => Err(MalformedResponse),
            (TransferCoding::None, Some(length)) => Ok(BodyFraming::Length(length)),
            (TransferCoding::None, None) => Ok(BodyFraming::UntilClose),
            (TransferCoding::Chunked, _) if version != Version::HTTP_10 => Ok(BodyFraming::Chunked),
            (TransferCoding::Chunked | TransferCoding::Unsupported, _) => Err(MalformedResponse),
        }
    }

    /// Whether the server keeps the connection open (RFC 9112 section 9.3).
    fn keeps_alive(&self, version: Version) -> bool {
        if version == Version::HTTP_10 { self.keep_alive } else { !self.close }
    }
}

/// Accepts only digits; `u64` would also parse a sign.
fn parse_length(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (Result<Option<ResponseHead>, MalformedResponse>, String) {
        let mut buffer = BytesMut::from(text);
        let head = take(&mut buffer);
        (head, String::from_utf8(buffer.to_vec()).unwrap())
    }

    fn framing_of(lines: &str) -> Option<(BodyFraming, bool)> {
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
        assert_eq!((head.framing, rest.as_str()), (BodyFraming::Length(4), "body"));
        assert!(taken("HTTP/1.1 200 OK\r\nA: b\r\n").0.unwrap().is_none());
    }

    #[test]
    fn interim_answers_are_skipped() {
        let (head, rest) = taken("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(head.unwrap().unwrap().response.status(), 204);
        assert_eq!(rest, "");
    }

    #[test]
    fn ambiguous_body_lengths_are_rejected() {
        let cases = [
            ("", Some((BodyFraming::UntilClose, false))),
            ("Content-Length: 5\r\n", Some((BodyFraming::Length(5), true))),
            ("Content-Length: 5\r\nConnection: x, Close\r\n", Some((BodyFraming::Length(5), false))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Some((BodyFraming::Length(5), true))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            ("Content-Length: +5\r\n", None),
            ("Content-Length: \r\n", None),
            ("Content-Length: 5, 5\r\n", None),
            ("Content-Length: 99999999999999999999\r\n", None),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Some((BodyFraming::Chunked, true))),
            ("Transfer-Encoding: Chunked\r\n", Some((BodyFraming::Chunked, true))),
            ("Transfer-Encoding: gzip, chunked\r\n", None),
            ("Transfer-Encoding: chunked, gzip\r\n", None),
            ("Transfer-Encoding: chunked, chunked\r\n", None),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", None),
            ("Transfer-Encoding: identity\r\n", None),
            ("Transfer-Encoding: \r\n", None),
        ];
        for (lines, expected) in cases {
            assert_eq!(framing_of(lines), expected, "{lines}");
        }
        assert!(taken("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").0.is_err());
    }

    #[test]
    fn invalid_bytes_are_no_response() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        ] {
            assert!(taken(text).0.is_err(), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(taken(&endless).0.unwrap_err(), MalformedResponse);
    }

    fn phrase_of(text: &[u8]) -> Option<Vec<u8>> {
        let mut head = text.to_vec();
        let range = clean_phrase(&mut head)?;
        let status = StatusCode::from_u16(500).unwrap();
        own_phrase(head.get(range), status).map(|phrase| phrase.as_bytes().to_vec())
    }

    #[test]
    fn a_phrase_is_kept_as_it_came() {
        for (line, expected) in [
            (
                &b"HTTP/1.1 500 no such user ('m\xc3\xbcller@pve')\r\n"[..],
                Some(&b"no such user ('m\xc3\xbcller@pve')"[..]),
            ),
            (b"HTTP/1.1 500 caf\xe9\n", Some(b"caf\xe9")),
            (b"HTTP/1.1 500  a\tb \r\n", Some(b"a\tb")),
            (b"HTTP/1.1 500 a\x00b\x1b[31m\rc\x7f\r\nX: y\r\n", Some(b"a b [31m c")),
            (b"HTTP/1.1 500 Internal Server Error\r\n", None),
            (b"HTTP/1.1 500 \r\n", Some(b"")),
            (b"HTTP/1.1 500\r\n", None),
            (b"HTTP/1.1 500 half a line", None),
        ] {
            assert_eq!(phrase_of(line).as_deref(), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}

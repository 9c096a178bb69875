//! The CONNECT head as viewers send it, and the one that the next hop gets.
//!
//! A ticket is no valid URI authority, so HTTP libraries refuse the whole request: it is read here.

use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::ticket::mask;

/// First allocation; the head of a real viewer has about 250 bytes.
const USUAL_BYTES: usize = 1024;
const USER_AGENT: &str = concat!("nodegate/", env!("CARGO_PKG_VERSION"));

/// How large a head may be: request line, header lines and the empty line.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub bytes: usize,
    pub headers: usize,
}

/// Names of the headers that a hop adds to a request it passes on, in any case.
#[derive(Clone, Debug)]
pub struct HopHeaders {
    /// Says that the request came from another node already.
    pub loop_header: String,
    /// Gives the address of the viewer.
    pub client_header: String,
}

/// A request head of any method: it is the caller who refuses those other than CONNECT.
#[derive(PartialEq, Eq)]
pub struct ConnectHead {
    /// As sent; methods are case-sensitive (RFC 9110 section 9.1).
    pub method: String,
    /// `TICKET:PORT` for a viewer; otherwise the text that was sent.
    pub target: String,
    /// 0 or 1, of HTTP/1.
    pub minor_version: u8,
    /// Without white space around it.
    pub host: Option<String>,
    /// The loop header is there with a value other than empty and `0`.
    pub looped: bool,
    /// Value of the client header, to be believed only from another node.
    pub forwarded_for: Option<String>,
    /// Bytes that came behind the head, at most the limit.
    pub early: Vec<u8>,
}

/// Shows neither the signature in target and host nor the bytes of the tunnel.
impl fmt::Debug for ConnectHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectHead")
            .field("method", &self.method)
            .field("target", &mask(&self.target))
            .field("minor_version", &self.minor_version)
            .field("host", &self.host.as_deref().map(mask))
            .field("looped", &self.looped)
            .field("forwarded_for", &self.forwarded_for)
            .field("early_bytes", &self.early.len())
            .finish()
    }
}

/// Why there is no head; never carries what was sent.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error("closed before the head was complete")]
    Closed,
    #[error("head too large")]
    TooLarge,
    #[error("too many headers")]
    TooManyHeaders,
    #[error("malformed head: {0}")]
    Malformed(&'static str),
    #[error("reading the head failed")]
    Io(#[from] io::Error),
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::HeaderName => Self::Malformed("header name"),
            httparse::Error::HeaderValue => Self::Malformed("header value"),
            httparse::Error::NewLine => Self::Malformed("line end"),
            httparse::Error::Status => Self::Malformed("status"),
            httparse::Error::Token => Self::Malformed("request line"),
            httparse::Error::Version => Self::Malformed("version"),
        }
    }
}

/// Reads a request head; the caller puts the deadline around it.
///
/// A wrong byte is refused as soon as it arrives, not at the end of the head.
pub async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    limits: &HeadLimits,
    names: &HopHeaders,
) -> Result<ConnectHead, HeadError> {
    let parse = |bytes: &[u8]| parse_request_head(bytes, limits.headers, names);
    let (head, early) = read_until_parsed(stream, limits.bytes, parse).await?;
    Ok(ConnectHead { early, ..head })
}

/// The head of the next hop's answer to a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// The reason phrase without control characters, empty if there is none.
    pub reason: String,
    /// Bytes of the body, where the head names them.
    pub length: Option<usize>,
}

/// Reads the next hop's answer to a CONNECT: its head, and the bytes that came behind it.
///
/// An interim answer (1xx) is returned like any other: none may follow an HTTP/1.0 request
/// (RFC 9110 section 15.2). The caller puts the deadline around it.
pub async fn read_response<S: AsyncRead + Unpin>(
    stream: &mut S,
    limits: &HeadLimits,
) -> Result<(ResponseHead, Vec<u8>), HeadError> {
    let parse = |bytes: &[u8]| parse_response_head(bytes, limits.headers);
    read_until_parsed(stream, limits.bytes, parse).await
}

/// Reads the body of a refusal, `max_bytes` of it at most, and makes text of it. Neither a body that is shorter than
/// announced nor one that fails is an error: what came of it is the text. The caller puts the deadline around it.
pub async fn read_refusal<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &ResponseHead,
    early: Vec<u8>,
    max_bytes: usize,
) -> String {
    let wanted = head.length.unwrap_or(max_bytes).min(max_bytes);
    let mut body = early;
    while body.len() < wanted {
        let room = u64::try_from(wanted - body.len()).unwrap_or(u64::MAX);
        match (&mut *stream).take(room).read_buf(&mut body).await {
            Ok(1..) => (),
            Ok(0) | Err(_) => break,
        }
    }
    body.truncate(wanted);
    printable(&body)
}

/// The head at the start of `bytes` (with nothing in `early`) and its length, or `None` while it is incomplete.
///
/// Repeated `Host` and client headers are refused: which of them counts would be a guess.
pub fn parse_request_head(
    bytes: &[u8],
    max_headers: usize,
    names: &HopHeaders,
) -> Result<Option<(ConnectHead, usize)>, HeadError> {
    let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else {
        return Ok(None);
    };
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed("request line"));
    };
    let looped =
        values(request.headers, &names.loop_header).any(|value| !matches!(value.trim_ascii(), b"" | b"0"));
    let head = ConnectHead {
        method: method.to_owned(),
        target: target.to_owned(),
        minor_version,
        host: only_value(request.headers, "host", "host")?,
        looped,
        forwarded_for: only_value(request.headers, &names.client_header, "client address")?,
        early: Vec::new(),
    };
    Ok(Some((head, length)))
}

/// The head of the answer at the start of `bytes` and its length, or `None` while it is incomplete.
pub fn parse_response_head(
    bytes: &[u8],
    max_headers: usize,
) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(HeadError::Malformed("status"))?;
    let announced = values(response.headers, "content-length").next();
    let announced = announced.and_then(|value| str::from_utf8(value).ok()?.trim().parse().ok());
    // The parser drops a phrase that is not ASCII.
    let line = bytes.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"HTTP/")).unwrap_or_default();
    let reason = line.splitn(3, |byte| *byte == b' ').nth(2).map(printable).unwrap_or_default();
    Ok(Some((ResponseHead { status, reason, length: announced }, length)))
}

/// The request for the next hop, in the shape that viewers use; `headers` come after the usual ones.
///
/// Text that would break out of its line is [`HeadError::Malformed`].
pub fn connect_request(target: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, HeadError> {
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HeadError::Malformed("target"));
    }
    let mut request = format!(
        "CONNECT {target} HTTP/1.0\r\nHost: {target}\r\nProxy-Connection: keep-alive\r\nUser-Agent: {USER_AGENT}\r\n"
    );
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(HeadError::Malformed("header name"));
        }
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(HeadError::Malformed("header value"));
        }
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    Ok(request.into_bytes())
}

/// Text without control characters. Bytes that are not UTF-8 are read as Latin-1.
fn printable(bytes: &[u8]) -> String {
    let text =
        str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), str::to_owned);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

/// Reads until `parse` gives a value and the length of what it took; the rest comes along.
async fn read_until_parsed<S, T>(
    stream: &mut S,
    max_bytes: usize,
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, HeadError>,
) -> Result<(T, Vec<u8>), HeadError>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = Vec::with_capacity(USUAL_BYTES);
    loop {
        let room = max_bytes.saturating_sub(buffer.len());
        if room == 0 {
            return Err(HeadError::TooLarge);
        }
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        if (&mut *stream).take(room).read_buf(&mut buffer).await? == 0 {
            return Err(HeadError::Closed);
        }
        if let Some((parsed, length)) = parse(&buffer)? {
            return Ok((parsed, buffer.split_off(length)));
        }
    }
}

fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn only_value(
    headers: &[httparse::Header<'_>],
    name: &str,
    what: &'static str,
) -> Result<Option<String>, HeadError> {
    let mut values = values(headers, name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(HeadError::Malformed(what));
    }
    let value = std::str::from_utf8(value.trim_ascii()).map_err(|_| HeadError::Malformed(what))?;
    Ok(Some(value.to_owned()))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 8192, headers: 64 };
    const TARGET: &str =
        "pvespiceproxy:6b024400:100:node1:61000::31a25c4f61e654fd9de024694694f504494cbd3d:61000";

    fn names() -> HopHeaders {
        HopHeaders { loop_header: "PVEDisableProxy".to_owned(), client_header: "PVEClientIP".to_owned() }
    }

    fn viewer_request() -> String {
        format!(
            "CONNECT {TARGET} HTTP/1.0\r\nHost: {TARGET}\r\nProxy-Connection: keep-alive\r\nUser-Agent: GLib/2.74\r\n\r\n"
        )
    }

    /// The result of `read_head` for these pieces followed by the end of the stream.
    async fn read_pieces(pieces: &[&[u8]]) -> Result<ConnectHead, HeadError> {
        let (mut near, mut far) = tokio::io::duplex(16);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        tokio::spawn(async move {
            for piece in pieces {
                // The reader may have seen enough.
                if near.write_all(&piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
        read_head(&mut far, &LIMITS, &names()).await
    }

    async fn read(text: impl AsRef<[u8]>) -> Result<ConnectHead, HeadError> {
        read_head(&mut text.as_ref(), &LIMITS, &names()).await
    }

    #[tokio::test]
    async fn the_head_of_a_viewer_is_read() {
        let head = read(viewer_request()).await.unwrap();
        assert_eq!(head.method, "CONNECT");
        assert_eq!(head.target, TARGET);
        assert_eq!(head.host.as_deref(), Some(TARGET));
        assert_eq!(head.minor_version, 0);
        assert!(!head.looped);
        assert_eq!(head.forwarded_for, None);
        assert!(head.early.is_empty());
    }

    #[tokio::test]
    async fn pieces_of_any_size_make_the_same_head() {
        let text = viewer_request() + "early";
        let whole = read(&text).await.unwrap();
        assert_eq!(whole.early, b"early");
        for size in [1, 2, 3, 7, 100] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let mut head = read_pieces(&pieces).await.unwrap();
            // Bytes behind the head are still in the stream.
            assert!(b"early".starts_with(&head.early));
            head.early = whole.early.clone();
            assert!(head == whole, "{size}");
        }
    }

    #[tokio::test]
    async fn hop_headers_are_found_in_any_case() {
        let with = |lines: &str| format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
        let head = read(with("pvedisableproxy: true\r\nPVECLIENTIP:  10.0.0.1 \r\n")).await.unwrap();
        assert!(head.looped);
        assert_eq!(head.forwarded_for.as_deref(), Some("10.0.0.1"));
        assert_eq!(head.minor_version, 1);
        for (lines, looped) in [
            ("PVEDisableProxy: 1\r\n", true),
            ("PVEDisableProxy: 0\r\nPVEDisableProxy: 1\r\n", true),
            ("PVEDisableProxy: 0\r\n", false),
            ("PVEDisableProxy:\r\n", false),
            ("PVEDisableProxyX: 1\r\n", false),
        ] {
            assert_eq!(read(with(lines)).await.unwrap().looped, looped, "{lines}");
        }
    }

    #[tokio::test]
    async fn unusual_heads_are_left_to_the_caller() {
        let head = read("GET / HTTP/1.1\nAccept: */*\n\n").await.unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/"));
        assert_eq!(head.host, None);
        assert_eq!(read("connect a:1 HTTP/1.0\r\n\r\n").await.unwrap().method, "connect");
    }

    #[tokio::test]
    async fn malformed_heads_are_refused() {
        for text in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"\0",
            b"CONNECT a:1 HTTP/1.0\r\nHost: a\0b\r\n\r\n",
            b"CONNECT a\0:1 HTTP/1.0\r\n\r\n",
            b"CONNECT a:1 HTTP/2.0\r\n\r\n",
            b"CONNECT a:1\r\n\r\n",
            b"CONNECT a:1 b HTTP/1.0\r\n\r\n",
            b"CONNECT \xff:1 HTTP/1.0\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nHost: a:1\r\nhost: a:1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nHost: \xff\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nPVEClientIP: 1\r\nPVEClientIP: 2\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nno colon\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nHost : a\r\n\r\n",
            b"CONNECT a:1 HTTP/1.0\r\nHost: a\r\n folded\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            let error = read(text).await.unwrap_err();
            assert!(matches!(error, HeadError::Malformed(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn garbage_is_refused_while_the_stream_stays_open() {
        let (mut near, mut far) = tokio::io::duplex(64);
        near.write_all(b"\x16\x03\x01").await.unwrap();
        let error = read_head(&mut far, &LIMITS, &names()).await.unwrap_err();
        assert!(matches!(error, HeadError::Malformed(_)));
    }

    #[tokio::test]
    async fn an_early_end_is_closed() {
        let text = viewer_request();
        for length in 0..text.len() {
            let mut part = text.as_bytes().get(..length).unwrap();
            let error = read_head(&mut part, &LIMITS, &names()).await.unwrap_err();
            assert!(matches!(error, HeadError::Closed), "{length} {error:?}");
        }
    }

    #[tokio::test]
    async fn the_number_of_headers_is_limited() {
        let with = |count| format!("CONNECT a:1 HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(with(64)).await.is_ok());
        let error = read(with(65)).await.unwrap_err();
        assert!(matches!(error, HeadError::TooManyHeaders));
    }

    #[tokio::test]
    async fn the_size_of_the_head_is_limited() {
        let frame = "CONNECT a:1 HTTP/1.0\r\nX: \r\n\r\n".len();
        let with = |size: usize| format!("CONNECT a:1 HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(size - frame));
        assert!(read(with(8192)).await.is_ok());
        for text in [with(8193), with(1 << 20), "\r\n".repeat(9000)] {
            let error = read(text).await.unwrap_err();
            assert!(matches!(error, HeadError::TooLarge), "{error:?}");
        }
    }

    #[tokio::test]
    async fn no_byte_is_lost_between_head_and_stream() {
        let tail: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        let text = [viewer_request().as_bytes(), &tail].concat();
        let mut stream = text.as_slice();
        let mut received = read_head(&mut stream, &LIMITS, &names()).await.unwrap().early;
        assert!(received.len() <= LIMITS.bytes);
        received.extend_from_slice(stream);
        assert_eq!(received, tail);
    }

    #[tokio::test]
    async fn the_answer_of_the_next_hop_is_read() {
        for (text, status, reason, early) in [
            (&b"HTTP/1.0 200 OK\r\n\r\nREDQ"[..], 200, "OK", "REDQ"),
            (b"HTTP/1.1 200\r\n\r\n", 200, "", ""),
            (b"HTTP/1.0 200 OK\n\n", 200, "OK", ""),
            (b"HTTP/1.0 401 invalid ticket\r\nConnection: close\r\n\r\nno", 401, "invalid ticket", "no"),
            (b"HTTP/1.0 502 n\xc3\xb6\r\n\r\n", 502, "n\u{f6}", ""),
            (b"HTTP/1.0 502 n\xf6\r\n\r\n", 502, "n\u{f6}", ""),
        ] {
            let (head, rest) = read_response(&mut &*text, &LIMITS).await.unwrap();
            assert_eq!((head.status, head.reason.as_str()), (status, reason));
            assert_eq!(rest, early.as_bytes());
        }
    }

    #[tokio::test]
    async fn refusal_body_is_bounded_text() {
        for (length, sent, expected) in [
            ("Content-Length: 7\r\n", "no\r\nway and more", "no  way"),
            ("Content-Length: 99\r\n", "cut", "cut"),
            ("", "until the end", "until the end"),
            ("Content-Length: x\r\n", "\u{1b}[31mred", "[31mred"),
            ("", "0123456789012345678901234567890123456789", "01234567890123456789012345678901"),
        ] {
            let answer = format!("HTTP/1.0 502 no\r\n{length}\r\n{sent}");
            for split in [0, 3] {
                let (head, mut early) = read_response(&mut answer.as_bytes(), &LIMITS).await.unwrap();
                let late = early.split_off(split.min(early.len()));
                let text = read_refusal(&mut late.as_slice(), &head, early, 32).await;
                assert_eq!(text, expected, "{answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn answers_that_are_none_are_refused() {
        let read = async |text: &str| {
            let answer = read_response(&mut text.as_bytes(), &LIMITS).await;
            answer.unwrap_err()
        };
        assert!(matches!(read("").await, HeadError::Closed));
        assert!(matches!(read("HTTP/1.0 200 OK\r\n").await, HeadError::Closed));
        for text in ["REDQ....", "HTTP/2 200\r\n\r\n", "HTTP/1.0 2x0 OK\r\n\r\n"] {
            assert!(matches!(read(text).await, HeadError::Malformed(_)), "{text}");
        }
        let large = format!("HTTP/1.0 200 OK\r\nX: {}\r\n\r\n", "x".repeat(8192));
        assert!(matches!(read(&large).await, HeadError::TooLarge));
        let many = format!("HTTP/1.0 200 OK\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert!(matches!(read(&many).await, HeadError::TooManyHeaders));
    }

    #[tokio::test]
    async fn next_hop_reads_the_request_back() {
        let headers = [("PVEDisableProxy", "true"), ("PVEClientIP", "2001:db8::1")];
        let head = read(connect_request(TARGET, &headers).unwrap()).await.unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("CONNECT", TARGET));
        assert_eq!(head.host.as_deref(), Some(TARGET));
        assert!(head.looped);
        assert_eq!(head.forwarded_for.as_deref(), Some("2001:db8::1"));
        assert_eq!(head.minor_version, 0);
        assert!(head.early.is_empty());
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        for (target, name, value) in [
            ("", "A", "b"),
            ("a b", "A", "b"),
            ("a\r\nX: y", "A", "b"),
            ("a\n", "A", "b"),
            ("nöde:1", "A", "b"),
            ("a:1", "", "b"),
            ("a:1", "A:", "b"),
            ("a:1", "A\r\nB", "b"),
            ("a:1", "A", "b\r\nC: d"),
            ("a:1", "A", "b\n"),
            ("a:1", "A", "b\r"),
            ("a:1", "A", "b\0"),
        ] {
            let request = connect_request(target, &[(name, value)]);
            assert!(matches!(request, Err(HeadError::Malformed(_))), "{target:?} {name:?} {value:?}");
        }
    }

    #[tokio::test]
    async fn debug_output_has_no_signature() {
        let head = read(viewer_request() + "password").await.unwrap();
        let shown = format!("{head:?}");
        assert!(shown.contains("61000::***:61000"));
        assert!(!shown.contains("31a25c4f") && !shown.contains("password"));
    }
}

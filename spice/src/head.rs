//! The CONNECT head as viewers send it, and the one that the next hop gets.
//!
//! A ticket is no valid URI authority, so HTTP libraries refuse the whole request: it is read here.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

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

/// A request head of any method; the caller rejects those other than CONNECT. It has no `Debug`, because target and host
/// hold a signature.
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
    /// Bytes that came behind the head, at most the limit.
    pub early: Vec<u8>,
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
    let mut buffer = BytesMut::with_capacity(USUAL_BYTES);
    let head = read_until_parsed(stream, &mut buffer, limits.bytes, |buffer| {
        let parsed = parse_request_head(buffer, limits.headers, names)?;
        Ok(parsed.map(|(head, length)| {
            buffer.advance(length);
            head
        }))
    });
    let head = head.await?;
    Ok(ConnectHead { early: buffer.into(), ..head })
}

/// Reads into `buffer` until `parse` takes a value from its front. The buffer keeps the bytes after that value.
pub async fn read_until_parsed<T>(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    max_bytes: usize,
    parse: impl Fn(&mut BytesMut) -> Result<Option<T>, HeadError>,
) -> Result<T, HeadError> {
    loop {
        let room = max_bytes.saturating_sub(buffer.len());
        if room == 0 {
            return Err(HeadError::TooLarge);
        }
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        if (&mut *stream).take(room).read_buf(buffer).await? == 0 {
            return Err(HeadError::Closed);
        }
        if let Some(parsed) = parse(buffer)? {
            return Ok(parsed);
        }
    }
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
    only_value(request.headers, &names.client_header, "client address")?;
    let head = ConnectHead {
        method: method.to_owned(),
        target: target.to_owned(),
        minor_version,
        host: only_value(request.headers, "host", "host")?,
        looped,
        early: Vec::new(),
    };
    Ok(Some((head, length)))
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
            let error = read(text).await.err().unwrap();
            assert!(matches!(error, HeadError::Malformed(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_early_end_is_closed() {
        let text = viewer_request();
        for length in 0..text.len() {
            let mut part = text.as_bytes().get(..length).unwrap();
            let error = read_head(&mut part, &LIMITS, &names()).await.err().unwrap();
            assert!(matches!(error, HeadError::Closed), "{length} {error:?}");
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
}

//! One plain GET on its own connection.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tokio_util::either::Either;

use super::content::{BodyReader, ComparedBody};
use super::status_line::StatusLine;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of a whole answer. Statistics of a large machine take a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
const MAX_BODY_BYTES: u64 = 4 << 30;

/// A header to send, such as one to log in by.
pub(in crate::cli) type RequestHeader = (HeaderName, HeaderValue);

/// A server to send requests to.
pub(in crate::cli) struct ComparedServer {
    host: String,
    port: u16,
    /// `None` for a server without TLS
    tls: Option<SslConnector>,
}

/// An answer.
#[derive(Debug)]
pub(in crate::cli) struct ComparedResponse {
    pub(in crate::cli) status: u16,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) headers: HeaderMap,
    pub(in crate::cli) content: ComparedBody,
    /// bytes of the body
    pub(in crate::cli) length: u64,
}

impl ComparedServer {
    /// Reads `https://HOST:PORT`.
    pub(in crate::cli) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("'{url}': write https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(connector(is_here(&host))?), 443),
            Some("http") => (None, 80),
            _ => return Err(wrong()),
        };
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), tls })
    }

    /// A server with TLS on an address of this machine.
    pub(in crate::cli) fn here(address: IpAddr, port: u16) -> Result<Self, String> {
        Ok(Self { host: address.to_string(), port, tls: Some(connector(true)?) })
    }

    /// As a `Host` header names it.
    pub(in crate::cli) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends a GET with `authority` as its `Host`.
    pub(in crate::cli) async fn get(
        &self,
        target: &str,
        authority: &str,
        header: Option<&RequestHeader>,
    ) -> io::Result<ComparedResponse> {
        let mut request = Request::get(target)
            .header(HOST, authority)
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(io::Error::other)?;
        request.headers_mut().extend(header.cloned());
        let exchanging = async {
            let stream = timeout(CONNECT_TIMEOUT, self.connect()).await??;
            exchange(stream, request).await
        };
        timeout(ANSWER_TIMEOUT, exchanging).await?
    }

    async fn connect(&self) -> io::Result<Either<TcpStream, Box<SslStream<TcpStream>>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let Some(connector) = &self.tls else { return Ok(Either::Left(stream)) };
        let ssl = connector.configure()?.into_ssl(&self.host)?;
        let mut stream = SslStream::new(ssl, stream)?;
        Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
        Ok(Either::Right(Box::new(stream)))
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Verifies the certificate of a remote server before it gets a credential. On this machine the name would not match.
fn connector(is_here: bool) -> Result<SslConnector, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|error| error.to_string())?;
    if is_here {
        builder.set_verify(SslVerifyMode::NONE);
    }
    Ok(builder.build())
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> io::Result<ComparedResponse>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let line = StatusLine::default();
    let io = TokioIo::new(line.record(stream));
    let (mut sender, connection) = http1::handshake(io).await.map_err(reason)?;
    let sending = async {
        let (head, body) = sender.send_request(request).await.map_err(reason)?.into_parts();
        let (content, length) = read(body, &head.headers).await?;
        Ok(ComparedResponse {
            status: head.status.as_u16(),
            reason: line.reason(),
            headers: head.headers,
            content,
            length,
        })
    };
    let mut sending = std::pin::pin!(sending);
    tokio::select! {
        biased;
        answer = &mut sending => answer,
        // The connection may end before the last of the body is taken out of it.
        _ = connection => sending.await,
    }
}

async fn read(mut body: Incoming, headers: &HeaderMap) -> io::Result<(ComparedBody, u64)> {
    let mut reader = BodyReader::new(headers);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(reason)?.into_data() {
            reader.add(&data);
        }
        if reader.length() > MAX_BODY_BYTES {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    let length = reader.length();
    Ok((reader.finish(), length))
}

/// The source of hyper's error has more details than its own text.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn reason(error: hyper::Error) -> io::Error {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    io::Error::other(format!("{error}{}", source.unwrap_or_default()))
}

impl ComparedResponse {
    /// All values of a header, joined.
    pub(in crate::cli) fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The status line without the version.
    pub(in crate::cli) fn status_text(&self) -> String {
        format!("{} {}", self.status, self.reason).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(bytes: &'static [u8]) -> io::Result<ComparedResponse> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = ComparedServer::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        tokio::join!(server.get("/x", "original:8006", None), serving).0
    }

    #[tokio::test]
    async fn an_answer_is_read_in_each_framing() {
        for bytes in [
            &b"HTTP/1.1 595 no such \xc3\xa9\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 595 no such \xc3\xa9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 595 no such \xc3\xa9\r\n\r\nhello",
        ] {
            let seen = answer(bytes).await.unwrap();
            assert_eq!(seen.status_text(), "595 no such é");
            assert!(matches!(seen.content, ComparedBody::Opaque { length: 5, .. }), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"rubbish\r\n\r\n",
            b"",
        ] {
            assert!(answer(bytes).await.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_server_is_named_by_a_url() {
        let authority = |url| ComparedServer::parse(url).map(|server| server.authority());
        assert_eq!(authority("https://[::1]:8006"), Ok("[::1]:8006".to_owned()));
        assert_eq!(authority("http://node1"), Ok("node1:80".to_owned()));
        for url in ["node1:8006", "ftp://node1", "/x", ""] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}

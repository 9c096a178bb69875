//! One GET on a connection of its own, as plain as it can be.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use http::Uri;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

const PATIENCE: Duration = Duration::from_secs(30);
/// For a whole answer.
const LONGEST: Duration = Duration::from_mins(2);
/// Bytes of an answer.
const LARGEST: usize = 32 << 20;
const HEADERS: usize = 100;

/// A server to be asked.
pub(in crate::command) struct Server {
    tls: bool,
    /// on this machine, where its name would fit no certificate
    is_here: bool,
    host: String,
    port: u16,
}

/// An answer.
#[derive(Debug)]
pub(in crate::command) struct Seen {
    pub(in crate::command) status: u16,
    pub(in crate::command) reason: String,
    pub(in crate::command) headers: Vec<(String, String)>,
    pub(in crate::command) body: Vec<u8>,
}

impl Server {
    /// Reads `https://HOST:PORT`.
    pub(in crate::command) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("'{url}': write https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        Ok(Self { tls, is_here, host, port })
    }

    /// A server with TLS on an address of this machine.
    pub(in crate::command) fn here(address: IpAddr, port: u16) -> Self {
        Self { tls: true, is_here: true, host: address.to_string(), port }
    }

    /// As a `Host` header names it.
    pub(in crate::command) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Asks as if it were `authority` that is asked; `credential` is a whole header line.
    pub(in crate::command) fn get(
        &self,
        target: &str,
        authority: &str,
        credential: &str,
    ) -> io::Result<Seen> {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept-Encoding: identity\r\nConnection: close\r\n{credential}\r\n"
        );
        let stream = self.connect()?;
        let bytes = if self.tls {
            let stream = self.connector()?.connect(&self.host, stream).map_err(io::Error::other)?;
            exchange(stream, &request)?
        } else {
            exchange(stream, &request)?
        };
        Seen::parse(&bytes).ok_or_else(|| io::Error::other("the answer is no whole HTTP/1.1 answer"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Elsewhere a server has to prove itself before it gets a credential.
    fn connector(&self) -> io::Result<SslConnector> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        if self.is_here {
            builder.set_verify(SslVerifyMode::NONE);
        }
        Ok(builder.build())
    }
}

/// Sends all, and reads until the other side closes.
fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let until = Instant::now() + LONGEST;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 65_536]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
            // Some close without a word of TLS; whether the answer is whole is seen from itself.
            Err(error) if bytes.is_empty() => return Err(error),
            Err(_) => return Ok(bytes),
        }
        if bytes.len() > LARGEST || Instant::now() > until {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

impl Seen {
    pub(in crate::command) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = head.parse(bytes).ok()? else { return None };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut seen = Self {
            status: head.code?,
            reason: head.reason.unwrap_or_default().to_owned(),
            headers: head.headers.iter().map(|it| (it.name.to_owned(), text(it.value))).collect(),
            body: Vec::new(),
        };
        let rest = bytes.get(end..)?;
        let length = seen.header("content-length").map(|length| length.trim().parse().ok());
        seen.body = match length {
            _ if seen.header("transfer-encoding").is_some() => without_chunks(rest)?,
            Some(length) => rest.get(..length?)?.to_vec(),
            None => rest.to_vec(),
        };
        Some(seen)
    }
}

fn without_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(rest).ok()? else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(body);
        }
        let end = start.checked_add(size)?;
        body.extend_from_slice(rest.get(start..end)?);
        rest = rest.get(end..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_read_in_each_framing() {
        for (framing, body) in [
            ("Content-Length: 5\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
            ("", "hello"),
        ] {
            let seen =
                Seen::parse(format!("HTTP/1.1 595 no such\r\n{framing}\r\n{body}").as_bytes()).unwrap();
            assert_eq!(
                (seen.status, seen.reason.as_str(), seen.body.as_slice()),
                (595, "no such", &b"hello"[..])
            );
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "",
        ] {
            assert!(Seen::parse(bytes.as_bytes()).is_none(), "{bytes}");
        }
    }

    #[test]
    fn a_server_is_named_by_a_url() {
        let authority = |url| Server::parse(url).map(|server| server.authority());
        assert_eq!(authority("https://[::1]:8006"), Ok("[::1]:8006".to_owned()));
        assert_eq!(authority("http://node1"), Ok("node1:80".to_owned()));
        for url in ["node1:8006", "ftp://node1", "/x", ""] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}

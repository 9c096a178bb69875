//! A client that sends the given bytes unchanged, and shows the response.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;

use openssl::ssl::{ShutdownState, SslConnector, SslFiletype, SslMethod, SslStream, SslVerifyMode};

use socket2::{Domain, SockRef, Socket, Type};

use super::nodegate::TIMEOUT;

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn status_and_reason(&self) -> (u16, &str) {
        (self.status, &self.reason)
    }

    /// The value of a header, any case; panics when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = found.next();
        assert!(found.next().is_none(), "several {name} headers: {:?}", self.headers);
        first.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One connection, TLS or plain.
pub struct Session {
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Tls(Box<SslStream<TcpStream>>),
    Plain(TcpStream),
}

impl Session {
    /// Connects without looking at the certificate.
    pub fn tls(address: SocketAddr) -> Self {
        Self::try_tls(address).unwrap()
    }

    pub fn try_tls(address: SocketAddr) -> Result<Self, String> {
        Self::over(tcp(address).map_err(|error| error.to_string())?)
    }

    /// As a browser does it that looks for that name.
    pub fn tls_to(name: &str, address: SocketAddr) -> Self {
        let stream = tcp(address).unwrap();
        let configuration = connector().configure().unwrap().verify_hostname(false);
        let stream = configuration.connect(name, stream).unwrap();
        Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() }
    }

    fn over(stream: TcpStream) -> Result<Self, String> {
        let configuration = connector().configure().unwrap();
        let configuration = configuration.verify_hostname(false).use_server_name_indication(false);
        let stream = configuration.connect("localhost", stream).map_err(|error| error.to_string())?;
        Ok(Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() })
    }

    pub fn plain(address: SocketAddr) -> Self {
        Self { stream: Stream::Plain(tcp(address).unwrap()), buffer: Vec::new() }
    }

    /// With a certificate of the client's own, from files in PEM form.
    pub fn tls_showing(certificate: &str, key: &str, address: SocketAddr) -> Self {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_certificate_chain_file(certificate).unwrap();
        builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
        let stream = builder.build().connect("localhost", tcp(address).unwrap()).unwrap();
        Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() }
    }

    /// From another address of this machine.
    pub fn plain_from(from: &str, address: SocketAddr) -> Self {
        Self { stream: Stream::Plain(tcp_from(from, address).unwrap()), buffer: Vec::new() }
    }

    /// TLS from another address of this machine, with these bytes before it.
    pub fn tls_behind(header: &[u8], from: &str, address: SocketAddr) -> Result<Self, String> {
        let mut stream = tcp_from(from, address).map_err(|error| error.to_string())?;
        stream.write_all(header).map_err(|error| error.to_string())?;
        Self::over(stream)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tls(stream) => stream.write_all(bytes.as_ref()),
            Stream::Plain(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Sends a well-formed request and reads its answer. `Content-Length` is added when there is a body or the
    /// method wants one, and a `Host` unless the headers begin with one.
    pub fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = if body.is_empty() && !matches!(method, "POST" | "PUT") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let host = if headers.starts_with("Host: ") { "" } else { "Host: node1:8006\r\n" };
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{length}{headers}\r\n");
        self.send([head.as_bytes(), body].concat());
        self.reply(method == "HEAD")
    }

    /// Ends the sending half of TCP, without a word in TLS.
    pub fn finish_tcp(&mut self) {
        self.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Leaves without a goodbye.
    pub fn reset(self) {
        SockRef::from(self.tcp()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tls(stream) => stream.get_ref(),
            Stream::Plain(stream) => stream,
        }
    }

    /// Sends no more, but still reads.
    pub fn finish(&mut self) {
        match &mut self.stream {
            Stream::Tls(stream) => drop(stream.shutdown()),
            Stream::Plain(stream) => stream.shutdown(std::net::Shutdown::Write).unwrap(),
        }
    }

    /// Reads one answer.
    pub fn reply(&mut self, to_head: bool) -> Reply {
        self.try_reply(to_head).expect("the connection closed without an answer")
    }

    /// Reads one answer; `None` when the connection closes first.
    pub fn try_reply(&mut self, to_head: bool) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let mut lines = head.lines();
        let mut status_line = lines.next().unwrap().splitn(3, ' ');
        let status = status_line.nth(1).unwrap().parse().unwrap();
        let reason = status_line.next().unwrap_or_default().to_owned();
        let split =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.filter(|line| !line.is_empty()).map(|line| split(line).unwrap()).collect();
        let mut reply = Reply { status, reason, headers, body: Vec::new() };
        if status < 200 {
            return Some(reply);
        }
        reply.body = if to_head || status == 204 || status == 304 { Vec::new() } else { self.body(&reply) };
        Some(reply)
    }

    fn body(&mut self, reply: &Reply) -> Vec<u8> {
        if reply.header("transfer-encoding").is_some() {
            return self.chunks();
        }
        match reply.header("content-length") {
            Some(length) => self.take(length.parse().unwrap()),
            None => self.rest(),
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            while !self.buffer.windows(2).any(|window| window == b"\r\n") {
                assert!(self.fill() > 0, "the connection closed in the middle of a chunked body");
            }
            let end = self.buffer.windows(2).position(|window| window == b"\r\n").unwrap();
            let size = usize::from_str_radix(&String::from_utf8_lossy(&self.buffer[..end]), 16).unwrap();
            self.buffer.drain(..end + 2);
            body.extend(self.take(size));
            self.take(2);
            if size == 0 {
                return body;
            }
        }
    }

    /// So many arbitrary bytes.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill() > 0, "the connection closed {} bytes early", length - self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    /// Everything until the connection closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side has said in TLS that it sends no more, behind all that was read.
    pub fn was_closed_cleanly(&mut self) -> bool {
        match &mut self.stream {
            Stream::Tls(stream) => stream.get_shutdown().contains(ShutdownState::RECEIVED),
            Stream::Plain(_) => false,
        }
    }

    /// Whether a piece of an answer is there, without waiting for it.
    pub fn has_reply(&mut self) -> bool {
        let _ = self.read_at_once();
        !self.buffer.is_empty()
    }

    /// Whether the other side has closed by now, without waiting for it.
    pub fn is_over(&mut self) -> bool {
        match self.read_at_once() {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Reads once what is there already.
    fn read_at_once(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16_384];
        let tcp = self.tcp().try_clone().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let read = match &mut self.stream {
            Stream::Tls(stream) => stream.read(&mut chunk),
            Stream::Plain(stream) => stream.read(&mut chunk),
        };
        let _ = tcp.set_nonblocking(false);
        self.buffer.extend(chunk.iter().take(*read.as_ref().unwrap_or(&0)));
        read
    }

    /// Whether the other side has closed, with nothing left unread.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }

    /// Reads once; 0 when closed or reset.
    fn fill(&mut self) -> usize {
        let mut chunk = [0; 16_384];
        let read = match &mut self.stream {
            Stream::Tls(stream) => stream.read(&mut chunk),
            Stream::Plain(stream) => stream.read(&mut chunk),
        };
        match read {
            Ok(count) => {
                self.buffer.extend(&chunk[..count]);
                count
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("nothing came within {} s", TIMEOUT.as_secs())
            }
            Err(_) => 0,
        }
    }
}

/// Made once: reading the system's certificates takes longer than a handshake.
fn connector() -> &'static SslConnector {
    static CONNECTOR: OnceLock<SslConnector> = OnceLock::new();
    CONNECTOR.get_or_init(|| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.build()
    })
}

fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    patient(TcpStream::connect_timeout(&address, TIMEOUT)?)
}

pub fn tcp_from(from: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into())?;
    socket.connect_timeout(&address.into(), TIMEOUT)?;
    patient(socket.into())
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

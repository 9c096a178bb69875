//! A client that sends the given frames, and shows those that come back (RFC 9113 section 4.1).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use crate::support::Nodegate;
use crate::support::nodegate::TIMEOUT;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Indexed in HPACK's own table: `:status 200`.
pub const STATUS_200: u8 = 0x88;

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Wire {
    stream: SslStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects and says the preface with these settings, `(identifier, value)` each.
    pub fn connect(gate: &Nodegate, settings: &[(u16, u32)]) -> Self {
        Self::connect_to(gate.local(), settings)
    }

    pub fn connect_to(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self::silent_to(address);
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        wire.frame(SETTINGS, 0, 0, &payload);
        wire
    }

    /// Connects and says nothing.
    pub fn silent(gate: &Nodegate) -> Self {
        Self::silent_to(gate.local())
    }

    fn silent_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let stream = connector().connect("localhost", stream).unwrap();
        assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload));
    }

    /// A GET with more header lines, ended.
    pub fn get(&mut self, stream: u32, path: &str, headers: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path, headers));
    }

    /// The next frame; `None` when the connection has closed.
    pub fn next(&mut self) -> Option<Frame> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + length(&self.buffer) {
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend(&chunk[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    panic!("nothing came within {} s", TIMEOUT.as_secs())
                }
                Err(_) => return None,
            }
        }
        let payload = self.buffer[9..9 + length(&self.buffer)].to_vec();
        let (kind, flags) = (self.buffer[3], self.buffer[4]);
        let stream = u32::from_be_bytes(self.buffer[5..9].try_into().unwrap());
        self.buffer.drain(..9 + payload.len());
        Some(Frame { kind, flags, stream, payload })
    }

    /// The next frame of a kind on a stream; panics when the connection closes before.
    pub fn wait_for(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("the connection closed");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// Everything until the connection closes: the code of the last GOAWAY, if there was one.
    pub fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        code
    }
}

/// Made once: reading the system's certificates takes longer than a handshake.
fn connector() -> &'static SslConnector {
    static CONNECTOR: OnceLock<SslConnector> = OnceLock::new();
    CONNECTOR.get_or_init(|| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_alpn_protos(b"\x02h2").unwrap();
        builder.build()
    })
}

fn length(buffer: &[u8]) -> usize {
    usize::from(buffer[0]) << 16 | usize::from(buffer[1]) << 8 | usize::from(buffer[2])
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block without a table and without Huffman (RFC 7541 section 6.2.2).
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request_for(method, path.as_bytes(), headers)
}

/// The same for any target.
pub fn request_for(method: &str, path: &[u8], headers: &[(&str, &str)]) -> Vec<u8> {
    let pseudo: [(&str, &[u8]); 4] = [
        (":method", method.as_bytes()),
        (":scheme", b"https"),
        (":authority", b"localhost"),
        (":path", path),
    ];
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let lines = pseudo.into_iter().chain(headers);
    lines.flat_map(|(name, value)| [vec![0], text(name), octets(value)].concat()).collect()
}

/// A length in seven bits and what goes on behind it, then the bytes (RFC 7541 section 5.2).
pub fn text(text: &str) -> Vec<u8> {
    octets(text.as_bytes())
}

fn octets(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = text.len();
    if left < 127 {
        bytes.push(u8::try_from(left).unwrap());
    } else {
        bytes.push(127);
        left -= 127;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap());
    }
    bytes.extend(text);
    bytes
}

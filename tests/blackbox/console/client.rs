//! A websocket client that sends any given frame, and the consoles that it is bridged to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use nodegate_standin::now;

use crate::support::nodegate::TIMEOUT;
use crate::support::{Nodegate, Reply, Session, Site};

pub const FINAL: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A listener on a free console port.
pub struct Console {
    listener: TcpListener,
    pub port: u16,
}

impl Console {
    pub fn listen() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let offset = u16::try_from(std::process::id() % 100).unwrap();
        for _ in 0..1000 {
            let port = 5900 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 100;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                return Self { listener, port };
            }
        }
        panic!("no console port is free");
    }

    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The path of a console on this port, with a ticket for `user`.
    pub fn path(&self, site: &Site, user: &str) -> String {
        path(site, user, self.port)
    }
}

pub fn path(site: &Site, user: &str, port: u16) -> String {
    let ticket = site.keys.vnc_ticket("PVEVNC", user, "/vms/100", port, now());
    let ticket = ticket.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("/api2/json/nodes/node1/qemu/100/vncwebsocket?port={port}&vncticket={ticket}")
}

/// A socket, a console, and the stream between nodegate and that console.
pub fn opened(site: &Site, gate: &Nodegate) -> (WebSocket, TcpStream) {
    let console = Console::listen();
    let path = console.path(site, "root@pam");
    let (socket, _) = WebSocket::open(gate, &path, &site.cookie("root@pam")).unwrap();
    (socket, console.accept())
}

/// A frame as it came.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame; 0 when it has none.
    pub fn code(&self) -> u16 {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        self.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))
    }
}

pub struct WebSocket {
    session: Session,
}

impl WebSocket {
    pub fn open(gate: &Nodegate, path: &str, headers: &str) -> Result<(Self, Reply), Reply> {
        let mut session = gate.connect();
        let reply = session.request("GET", path, &[headers, UPGRADE].concat(), b"");
        if reply.status == 101 { Ok((Self { session }, reply)) } else { Err(reply) }
    }

    /// Takes over a session whose handshake is over.
    pub fn of(session: Session) -> Self {
        Self { session }
    }

    /// One frame; `first` is opcode and FIN.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.session.send(frame(first, payload));
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.session.send(bytes);
    }

    pub fn receive(&mut self) -> Frame {
        let head = self.session.take(2);
        assert_eq!(head[0] & 0xf0, FINAL, "a whole message without reserved bits");
        assert_eq!(head[1] & 0x80, 0, "servers do not mask");
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.session.take(2).try_into().unwrap())),
            127 => panic!("a frame longer than 64 KiB"),
            short => usize::from(short),
        };
        assert!(head[1] != 126 || length > 125, "the shortest form of a length");
        Frame { opcode: head[0] & 0xf, payload: self.session.take(length) }
    }

    /// So many bytes of data; pings in between are answered.
    pub fn data(&mut self, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            let frame = self.receive();
            match frame.opcode {
                BINARY => data.extend(frame.payload),
                PING => self.send(FINAL | PONG, &frame.payload),
                _ => panic!("{frame:?} after {} bytes", data.len()),
            }
        }
        data
    }

    /// The connection ends without another frame.
    pub fn assert_ended(&mut self) {
        assert!(self.session.is_closed());
    }
}

/// A masked frame with its length in the shortest form.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..65_536 => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(0xff);
            bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// So many bytes from the console's side.
pub fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Everything until nodegate shuts the console.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Says back what it hears, then closes.
pub fn echo(mut stream: impl Read + Write) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Sends as fast as it can until the other end closes; returns how much went out.
pub fn flood(mut stream: &TcpStream) -> usize {
    let piece = content(65_536);
    let mut sent = 0;
    while let Ok(length) = stream.write(&piece[sent % 251..]) {
        sent += length;
    }
    let _ = stream.shutdown(Shutdown::Both);
    sent
}

/// Bytes whose order shows; any part of it is `content` from its place modulo 251.
pub fn content(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

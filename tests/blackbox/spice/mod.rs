//! Viewers' tunnels, byte for byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use nodegate_standin::{Echo, now};
use socket2::{Domain, Socket, Type};

use crate::support::nodegate::TIMEOUT;
use crate::support::{Nodegate, Reply, Session, Site};

mod bytes;
mod cluster;
mod on_https;
mod over_tls;
mod peer_tls;
mod process;
mod public;
mod tickets;

/// Where machines may listen.
fn ports() -> std::ops::RangeInclusive<u16> {
    61_000..=61_999
}

pub(crate) fn gate(site: &Site, sets: &[&str]) -> Nodegate {
    Nodegate::start_profile(site, "spice", sets)
}

/// A machine that says everything back.
pub(crate) fn echoing_machine() -> Echo {
    ports().find_map(|port| Echo::start((Ipv4Addr::LOCALHOST, port).into()).ok()).unwrap()
}

/// A machine that does what the test does with its connections.
fn scripted_machine() -> TcpListener {
    ports().find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).unwrap()
}

/// A port without a listener, and without a later one: held in both families.
struct SilentPort {
    port: u16,
    _held: [Socket; 2],
}

fn silent_port() -> SilentPort {
    let hold = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&address.into()).ok().map(|()| socket)
    };
    let found = ports().find_map(|port| {
        let sockets = [hold((Ipv4Addr::LOCALHOST, port).into())?, hold((Ipv6Addr::LOCALHOST, port).into())?];
        Some(SilentPort { port, _held: sockets })
    });
    found.unwrap()
}

/// The target for a machine of node1, made now.
pub(crate) fn target(site: &Site, port: u16) -> String {
    site.keys.spice_target("node1", 100, port, now())
}

/// The head as `GLib` 2.74 writes it.
fn viewer_head(target: &str) -> String {
    format!(
        "CONNECT {target} HTTP/1.0\r\nHost: {target}\r\nProxy-Connection: keep-alive\r\nUser-Agent: GLib/2.74\r\n\r\n"
    )
}

/// Sends this, and reads the refusal that must follow.
fn refusal_to(gate: &Nodegate, sent: impl AsRef<[u8]>) -> Reply {
    let mut session = Session::plain(gate.local());
    session.send(sent);
    let reply = session.reply(false);
    assert!(session.is_closed(), "the connection stays open after {reply:?}");
    reply
}

/// Status and reason of the refusal of a viewer with this target.
fn refused(gate: &Nodegate, target: &str) -> (u16, String) {
    let reply = refusal_to(gate, viewer_head(target));
    (reply.status, reply.reason)
}

/// A viewer's connection, as raw as it is.
pub(crate) struct Viewer(TcpStream);

impl Viewer {
    pub(crate) fn connect(gate: &Nodegate) -> Self {
        Self::connect_to(gate.local())
    }

    fn connect_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self(stream)
    }

    /// Through the whole handshake.
    pub(crate) fn tunnel(gate: &Nodegate, target: &str) -> Self {
        Self::tunnel_at(gate.local(), target)
    }

    pub(crate) fn tunnel_at(address: SocketAddr, target: &str) -> Self {
        let mut viewer = Self::connect_to(address);
        viewer.send(viewer_head(target));
        viewer.expect(b"HTTP/1.0 200 OK\r\n\r\n");
        viewer
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Exactly these bytes come next.
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let received = self.take(bytes.len());
        assert_eq!(String::from_utf8_lossy(&received), String::from_utf8_lossy(bytes));
    }

    /// So many arbitrary bytes.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut received = vec![0; length];
        self.0.read_exact(&mut received).unwrap();
        received
    }

    fn end(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

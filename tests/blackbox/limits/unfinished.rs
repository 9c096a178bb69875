//! Connections that strangers begin and do not finish: a byte of TLS, half a head, a request and then silence.
//!
//! Two thousand of each, not the sixteen thousand that the default allows: a machine of two cores makes as many
//! handshakes of a debug build in a few seconds, and memory grows by the same for each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{BEHIND_A_PROXY, VERSION};
use crate::http2::wire::{END_STREAM, HEADERS, Wire, frame, request};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const MANY: usize = 2000;

/// As many descriptors as the system lets this process have; both ends of most connections are not here.
fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard >= 8000, "{hard} descriptors are too few for this test");
}

/// A connection on which so much was sent in the clear.
fn sent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may be closed at once.
    let _ = stream.write_all(bytes);
    stream
}

fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Kilobytes that each of these costs.
fn cost<T>(gate: &Nodegate, held: &[T], before: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(500));
    gate.kilobytes("VmRSS").saturating_sub(before) / u64::try_from(held.len()).unwrap()
}

#[test]
fn a_byte_of_tls_takes_little_memory() {
    raise_descriptors();
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.connections=6000"]);
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    for (what, bytes) in
        [("a byte", &b"\x16"[..]), ("half a record", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")]
    {
        let before = gate.kilobytes("VmRSS");
        let held: Vec<_> = (0..MANY).map(|_| sent(gate.local(), bytes)).collect();
        let each = cost(&gate, &held, before);
        println!("{what}: {each} kB a connection");
        assert!(each < 16, "{what}: {each} kB a connection");
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
        drop(held);
    }
}

#[test]
fn half_heads_give_way_to_newcomers() {
    let site = Site::pve();
    let gate = Nodegate::start(
        &site,
        &["limits.connections=200", "http2=true", "timeout.header=60", "timeout.idle=600"],
    );
    let cookie = site.cookie("root@pam");
    let mut user = gate.connect();
    assert_eq!(user.request("GET", VERSION, &cookie, b"").status, 200);
    let before = gate.kilobytes("VmRSS");
    let half_head = |_: usize| {
        let mut session = Session::tls(gate.local());
        let _ = session
            .try_send(format!("GET /api2/json/version HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(4000)));
        session
    };
    let mut held: Vec<_> = (0..230).map(half_head).collect();
    let each = cost(&gate, &held, before);
    println!("half a head: {each} kB a connection that was begun");
    assert!(each < 150, "{each} kB");
    assert_eq!(gate.get(VERSION, &cookie).status, 200, "a newcomer");
    assert_eq!(user.request("GET", VERSION, &cookie, b"").status, 200, "who was inside");
    held.retain_mut(|session| !session.is_over());
    assert!((100..200).contains(&held.len()), "{} are left", held.len());
    let half_block = request("GET", "/api2/json/version", &[]);
    let streams: Vec<_> = (0..230)
        .map(|_| {
            let mut wire = Wire::connect(&gate, &[]);
            let _ = wire.try_send(&frame(HEADERS, END_STREAM, 1, &half_block));
            wire
        })
        .collect();
    let each = cost(&gate, &streams, before);
    println!("half a head over HTTP/2: {each} kB a connection that was begun");
    assert!(each < 150, "{each} kB");
    assert_eq!(gate.get(VERSION, &cookie).status, 200, "a newcomer");
    assert_eq!(user.request("GET", VERSION, &cookie, b"").status, 200, "who was inside");
}

#[test]
fn half_handshakes_give_way_to_newcomers() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.connections=400", "timeout.handshake=60"]);
    let cookie = site.cookie("root@pam");
    let hello = client_hello(gate.local());
    let before = gate.kilobytes("VmRSS");
    let mut held: Vec<_> = (0..500).map(|_| sent(gate.local(), &hello)).collect();
    let each = cost(&gate, &held, before);
    println!("half a handshake: {each} kB a connection that was begun");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    // The response is still to be read.
    let left = held.iter_mut().map(stays_open).filter(|open| *open).count();
    assert!((100..400).contains(&left), "{left} are left");
}

/// Whether it is open behind what has come.
fn stays_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 8192]) {
            Ok(1..) => (),
            Ok(0) => return false,
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// The first record that a client of TLS sends.
pub fn client_hello(address: SocketAddr) -> Vec<u8> {
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    #[derive(Debug)]
    struct Caught(Vec<u8>);
    impl std::io::Read for Caught {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::WouldBlock.into())
        }
    }
    impl std::io::Write for Caught {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let begun = builder.build().connect(&address.ip().to_string(), Caught(Vec::new()));
    let openssl::ssl::HandshakeError::WouldBlock(middle) = begun.unwrap_err() else { panic!("it went on") };
    middle.get_ref().0.clone()
}

#[test]
fn idle_clients_never_take_all_permits() {
    raise_descriptors();
    let site = Site::pve();
    let settings = "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\nconnections = 1500\n";
    site.write("/etc/nodegate/pve.toml", settings);
    let gate = Nodegate::start(&site, &["limits.connections=1600", "timeout.idle=600"]);
    let clear = gate.listener("clear");
    let user = site.cookie("root@pam");
    let mut inside = Session::plain(clear);
    assert_eq!(inside.request("GET", VERSION, &user, b"").status, 200);
    let mut held: Vec<_> =
        (0..MANY).map(|_| sent(clear, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(Session::plain(clear).request("GET", VERSION, &user, b"").status, 200, "a newcomer");
    assert_eq!(gate.get(VERSION, &user).status, 200, "a newcomer elsewhere");
    assert_eq!(inside.request("GET", VERSION, &user, b"").status, 200, "who was inside");
    let left = held.iter_mut().map(stays_open).filter(|open| *open).count();
    assert!((500..1500).contains(&left), "{left} are left");
}

#[test]
fn the_largest_address_is_evicted_first() {
    let site = Site::pve();
    let sets = [&BEHIND_A_PROXY[..], &["listen.proxy_protocol=true", "limits.connections=1000"]].concat();
    let gate = Nodegate::start(&site, &[&sets[..], &["timeout.header=60", "timeout.handshake=60"]].concat());
    let header = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 1000 8006\r\n");
    let begin = |client: &str| sent(gate.local(), &[header(client).as_bytes(), b"\x16"].concat());
    let mut small: Vec<_> = (1..6).map(|last| begin(&format!("192.0.2.{last}"))).collect();
    let mut large: Vec<_> = (0..1100).map(|_| begin("198.51.100.7")).collect();
    eventually("some are closed", || large.iter_mut().map(is_open).filter(|open| !open).count() > 50);
    assert!(small.iter_mut().all(is_open), "the oldest of all, but of small addresses");
    let newcomer = Session::tls_behind(header("192.0.2.9").as_bytes(), "127.0.0.1", gate.local());
    let reply = newcomer.unwrap().request("GET", VERSION, &site.cookie("root@pam"), b"");
    assert_eq!(reply.status, 200);
}

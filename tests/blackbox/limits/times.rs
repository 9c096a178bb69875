//! Clients that take their time: with the first byte, a handshake, a body, an answer.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::VERSION;
use crate::support::nodegate::TIMEOUT;
use crate::support::{Nodegate, Session, Site};

const ECHO: &str = "/api2/json/standin/echo";

/// The head of a POST that announces a body.
fn begin(site: &Site, gate: &Nodegate, path: &str, more: &str) -> Session {
    let mut session = gate.connect();
    let headers = site.cookie("root@pam") + &site.csrf("root@pam") + more;
    session.send(format!("POST {path} HTTP/1.1\r\nHost: node1\r\n{headers}\r\n"));
    session
}

/// Sends a byte now and then until the other side has said something, or closed.
fn drip(session: &mut Session, from: Instant) {
    while from.elapsed() < TIMEOUT && session.try_send("x").is_ok() {
        if session.has_reply() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_dripping_body_is_rejected() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.body=1", "limits.request_body_min_rate=1000"]);
    let began = Instant::now();
    let mut session = begin(&site, &gate, ECHO, "Content-Length: 500000\r\n");
    drip(&mut session, began);
    let reply = session.reply(false);
    assert_eq!(reply.status, 408, "{reply:?}");
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(15));
    assert!(site.daemon.requests().is_empty());
}

#[test]
fn a_slow_steady_body_is_read_whole() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.body=1", "limits.request_body_min_rate=100"]);
    let mut session = begin(&site, &gate, ECHO, "Content-Length: 2000\r\n");
    for _ in 0..10 {
        session.send([b'x'; 200]);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(session.reply(false).status, 200);
    assert_eq!(site.daemon.last().body.len(), 2000);
}

#[test]
fn a_dripping_upload_is_removed() {
    let site = Site::pve();
    let profile = include_str!("../../../profiles/pve.toml");
    site.write("/mine.toml", profile.replace("[product.upload]", "[product.upload]\npatience = 1"));
    site.write("/pve.routes", include_str!("../../../profiles/pve.routes"));
    let profile = site.path("/mine.toml");
    let gate =
        Nodegate::start_profile(&site, profile.to_str().unwrap(), &["limits.request_body_min_rate=1000"]);
    let began = Instant::now();
    let form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000\r\n";
    let mut session = begin(&site, &gate, "/api2/json/nodes/node1/storage/local/upload", form);
    session.send("--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x.iso\"\r\n\r\n");
    drip(&mut session, began);
    let reply = session.reply(false);
    let reason = "the upload is too slow: fewer than 1000 bytes a second arrived";
    assert_eq!((reply.status, reply.reason.as_str()), (408, reason));
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(15));
    let left = || std::fs::read_dir(site.path("/var/tmp")).unwrap().count();
    crate::support::nodegate::eventually("the spool file is gone", || left() == 0);
}

/// A client that has asked for far more than a socket's buffers hold.
fn big_answer(site: &Site, gate: &Nodegate) -> Session {
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session
        .send(format!("GET /api2/json/standin/big?size=100000000 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    session
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.write=2"]);
    let mut session = big_answer(&site, &gate);
    crate::support::nodegate::eventually("it is logged", || gate.stderr().contains("connection timed out"));
    assert!(session.rest().len() < 50_000_000);
}

#[test]
fn a_client_that_reads_too_slowly_is_closed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.write=3", "limits.response_min_rate=20000000"]);
    let mut session = big_answer(&site, &gate);
    let began = Instant::now();
    let mut read = 0;
    while !gate.stderr().contains("connection timed out") {
        assert!(began.elapsed() < TIMEOUT, "still served after {read} bytes");
        read += session.take(200_000).len();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() >= Duration::from_secs(3) && read < 90_000_000, "{:?} {read}", began.elapsed());
    // A client that reads fast enough gets all of it.
    let patient = Nodegate::start(&site, &["timeout.write=3", "limits.response_min_rate=1000"]);
    assert!(big_answer(&site, &patient).reply(false).body.len() >= 100_000_000);
}

#[test]
fn first_byte_and_handshake_have_separate_timeouts() {
    let site = Site::pve();
    let sets = ["timeout.first_byte=1", "timeout.handshake=4", "timeout.header=20"];
    let gate = Nodegate::start(&site, &sets);
    let wait = |sent: &[u8]| {
        let mut stream = TcpStream::connect(gate.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let began = Instant::now();
        stream.write_all(sent).unwrap();
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
        began.elapsed().as_secs_f64()
    };
    let (silent, half) = (wait(b""), wait(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"));
    assert!((0.9..4.0).contains(&silent) && (3.9..18.0).contains(&half), "{silent} {half}");
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
}

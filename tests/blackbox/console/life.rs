//! Idle consoles, pings, and clients that stop answering or reading.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::client::{BINARY, FINAL, PING, PONG, content, opened, read, read_to_end};
use crate::support::{Nodegate, Site};

/// Timeouts of ordinary requests that a console outlives.
const SHORT: [&str; 3] = ["timeout.idle=1", "timeout.header=1", "timeout.answer=1"];

#[test]
fn an_idle_console_lives_on_its_pings() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[&SHORT[..], &["console.ping=1"]].concat());
    let (mut socket, mut server) = opened(&site, &gate);
    let before = Instant::now();
    for _ in 0..5 {
        let frame = socket.receive();
        assert_eq!(frame.opcode, PING);
        socket.send(FINAL | PONG, &frame.payload);
    }
    assert!(before.elapsed() >= Duration::from_secs(4));
    server.write_all(b"awake").unwrap();
    assert_eq!(socket.data(5), b"awake");
    socket.send(FINAL | BINARY, b"me too");
    assert_eq!(read(&mut server, 6), b"me too");
}

#[test]
fn a_console_without_pings_lives_as_well() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[&SHORT[..], &["console.ping=0"]].concat());
    let (mut socket, mut server) = opened(&site, &gate);
    std::thread::sleep(Duration::from_secs(4));
    server.write_all(b"awake").unwrap();
    assert_eq!(socket.receive().payload, b"awake");
    socket.send(FINAL | BINARY, b"me too");
    assert_eq!(read(&mut server, 6), b"me too");
}

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["console.ping=1"]);
    let (mut socket, mut server) = opened(&site, &gate);
    let before = Instant::now();
    let mut pings = 0;
    let last = loop {
        let frame = socket.receive();
        if frame.opcode != PING {
            break frame;
        }
        pings += 1;
    };
    assert_eq!((last.code(), pings), (1011, 2));
    assert!(before.elapsed() >= Duration::from_secs(3) - Duration::from_millis(100));
    assert_eq!(read_to_end(&mut server), b"");
}

#[test]
fn a_late_reading_client_gets_everything() {
    let sent = content(251 * 120_000); // takes its time, so before there is a console
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["console.ping=2"]);
    let (mut socket, mut server) = opened(&site, &gate);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            server.write_all(&sent).unwrap();
            server
        }
    });
    std::thread::sleep(Duration::from_secs(5)); // several pings are due meanwhile
    assert!(socket.data(sent.len()) == sent);
    let mut server = writer.join().unwrap();
    socket.send(FINAL | BINARY, b"back");
    assert_eq!(read(&mut server, 4), b"back");
    assert_eq!(socket.receive().opcode, PING);
}

/// Its client stays connected.
#[test]
fn a_late_reading_console_gets_everything() {
    let sent = content(30_000_000);
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["console.ping=2"]);
    let (mut socket, mut server) = opened(&site, &gate);
    let before = gate.kilobytes("VmRSS");
    let reader = std::thread::spawn({
        let length = sent.len();
        move || {
            std::thread::sleep(Duration::from_secs(5));
            server.write_all(b"now").unwrap();
            read(&mut server, length)
        }
    });
    for part in sent.chunks(100_000) {
        socket.send(FINAL | BINARY, part);
    }
    assert!(reader.join().unwrap() == sent);
    assert_eq!(socket.data(3), b"now");
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    assert!(grown < 4096, "{grown} kB for 30 MB that waited");
}

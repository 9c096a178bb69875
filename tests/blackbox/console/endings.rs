//! The end of a console: either side closes, and the other end gets the code.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::SockRef;

use super::client::{BINARY, CLOSE, FINAL, content, opened, read, read_to_end};
use crate::support::{Nodegate, Site};

/// The console's connection is closed as well.
#[test]
fn a_clients_close_code_is_echoed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for (payload, code) in [(&b"\x03\xe8bye"[..], 1000), (b"\x03\xe9", 1001), (b"\x0f\xa0", 4000), (b"", 0)] {
        let (mut socket, mut server) = opened(&site, &gate);
        socket.send(FINAL | BINARY, b"last words");
        socket.send(FINAL | CLOSE, payload);
        assert_eq!(socket.receive().code(), code);
        socket.assert_ended();
        assert_eq!(read_to_end(&mut server), b"last words");
    }
}

#[test]
fn all_output_of_an_ending_console_arrives() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    let sent = content(2_000_000);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            server.write_all(&sent).unwrap();
            server.shutdown(Shutdown::Write).unwrap(); // only half: what it hears does not matter any more
            read_to_end(&mut server)
        }
    });
    assert!(socket.data(sent.len()) == sent);
    assert_eq!(socket.receive().code(), 1000);
    socket.send(FINAL | CLOSE, b"\x03\xe8");
    socket.assert_ended();
    assert_eq!(writer.join().unwrap(), b"");
}

#[test]
fn a_console_that_breaks_off_is_an_error() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    socket.send(FINAL | BINARY, b"x");
    assert_eq!(read(&mut server, 1), b"x");
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap(); // closing resets
    drop(server);
    assert_eq!(socket.receive().code(), 1011);
    socket.send(FINAL | CLOSE, b"\x03\xf3");
    socket.assert_ended();
}

#[test]
fn a_missing_close_reply_times_out() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, server) = opened(&site, &gate);
    let before = Instant::now();
    drop(server);
    assert_eq!(socket.receive().code(), 1000);
    socket.assert_ended();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&before.elapsed()));
}

#[test]
fn a_client_that_vanishes_shuts_its_console() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (socket, mut server) = opened(&site, &gate);
    drop(socket);
    assert_eq!(read_to_end(&mut server), b"");
    // While the console floods, too.
    let (mut socket, server) = opened(&site, &gate);
    let flooding = std::thread::spawn(move || super::client::flood(&server));
    socket.data(100_000);
    drop(socket);
    assert!(flooding.join().unwrap() >= 100_000);
}

#[test]
fn a_stop_closes_consoles_without_waiting() {
    let site = Site::pve();
    let mut gate = Nodegate::start(&site, &[]);
    let (mut quiet, mut quiet_server) = opened(&site, &gate);
    let (mut polite, _polite_server) = opened(&site, &gate);
    let (_deaf, flooding) = opened(&site, &gate);
    let flooding = std::thread::spawn(move || super::client::flood(&flooding));
    std::thread::sleep(Duration::from_millis(300));
    let before = Instant::now();
    gate.signal(Signal::SIGTERM);
    assert_eq!(polite.receive().code(), 1001);
    polite.send(FINAL | CLOSE, b"\x03\xe9");
    polite.assert_ended();
    assert_eq!(quiet.receive().code(), 1001);
    quiet.assert_ended();
    let mut rest = Vec::new();
    quiet_server.read_to_end(&mut rest).unwrap();
    assert!(gate.wait().success());
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    flooding.join().unwrap();
}

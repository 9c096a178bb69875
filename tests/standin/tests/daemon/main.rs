//! The daemon over raw sockets, as the proxy sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod login;
mod special;
mod workers;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use nodegate_standin::{Config, Daemon, Listen, Product};
use serde_json::Value;

/// Sends all of it, closes that half, and reads to the end.
fn exchange(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.write_all(bytes.as_ref()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn text(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8(exchange(daemon, bytes)).unwrap()
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn escaped(ticket: &str) -> String {
    ticket.replace('%', "%25").replace('+', "%2B")
}

#[test]
fn records_what_it_got_byte_for_byte() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let head: &[u8] = b"PUT /api2/json/standin/echo?a=%41&b HTTP/1.1\r\nhOsT:  x:1 \r\nX-A: 1\r\nx-a: 2\r\nX-B: \xFF\r\nContent-Length: 3\r\n\r\n";
    exchange(&daemon, [head, b"\x00\xFFz"].concat());
    let request = daemon.last();
    assert_eq!(request.head, head);
    assert_eq!(request.body, b"\x00\xFFz");
    assert!(request.complete);
    assert_eq!(request.headers[0], ("hOsT".to_owned(), "x:1".to_owned()));
    assert_eq!(request.all("X-a"), ["1", "2"]);
    assert_eq!((request.path(), request.query()), ("/api2/json/standin/echo", "a=%41&b"));
}

#[test]
fn keeps_what_cannot_be_served_as_well() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    for (request, status) in [
        (
            "POST /api2/json/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "501 chunked transfer encoding not supported",
        ),
        ("POST /api2/json/x HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", "400 body shorter than announced"),
        (
            "POST /api2/json/x HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\nabc",
            "400 bad Content-Length",
        ),
        ("\0\r\n\r\n", "400 bad request: invalid token"),
    ] {
        let answer = text(&daemon, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(!daemon.last().complete);
    }
    assert_eq!(daemon.requests()[1].body, b"abc");
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let one = "GET /api2/json/access/domains HTTP/1.1\r\n\r\n";
    let last = "GET /api2/extjs/access/domains HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answers = text(&daemon, format!("{one}{one}{last}{one}"));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
    let last = answers.rsplit("\r\n\r\n").next().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(last).unwrap()["success"], 1, "{last}");
    assert_eq!(daemon.connections(), 1);
    assert!(daemon.requests().iter().all(|request| request.connection == 0));
}

#[test]
fn listens_on_a_unix_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.socket");
    let daemon = Daemon::start(Config { listen: Listen::Unix(path.clone()), ..Config::new(Product::Pve) });
    assert_eq!(daemon.address(), format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /api2/json/access/domains HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    drop(daemon);
    assert!(!path.exists());
}

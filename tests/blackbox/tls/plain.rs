//! Bytes that are no TLS on the TLS port, and clients that keep silent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::nodegate::TIMEOUT;
use crate::support::{Nodegate, Session, Site};

#[test]
fn plain_http_is_sent_to_https() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for (method, status) in [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308)] {
        let mut session = Session::plain(gate.address());
        let reply = session.request(method, "/a/b?c=%20d", "", if status == 308 { b"body" } else { b"" });
        assert_eq!(
            (reply.status, reply.header("location")),
            (status, Some("https://node1:8006/a/b?c=%20d")),
            "{method}"
        );
    }
    assert!(site.daemon.requests().is_empty(), "no request without TLS reaches the daemon");
}

#[test]
fn plain_http_without_one_sound_host_is_refused() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let heads = [
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: node1\r\nHost: node2\r\n",
        "GET / HTTP/1.1\r\nHost: node1@other\r\n",
        "GET / HTTP/1.1\r\nHost: node1/elsewhere\r\n",
    ];
    for head in heads {
        let mut session = Session::plain(gate.address());
        session.send(format!("{head}\r\n"));
        assert_eq!(session.reply(false).status, 400, "{head}");
    }
}

#[test]
fn absolute_plaintext_targets_redirect_correctly() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let ask = |target: &str| Session::plain(gate.address()).request("GET", target, "", b"");
    let reply = ask("http://node1:8006/a?b");
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://node1:8006/a?b")));
    assert_eq!(ask("http://evil/a").status, 400);
}

#[test]
fn a_plaintext_ticket_gets_only_the_redirect() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply =
        Session::plain(gate.address()).request("GET", "/api2/json/version", &site.cookie("root@pam"), b"");
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://node1:8006/api2/json/version")));
}

#[test]
fn other_protocols_are_closed_without_a_response() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    // SSLv2's hello, a NUL, an alert, an HTTP/2-less blank line.
    for bytes in [&b"\x80\x2e\x01\x00\x02"[..], b"\0\0\0\0", b"\x15\x03\x01\x00\x02\x01\x00", b"\r\n\r\n"] {
        let mut session = Session::plain(gate.address());
        session.send(bytes);
        assert!(session.is_closed(), "{bytes:?}");
    }
}

/// How long it takes until the other side closes, and what it says before.
fn time_to_the_end(gate: &Nodegate, sent: &[u8]) -> (Duration, Vec<u8>) {
    let mut stream = TcpStream::connect(gate.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let started = Instant::now();
    stream.write_all(sent).unwrap();
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("never closed"),
        Ok(_) | Err(_) => (started.elapsed(), received),
    }
}

/// The time is that for a request head.
#[test]
fn silent_clients_and_half_handshakes_time_out() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=1"]);
    let half_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for sent in [&b""[..], b"\x16", half_hello] {
        let (time, received) = time_to_the_end(&gate, sent);
        assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(10), "{sent:?}: {time:?}");
        assert!(received.is_empty(), "{received:?}");
    }
    let (time, received) = time_to_the_end(&gate, b"GET / HTTP/1.1\r\nHost: ");
    assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(10), "{time:?}");
    assert!(received.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&received));
    let started = Instant::now();
    let mut session = Session::tls(gate.address());
    let said = String::from_utf8(session.rest()).unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(started.elapsed() < Duration::from_secs(10), "a handshake without a request");
}

#[test]
fn silent_clients_delay_no_other_client() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=1"]);
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(gate.address()).unwrap()).collect();
    let started = Instant::now();
    assert_eq!(gate.get("/x", "").status, 404);
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(silent);
}

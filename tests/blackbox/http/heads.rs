//! Heads: Host, sizes, time.

use std::time::{Duration, Instant};

use super::VERSION;
use crate::support::{Nodegate, Site};

/// Sends a head and expects an answer; whether the connection closed behind it.
fn answer(gate: &Nodegate, head: &str) -> (u16, String, bool) {
    let mut session = gate.connect();
    // A rejected request may be cut off before its end; the response is there all the same.
    let _ = session.try_send(head);
    let reply = session.reply(false);
    let closes = reply.header("connection") == Some("close");
    if closes {
        assert!(session.is_closed(), "{head:.80}");
    }
    (reply.status, reply.reason, closes)
}

#[test]
fn every_request_names_one_host() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let absolute = format!("https://node1:8006{VERSION}");
    let good = [
        (VERSION, "1.1", "Host: node1:8006\r\n"),
        (VERSION, "1.1", "host:[2001:db8::1]:8006\r\n"),
        (VERSION, "1.1", "HOST: 192.0.2.1\r\n"),
        (VERSION, "1.0", ""),
        (absolute.as_str(), "1.1", "Host: NODE1:8006\r\n"),
        (absolute.as_str(), "1.0", ""),
    ];
    for (target, version, host) in good {
        let (status, ..) = answer(&gate, &format!("GET {target} HTTP/{version}\r\n{host}{cookie}\r\n"));
        assert_eq!(status, 200, "{target} {host}");
    }
    let bad = [
        (VERSION, ""),
        (VERSION, "Host:\r\n"),
        (VERSION, "Host: \r\n"),
        (VERSION, "Host: a\r\nHost: a\r\n"),
        (VERSION, "Host: a\r\nhost: b\r\n"),
        (VERSION, "Host: a b\r\n"),
        (VERSION, "Host: a/b\r\n"),
        (VERSION, "Host: user@a\r\n"),
        (VERSION, "Host: http://a\r\n"),
        (VERSION, "Host: a:b\r\n"),
        (VERSION, "Host: a:99999\r\n"),
        (VERSION, "Host: a\u{e9}\r\n"),
        (VERSION, "Host: a?b\r\n"),
        (VERSION, "Host: <script>\r\n"),
        (absolute.as_str(), "Host: other:8006\r\n"),
        (absolute.as_str(), "Host: node1\r\n"),
        (absolute.as_str(), ""),
    ];
    for (target, host) in bad {
        let (status, reason, closes) = answer(&gate, &format!("GET {target} HTTP/1.1\r\n{host}{cookie}\r\n"));
        assert_eq!((status, closes), (400, true), "{target} {host}");
        assert!(!reason.is_empty(), "{host}");
    }
}

#[test]
fn a_request_line_has_one_form() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let lines = [
        "xx GET /nope HTTP/1.1",
        "GET /nope HTTP/1.1 xyz",
        "GET /nope HTTP/1.9",
        "GET /nope HTTP/01.1",
        "GET /nope",
        "GET nope HTTP/1.1",
        "GET user@node1/nope HTTP/1.1",
        "rubbish",
    ];
    let seen: Vec<_> =
        lines.iter().map(|line| (*line, answer(&gate, &format!("{line}\r\nHost: node1\r\n\r\n")))).collect();
    assert!(seen.iter().all(|(_, (status, _, closes))| (*status, *closes) == (400, true)), "{seen:#?}");
    for start in ["\r\n\r\nGET /nope HTTP/1.1\r\n", "\n\nGET /nope HTTP/1.1\n", "GET /@nope HTTP/1.1\r\n"] {
        assert_eq!(answer(&gate, &format!("{start}Host: node1\r\n\r\n")).0, 404, "{start:?}");
    }
    let mut session = gate.connect();
    session.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let reply = session.reply(false);
    assert_eq!((reply.status, reply.text().as_str()), (505, "HTTP/1.1 is spoken on this connection\n"));
}

#[test]
fn a_head_has_64_lines_and_8192_bytes() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let head = |more: &str| format!("GET /api2/json/access/domains HTTP/1.1\r\nHost: node1\r\n{more}\r\n");
    let lines = |count: usize| head(&"X: y\r\n".repeat(count - 1));
    assert_eq!(answer(&gate, &lines(64)).0, 200);
    assert_eq!(answer(&gate, &lines(65)).0, 431);
    assert_eq!(answer(&gate, &lines(5000)).0, 431);
    let bytes =
        |count: usize| head(&format!("X: {}\r\n", "y".repeat(count - "Host: node1\r\nX: \r\n".len())));
    assert_eq!(answer(&gate, &bytes(8192)).0, 200);
    let (status, reason, _) = answer(&gate, &bytes(8193));
    assert_eq!(status, 431);
    assert_eq!(reason, "http header too large: too many bytes (limit 8192)");
    assert_eq!(answer(&gate, &bytes(60_000)).0, 431);
    assert_eq!(answer(&gate, &bytes(300_000)).0, 431);
    assert_eq!(answer(&gate, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000))).0, 414);
    assert_eq!(answer(&gate, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(30_000))).0, 404);
}

#[test]
fn the_limits_are_settings() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.headers=3", "limits.header=256", "limits.body=10"]);
    let open = "/api2/json/access/ticket";
    assert_eq!(gate.get("/api2/json/access/domains", "A: 1\r\nB: 2\r\n").status, 200);
    assert_eq!(gate.get("/api2/json/access/domains", "A: 1\r\nB: 2\r\nC: 3\r\n").status, 431);
    assert_eq!(gate.get("/api2/json/access/domains", &format!("A: {}\r\n", "x".repeat(250))).status, 431);
    assert_eq!(gate.request("POST", open, "", b"a=12345678").status, 401);
    assert_eq!(gate.request("POST", open, "", b"a=123456789").status, 413);
}

/// An idle connection closes without a response.
#[test]
fn half_a_head_gets_a_408() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=3", "timeout.idle=5"]);
    let cookie = site.cookie("root@pam");
    let mut half = gate.connect();
    let mut idle = gate.connect();
    let mut later = gate.connect();
    for session in [&mut idle, &mut later] {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    half.send("GET / HTTP/1.1\r\nHost: node");
    later.send("GET / HT");
    let before = Instant::now();
    for session in [&mut half, &mut later] {
        let reply = session.reply(false);
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        assert!(session.is_closed());
    }
    assert!(before.elapsed() >= Duration::from_secs(2));
    assert_eq!(idle.rest(), b"");
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(20), "{waited:?}");
}

#[test]
fn a_drip_does_not_keep_a_head_alive() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=3"]);
    let mut session = gate.connect();
    let before = Instant::now();
    session.send("GET / HTTP/1.1\r\n");
    while before.elapsed() < Duration::from_secs(20) && session.try_send("X: y\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
}

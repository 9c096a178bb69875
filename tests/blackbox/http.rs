//! HTTP/1 as clients speak it, well and badly.

mod bodies;
mod deletes;
mod errors;
mod heads;
mod phrases;
mod targets;

use crate::support::{Nodegate, Site};

const ECHO: &str = "/api2/json/standin/echo";
const VERSION: &str = "/api2/json/version";

#[test]
fn one_connection_serves_many_requests() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    // The original closes after 100.
    for round in 0..20 {
        let reply = session.request("GET", VERSION, &headers, b"");
        assert_eq!((reply.status, reply.header("keep-alive")), (200, Some("timeout=65")), "{round}");
        assert_eq!(reply.header("connection"), Some("keep-alive"), "the option for Keep-Alive");
        assert_eq!(session.request("POST", ECHO, &headers, b"a=1").status, 200);
        assert_eq!(session.request("HEAD", VERSION, &headers, b"").status, 200);
        assert_eq!(session.request("OPTIONS", VERSION, "", b"").status, 204);
        assert_eq!(session.request("GET", "/nope", "", b"").status, 404);
        assert_eq!(session.request("GET", "/api2/json/x/y", &headers, b"").status, 501);
    }
}

#[test]
fn a_client_that_wants_to_close_is_closed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for (version, connection, closes) in [
        ("1.1", "Connection: close\r\n", true),
        ("1.1", "Connection: CLOSE\r\n", true),
        ("1.0", "", true),
        ("1.0", "Connection: keep-alive\r\n", false),
        ("1.1", "", false),
    ] {
        let mut session = gate.connect();
        session.send(format!("GET {VERSION} HTTP/{version}\r\nHost: node1\r\n{connection}{cookie}\r\n"));
        let reply = session.reply(false);
        assert_eq!(
            (reply.status, reply.header("keep-alive").is_none()),
            (200, closes),
            "{version} {connection}"
        );
        if closes {
            assert!(session.is_closed(), "{version} {connection}");
        } else {
            assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
        }
    }
}

#[test]
fn http_1_0_responses_without_length_close() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for (path, closes) in [("/api2/json/standin/chunked", true), (VERSION, false)] {
        let mut session = gate.connect();
        session.send(format!("GET {path} HTTP/1.0\r\nHost: node1\r\nConnection: keep-alive\r\n{cookie}\r\n"));
        let headers = if closes {
            let said = String::from_utf8(session.rest()).unwrap();
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(!body.is_empty() && !head.to_lowercase().contains("transfer-encoding"), "{said}");
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        } else {
            let reply = session.reply(false);
            assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
            reply.headers
        };
        let named = |name: &str| {
            let found = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_lowercase()).collect::<Vec<_>>()
        };
        assert_eq!(named("connection"), [if closes { "close" } else { "keep-alive" }], "{path}");
        assert_eq!(named("keep-alive").is_empty(), closes, "{path}");
    }
}

#[test]
fn head_is_get_without_body() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for path in [VERSION, "/api2/json/standin/big?size=300000", "/api2/json/standin/chunked"] {
        let (get, mut session) = (gate.get(path, &cookie), gate.connect());
        let head = session.request("HEAD", path, &cookie, b"");
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(site.daemon.last().method, "GET");
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200, "{path}");
    }
    assert_eq!(gate.request("HEAD", "/api2/json/access/domains", "", b"").status, 200);
}

#[test]
fn options_needs_no_login() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let api = Some("GET, HEAD, POST, PUT, DELETE, OPTIONS");
    let files = Some("GET, HEAD, OPTIONS");
    for (path, allow) in [(VERSION, api), ("*", api), ("/pve2/js/x.js", files), ("/", files)] {
        let reply = gate.request("OPTIONS", path, "", b"");
        assert_eq!((reply.status, reply.header("allow")), (204, allow), "{path}");
    }
    assert!(site.daemon.requests().is_empty());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{headers}\r\n");
    let post = format!("POST {ECHO}?2 HTTP/1.1\r\nHost: node1\r\nContent-Length: 3\r\n{headers}\r\na=1");
    let slow = get("/api2/json/standin/slow?ms=300");
    session.send([slow, post, get("/nope"), get(&format!("{ECHO}?4"))].concat());
    assert_eq!(session.reply(false).status, 200);
    let second = session.reply(false).json();
    assert_eq!(
        (&second["data"]["target"], &second["data"]["body"]),
        (&format!("{ECHO}?2").into(), &"a=1".into())
    );
    assert_eq!(session.reply(false).status, 404);
    assert_eq!(session.reply(false).json()["data"]["target"], format!("{ECHO}?4"));
}

#[test]
fn a_half_closed_client_reads_its_response() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    session.send(format!("GET /api2/json/standin/slow?ms=300 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    session.finish();
    assert_eq!(session.reply(false).status, 200);
    assert!(session.is_closed());
}

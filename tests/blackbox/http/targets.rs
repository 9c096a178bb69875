//! Request targets with bytes that belong percent-encoded, and heads that are no requests.

use std::process::Command;

use percent_encoding::percent_decode;

use super::VERSION;
use crate::support::{Nodegate, Reply, Session, Site};

/// The first answer, and the connection.
fn answer(gate: &Nodegate, head: &[u8]) -> (Reply, Session) {
    let mut session = gate.connect();
    let _ = session.try_send(head);
    (session.reply(false), session)
}

fn target(before: &str, byte: u8) -> Vec<u8> {
    [before.as_bytes(), &[byte], b"b"].concat()
}

#[test]
fn each_byte_is_sent_on_or_named() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for byte in 0..=0xff_u8 {
        for (place, before) in [("path", "/api2/json/cluster/a"), ("query", "/api2/json/version?a=")] {
            if matches!(byte, b'%' | b'#' | b'?') {
                continue;
            }
            let target = target(before, byte);
            let line = [b"GET ", target.as_slice(), b" HTTP/1.1\r\nHost: node1\r\n"].concat();
            session.send([&line, cookie.as_bytes(), b"\r\n"].concat());
            let reply = session.reply(false);
            let what = format!("{byte:#04X} in the {place}: {} {}", reply.status, reply.text());
            if byte.is_ascii_control() || byte == b' ' || (byte >= 0x80 && place == "path") {
                assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{what}");
                let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
                let named = format!("the byte {byte:#04X}");
                // A byte that ends a word or a line is no part of the target.
                let is_named = message.contains(&named) || matches!(byte, b' ' | b'\n' | b'\r');
                assert!(is_named && !message.is_empty(), "{what}");
                session = gate.connect();
            } else {
                let status = if place == "path" { 501 } else { 200 };
                assert_eq!(reply.status, status, "{what}");
                let seen = site.daemon.last().target;
                assert_eq!(percent_decode(seen.as_bytes()).collect::<Vec<_>>(), target, "{what}");
                let plain = |c: char| c.is_ascii_graphic() && !"\"<>`".contains(c);
                assert!(seen.chars().all(plain), "{seen}");
            }
        }
    }
}

#[test]
fn raw_bytes_do_not_shift_what_follows() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{headers}\r\n");
    let form = "a=<GET /< HTTP/1.1>";
    let post = format!(
        "POST /api2/json/standin/echo?\"<\" HTTP/1.1\r\nHost: node1\r\n{headers}Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let all = [get("/api2/json/version?a=\"<\""), post, get("/api2/json/version?b=`")].concat();
    for size in [1, 7, 100, all.len()] {
        let before = site.daemon.requests().len();
        let mut session = gate.connect();
        for piece in all.as_bytes().chunks(size) {
            session.send(piece);
        }
        for _ in 0..3 {
            assert_eq!(session.reply(false).status, 200, "in pieces of {size}");
        }
        let seen: Vec<_> = site
            .daemon
            .requests()
            .into_iter()
            .skip(before)
            .map(|it| (it.target.clone(), it.text()))
            .collect();
        let expected = [
            ("/api2/json/version?a=%22%3C%22", ""),
            ("/api2/json/standin/echo?%22%3C%22", form),
            ("/api2/json/version?b=%60", ""),
        ];
        assert_eq!(seen, expected.map(|(target, body)| (target.to_owned(), body.to_owned())), "{size}");
    }
}

#[test]
fn an_unread_body_is_never_mended() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let body = "GET /<<<<<<<<<< HTTP/1.1\r\nHost: node1\r\n\r\n";
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut session = gate.connect();
        let length = body.len();
        session.send(format!(
            "POST /nope HTTP/1.1\r\nHost: node1\r\n{expect}Content-Length: {length}\r\n\r\n{body}\
             GET /also HTTP/1.1\r\nHost: node1\r\n\r\n"
        ));
        assert_eq!(session.reply(false).status, 404);
        if let Some(reply) = session.try_reply(false) {
            assert_eq!((reply.status, reply.text().as_str()), (404, "no such file '/also'\n"));
        }
        assert!(!site.access_log().contains("/%3C"), "{}", site.access_log());
    }
}

#[test]
fn half_a_pipelined_head_survives_a_pause() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    let head = format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n");
    session.send(head.repeat(20) + &head[..30]);
    for _ in 0..20 {
        assert_eq!(session.reply(false).status, 200);
    }
    // Long enough for the connection to be put aside.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    session.send(&head[30..]);
    assert_eq!(session.reply(false).status, 200);
}

/// Status, and what the reason says.
const MALFORMED: &[(&str, u16, &str)] = &[
    ("GET @ HTTP/2.0\r\n\r\n", 505, "HTTP/1.1 is spoken"),
    ("GET @ HTTP/1.9\r\n\r\n", 400, "HTTP/1.0 or HTTP/1.1"),
    ("GET @\r\n\r\n", 400, "METHOD TARGET HTTP/1.1"),
    ("G\u{e9}T @ HTTP/1.1\r\n\r\n", 400, "the method holds the byte 0xC3"),
    ("G\0T @ HTTP/1.1\r\n\r\n", 400, "the method holds the byte 0x00"),
    ("GET @\u{1} HTTP/1.1\r\n\r\n", 400, "the byte 0x01"),
    ("GET @\u{7f} HTTP/1.1\r\n\r\n", 400, "the byte 0x7F; percent-encode it, unless it is a mistake"),
    ("GET @\tb HTTP/1.1\r\n\r\n", 400, "the byte 0x09"),
    ("GET @ y HTTP/1.1\r\n\r\n", 400, "the request line does not end in HTTP/1.0 or HTTP/1.1"),
    ("GET @ HTTP/1.1\r\n: a\r\n\r\n", 400, "header line 1 has no name and colon"),
    ("GET @ HTTP/1.1\nA: b\nC: d\re\n\n", 400, "header line 2 holds the byte 0x0D"),
    ("GET @ HTTP/1.1\r\nHost : x\r\n\r\n", 400, "header line 1 holds the byte 0x20"),
    ("GET @ HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400, "header line 2 begins with white space"),
    ("GET @ HTTP/1.1\r\nnonsense\r\n\r\n", 400, "header line 1 has no name and colon"),
    ("GET @ HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400, "header line 1 holds the byte 0x00"),
    ("POST @ HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n", 400, "Content-Length"),
    (
        "POST @ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
        "Content-Length",
    ),
    ("POST @ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "chunked"),
    ("POST @ HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Transfer-Encoding"),
    ("GET @ HTTP/1.1\r\n\r\n", 400, "Host header missing"),
    ("GET @ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"),
    ("GET @ HT", 408, "did not arrive in time"),
];

#[test]
fn each_rejection_has_a_reason_in_its_body() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=2"]);
    let long = |what: &str, count| what.repeat(count);
    let sizes = [
        (format!("GET @{} HTTP/1.1\r\nHost: a\r\n\r\n", long("x", 66_000)), 414, "URL too long"),
        (format!("GET @{} HTTP/1.1\r\nHost: a\r\n\r\n", long("x", 90_000)), 414, "URL too long"),
        (format!("GET @ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long("x", 90_000)), 431, "header too large"),
        (format!("GET @ HTTP/1.1\r\nHost: a\r\n{}\r\n", long("X: y\r\n", 5000)), 431, "header too large"),
        (format!("GET @ HTTP/1.1\r\nHost: a\r\n{}\r\n", long("X: y\r\n", 70)), 431, "header too large"),
    ];
    let cases = MALFORMED.iter().map(|(head, status, reason)| ((*head).to_owned(), *status, *reason));
    for (head, status, reason) in cases.chain(sizes) {
        for (path, form) in [("/api2/json/x", "json"), ("/api2/extjs/x", "extjs"), ("/x", "text")] {
            let head = head.replacen('@', path, 1);
            let (reply, mut session) = answer(&gate, head.as_bytes());
            let what = format!("{head:.60}: {} {}", reply.status, reply.text());
            // These clients report a 414 like every failure.
            let is_inside = form == "extjs" && status == 414;
            assert_eq!(reply.status, if is_inside { 200 } else { status }, "{what}");
            assert!(is_inside || reply.reason.contains(reason), "{what}: {}", reply.reason);
            let message = match form {
                "text" => reply.text(),
                _ => reply.json()["message"].as_str().unwrap_or_default().to_owned(),
            };
            assert!(message.contains(reason), "{what}");
            assert_eq!(form == "extjs", reply.text().contains("\"success\":0"), "{what}");
            for name in ["server", "date", "content-type", "x-content-type-options"] {
                assert!(reply.header(name).is_some(), "{what}: no {name}");
            }
            assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()), "{what}");
            if status != 431 || reply.header("connection") != Some("keep-alive") {
                assert_eq!(reply.header("connection"), Some("close"), "{what}");
                assert!(session.is_closed(), "{what}");
            }
        }
    }
}

#[test]
fn bad_pipelined_heads_are_answered_last() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let good = format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n");
    let file = "GET /nope HTTP/1.1\r\nHost: node1\r\n\r\n";
    let mut session = gate.connect();
    session.send([&good, file, &good, "GET /api2/json/x HTTP/1.1\r\nA b\r\n\r\n"].concat());
    let statuses = [(); 4].map(|()| session.reply(false)).map(|reply| (reply.status, reply.body.is_empty()));
    assert_eq!(statuses, [(200, false), (404, false), (200, false), (400, false)]);
    assert!(session.is_closed());
    // A chunked answer ends before it as well.
    let mut session = gate.connect();
    let chunked = format!("GET /api2/json/standin/chunked HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n");
    session.send([chunked.as_str(), "GET /api2/json/x HTTP/1.1\r\nA b\r\n\r\n"].concat());
    let (first, second) = (session.reply(false), session.reply(false));
    assert_eq!((first.status, second.status), (200, 400));
    assert!(second.json()["message"].as_str().unwrap().contains("header line 1"), "{}", second.text());
}

#[test]
fn curl_sends_quotes_and_brackets() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let url = format!("https://127.0.0.1:{}{VERSION}?filter=\"a<b>`c`", gate.port());
    let output = Command::new("curl")
        .args(["-ksg", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "-H"])
        .args([site.cookie("root@pam").trim(), &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
    assert_eq!(site.daemon.last().query(), "filter=%22a%3Cb%3E%60c%60");
}

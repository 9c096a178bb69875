//! Bodies: chunked or not, too large, too slow.

use std::time::{Duration, Instant};

use super::{ECHO, VERSION};
use crate::support::{Nodegate, Session, Site};

const LIMIT: usize = 524_288;

fn post(site: &Site, session: &mut Session, framing: &str) {
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    session.send(format!("POST {ECHO} HTTP/1.1\r\nHost: node1\r\n{headers}{framing}\r\n"));
}

#[test]
fn a_chunked_body_is_forwarded_with_its_length() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    post(&site, &mut session, "Transfer-Encoding: chunked\r\n");
    for piece in ["3\r\na=1\r\n", "00000", "5;name=\"x\"\r\n&b=22\r\n", "0\r\n\r\n"] {
        session.send(piece);
    }
    assert_eq!(session.reply(false).status, 200);
    let seen = site.daemon.last();
    assert_eq!((seen.text().as_str(), seen.all("content-length")), ("a=1&b=22", vec!["8"]));
    assert!(seen.header("transfer-encoding").is_none());
    assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
}

#[test]
fn forwarded_bodies_have_a_content_type() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let form = "application/x-www-form-urlencoded";
    for (method, given, body, expected) in [
        ("POST", "", "a=1", vec![form]),
        ("PUT", "", "a=1", vec![form]),
        ("POST", "Content-Type: application/json\r\n", "{}", vec!["application/json"]),
        ("POST", "Content-Type: text/x\r\nContent-Type: text/y\r\n", "a", vec!["text/x"]),
        ("POST", "", "", vec![]),
        ("GET", "Content-Type: text/plain\r\n", "", vec![]),
    ] {
        let reply = gate.request(method, ECHO, &(headers.clone() + given), body.as_bytes());
        assert_eq!(reply.status, 200);
        let seen = site.daemon.last();
        assert_eq!(seen.all("content-type"), expected, "{method} {given}");
        let length = if method == "GET" { vec![] } else { vec![body.len().to_string()] };
        assert_eq!(seen.all("content-length"), length, "{method} {given}");
    }
}

#[test]
fn expect_100_continue_gets_100() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    post(&site, &mut session, "Expect: 100-continue\r\nContent-Length: 3\r\n");
    assert_eq!(session.reply(false).status, 100);
    session.send("a=1");
    assert_eq!(session.reply(false).status, 200);
    assert_eq!(site.daemon.last().body, b"a=1");
    assert!(site.daemon.last().header("expect").is_none());
}

#[test]
fn expect_100_continue_is_rejected_at_once() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    post(&site, &mut session, "Expect: 100-continue\r\nContent-Length: 524289\r\n");
    assert_eq!(session.reply(false).status, 413);
    let mut session = gate.connect();
    session.send(format!(
        "POST {ECHO} HTTP/1.1\r\nHost: node1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    ));
    assert_eq!(session.reply(false).status, 401);
}

/// RFC 9110 section 10.1.1 lets a client send its body before the 100.
#[test]
fn a_client_that_sends_early_reads_its_rejection() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    session.send(format!(
        "POST {ECHO} HTTP/1.1\r\nHost: node1\r\nExpect: 100-continue\r\nContent-Length: 62914560\r\n\r\n"
    ));
    std::thread::sleep(Duration::from_secs(1));
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..60 {
        session.send(&piece);
    }
    let reply = session.reply(false);
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
    assert!(session.is_closed());
}

#[test]
fn bodies_have_512_kib_at_most() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut body = vec![b'x'; LIMIT];
    assert_eq!(gate.request("POST", ECHO, &headers, &body).status, 200);
    assert_eq!(site.daemon.last().body.len(), LIMIT);
    body.push(b'x');
    let reply = gate.request("POST", ECHO, &headers, &body);
    let reason = "for data too large: the body may have 524288 bytes";
    assert_eq!((reply.status, reply.reason.as_str()), (413, reason));
    assert_eq!(reply.json()["message"], reason);
    assert_eq!(site.daemon.requests().len(), 1);
}

#[test]
fn an_oversized_sender_still_reads_its_response() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let piece = vec![b'x'; 1 << 20];
    for chunked in [false, true] {
        let mut session = gate.connect();
        let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "Content-Length: 15728640\r\n" };
        post(&site, &mut session, framing);
        for _ in 0..15 {
            if chunked {
                session.send(format!("{:x}\r\n", piece.len()));
            }
            session.send(&piece);
            if chunked {
                session.send("\r\n");
            }
        }
        if chunked {
            session.send("0\r\n\r\n");
        }
        assert_eq!(session.reply(false).status, 413, "chunked: {chunked}");
        assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    let mut session = gate.connect();
    session.send(format!("POST {ECHO} HTTP/1.1\r\nHost: node1\r\nContent-Length: 15728640\r\n\r\n"));
    for _ in 0..15 {
        session.send(&piece);
    }
    assert_eq!(session.reply(false).status, 401);
}

#[test]
fn a_body_where_none_belongs_is_refused() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    for method in ["GET", "HEAD"] {
        let mut session = gate.connect();
        let reply = session.request(method, ECHO, &headers, b"a=1");
        let reason = format!("Unexpected content for method '{method}'");
        assert_eq!((reply.status, reply.reason.as_str()), (501, reason.as_str()));
        assert_eq!(session.request("GET", VERSION, &headers, b"").status, 200);
        let reply = gate.request(method, ECHO, &format!("Content-Length: 0\r\n{headers}"), b"");
        assert_eq!(reply.status, 200, "{method}");
    }
}

#[test]
fn a_missing_body_times_out() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.body=1", "limits.request_body_min_rate=100"]);
    let mut session = gate.connect();
    post(&site, &mut session, "Content-Length: 10\r\n");
    session.send("a=1");
    let before = Instant::now();
    let reply = session.reply(false);
    let reason = "the body did not arrive within 1 s, or with less than 100 bytes a second";
    assert_eq!((reply.status, reply.reason.as_str()), (408, reason));
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    assert!(session.is_closed());
}

#[test]
fn an_interrupted_body_reaches_no_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for (framing, body) in [
        ("Content-Length: 10\r\n", "a=1"),
        ("Transfer-Encoding: chunked\r\n", "3\r\na=1\r\n"),
        ("Transfer-Encoding: chunked\r\n", "3\r\na=1xxxx"),
        ("Transfer-Encoding: chunked\r\n", "zz\r\na=1"),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\na=1"),
    ] {
        let mut session = gate.connect();
        post(&site, &mut session, framing);
        session.send(body);
        session.finish();
        let reply = session.try_reply(false);
        assert!(reply.as_ref().is_none_or(|reply| reply.status == 400), "{body}: {reply:?}");
        assert!(session.is_closed());
    }
    assert!(site.daemon.requests().is_empty());
}

/// The body arrives after nodegate rejected its request.
#[test]
fn a_late_body_is_no_next_request() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=1", "timeout.idle=1"]);
    let cookie = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    let head = "PUT /api2/json/cluster/options HTTP/1.1\r\nHost: node1\r\nContent-Length: 600000\r\n";
    session.send(format!("{head}{cookie}\r\n"));
    assert_eq!(session.reply(false).status, 413);
    session.send(vec![b'a'; 300_000]);
    std::thread::sleep(Duration::from_millis(2500)); // longer than a head may take
    session.send(vec![b'a'; 300_000]);
    assert_eq!(session.request("GET", super::VERSION, &cookie, b"").status, 200);
}

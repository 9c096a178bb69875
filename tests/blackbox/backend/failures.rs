//! A daemon that is away, slow or talks rubbish.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::VERSION;
use crate::support::nodegate::free_port;
use crate::support::{Deaf, Nodegate, Reply, Site};

/// The status, the classic words at the start, and what the body says about it.
fn assert_failed(reply: &Reply, status: u16, words: &str, phase: &str, address: &str) {
    assert_eq!(reply.status, status, "{}", reply.reason);
    assert!(reply.reason.starts_with(words), "{}", reply.reason);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(words), "{message}");
    for part in [phase, address, " s)"] {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_595() {
    let site = Site::pve();
    let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gate = Nodegate::start(&site, &[&format!("backend.address={free}")]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get(VERSION, &cookie);
    assert_failed(&reply, 595, "Connection refused", "connecting", &free.to_string());
    let extjs = gate.get("/api2/extjs/version", &cookie);
    assert_eq!((extjs.status, extjs.json()["status"].as_u64()), (200, Some(595)));
    let html = gate.get("/api2/html/version", &cookie);
    assert!(html.status == 595 && html.text().starts_with("Connection refused ("), "{}", html.text());
}

#[test]
fn a_connect_timeout_is_a_595() {
    let site = Site::pve();
    let daemon = Deaf::listen(std::iter::once(0));
    let address = daemon.address;
    let gate = Nodegate::start(&site, &[&format!("backend.address={address}"), "timeout.connect=1"]);
    let before = Instant::now();
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_failed(&reply, 595, "Connection timed out", "connecting", &address.to_string());
    assert!(before.elapsed() >= Duration::from_secs(1) && before.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_missing_unix_socket_is_a_595() {
    let site = Site::pve();
    let path = site.path("/run/no-such-socket");
    let gate = Nodegate::start(&site, &["backend.address=unix:/run/no-such-socket"]);
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_failed(&reply, 595, "No such file or directory", "connecting", &path.display().to_string());
}

#[test]
fn a_closing_or_silent_daemon_is_a_596() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.answer_unprivileged=1"]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let address = site.daemon.address();
    for method in ["GET", "POST"] {
        site.daemon.clear();
        let reply = gate.request(method, "/api2/json/standin/close", &headers, b"");
        assert_failed(&reply, 596, "Broken pipe", "waiting for the answer", address);
        assert_eq!(site.daemon.requests().len(), 1, "{method} was sent again");
        let before = Instant::now();
        let reply = gate.request(method, "/api2/json/standin/hang", &headers, b"");
        assert_failed(&reply, 596, "Connection timed out", "waiting for the answer", address);
        let waited = before.elapsed();
        assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(6), "{waited:?}");
        assert_eq!(site.daemon.requests().len(), 2, "{method} was sent again");
    }
}

#[test]
fn an_invalid_daemon_response_is_a_599() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get("/api2/json/standin/rubbish", &cookie);
    assert_failed(&reply, 599, "Invalid server response", "reading the answer", site.daemon.address());
    for raw in [
        "HTTP/1.1 99 no%0d%0a%0d%0a",
        "HTTP/3.0 200 OK%0d%0a%0d%0a",
        "HTTP/1.1 200 OK%0d%0aX%0d%0a%0d%0a",
        "HTTP/1.1 200 OK%0d%0aContent-Length: x%0d%0a%0d%0a",
        "%00%01%02%0d%0a%0d%0a",
        "SSH-2.0-OpenSSH_9.2%0d%0a",
    ] {
        let path = format!("/api2/json/standin/raw?text={}", raw.replace(' ', "%20"));
        assert_eq!(gate.get(&path, &cookie).status, 599, "{raw}");
    }
}

/// A response body that ends early is a 597 if the head was not sent yet; otherwise the body breaks off.
#[test]
fn an_early_end_is_a_597() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.answer_unprivileged=1"]);
    let cookie = site.cookie("root@pam");
    let address = site.daemon.address();
    let reply = gate.get("/api2/json/standin/short?size=1000", &cookie);
    assert_failed(&reply, 597, "Broken pipe", "reading the body", address);
    let reply = gate.get("/api2/json/standin/head-only-then-hang?size=1000", &cookie);
    assert_failed(&reply, 597, "Connection timed out", "reading the body", address);
    for path in ["short", "head-only-then-hang"] {
        let mut session = gate.connect();
        let path = format!("/api2/json/standin/{path}?size=1000000");
        session.send(format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        let everything = session.rest();
        assert!(everything.starts_with(b"HTTP/1.1 200 OK") && everything.len() < 999_000, "{path}");
    }
}

#[test]
fn a_failing_daemon_keeps_the_client_connection() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for path in ["rubbish", "close", "short"] {
        assert!(session.request("GET", &format!("/api2/json/standin/{path}"), &cookie, b"").status > 594);
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
}

/// The daemon answers before it has read the whole request.
#[test]
fn an_early_response_reaches_the_client() {
    let site = Site::pve();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Nodegate::start(&site, &[&format!("backend.address={}", listener.local_addr().unwrap())]);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut some = [0; 100];
            stream.read_exact(&mut some).unwrap();
            stream
                .write_all(b"HTTP/1.1 403 too eager\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    for size in [0, 500_000] {
        let reply = gate.request("POST", "/api2/json/x", &headers, &vec![b'x'; size]);
        assert_eq!((reply.status, reply.reason.as_str()), (403, "too eager"), "{size}");
        assert_eq!(reply.text(), "no");
    }
}

/// nodegate could not tell where such a body ends, or not undo its coding (RFC 9112 sections 6.1 and 6.3).
#[test]
fn other_transfer_codings_are_no_response() {
    let site = Site::pve();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = format!("backend.address={}", listener.local_addr().unwrap());
    let gate = Nodegate::start(&site, &[&backend]);
    let codings = ["gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "x"];
    std::thread::spawn(move || {
        for coding in codings {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
            stream.write_all(&[head.as_bytes(), b"2\r\nxy\r\n0\r\n\r\n"].concat()).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    for coding in codings {
        let reply = gate.get(VERSION, &site.cookie("root@pam"));
        assert_eq!(reply.status, 599, "{coding}: {}", reply.text());
    }
}

#[test]
fn the_timeout_bounds_pauses_not_the_response() {
    let site = Site::pve();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = format!("backend.address={}", listener.local_addr().unwrap());
    let gate = Nodegate::start(&site, &[&backend, "timeout.answer_unprivileged=2"]);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(400));
            stream.write_all(b"2\r\nxy\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).text(), "xy".repeat(8));
}

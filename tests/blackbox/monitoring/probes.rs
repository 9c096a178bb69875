//! `/-/health` and `/-/ready`.

use std::fs;

use super::{Monitored, curl};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site};

fn plain(port: u16, path: &str) -> (u16, String) {
    let reply = Session::plain(([127, 0, 0, 1], port).into()).request("GET", path, "", b"");
    (reply.status, reply.text())
}

/// A process that is up answers ok; one that can serve answers ready.
#[test]
fn health_and_readiness_are_separate() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &[]);
    let mut session = monitored.gate.connect();
    for (path, text) in [("/-/health", "ok\n"), ("/-/ready", "ready\n")] {
        let reply = session.request("GET", path, "", b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, text));
        let head = session.request("HEAD", path, "", b"");
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some(text.len().to_string().as_str()))
        );
        assert!(head.body.is_empty());
        let reply = session.request("POST", path, "", b"");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
        assert_eq!(plain(monitored.port, path), (200, text.to_owned()));
        let url = format!("https://127.0.0.1:{}{path}", monitored.gate.port());
        assert_eq!(curl(&["-k", &url]), text);
    }
}

/// The daemon or a key is missing; the answer has no path.
#[test]
fn an_unready_process_gives_its_reason() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.address=127.0.0.1:1"]);
    let reply = gate.get("/-/ready", "");
    let why = "the daemon cannot be connected to: Connection refused\n";
    assert_eq!((reply.status, reply.text().as_str()), (503, why));
    assert_eq!(gate.get("/-/health", "").status, 200);
    drop(gate);

    let gate = Nodegate::start(&site, &[]);
    assert_eq!(gate.get("/-/ready", "").status, 200);
    let key = site.path("/etc/pve/pve-www.key");
    let moved = site.path("/etc/pve/pve-www.away");
    fs::rename(&key, &moved).unwrap();
    eventually("it is noticed", || {
        let reply = gate.get("/-/ready", "");
        reply.status == 503 && reply.text() == "a key file cannot be read\n"
    });
    fs::rename(&moved, &key).unwrap();
    eventually("it is ready again", || gate.get("/-/ready", "").status == 200);
}

#[test]
fn monitors_share_one_probe_a_second() {
    let site = Site::pve();
    let daemon = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    daemon.set_nonblocking(true).unwrap();
    let gate = Nodegate::start(&site, &[&format!("backend.address={}", daemon.local_addr().unwrap())]);
    let began = std::time::Instant::now();
    let mut session = gate.connect();
    for _ in 0..50 {
        assert_eq!(session.request("GET", "/-/ready", "", b"").status, 200);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let connections = std::iter::from_fn(|| daemon.accept().ok()).count();
    assert!((1..=seconds + 1).contains(&connections), "{connections} in {seconds} s");
}

#[test]
fn a_draining_process_is_not_ready() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &[]);
    // A request that is still being answered keeps it from ending.
    let mut upload = monitored.gate.connect();
    let head = "POST /api2/json/access/ticket HTTP/1.1\r\nHost: node1\r\nContent-Length: 9\r\n";
    upload.send(format!("{head}Expect: 100-continue\r\n\r\n"));
    assert_eq!(upload.reply(false).status, 100);
    monitored.gate.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it drains", || plain(monitored.port, "/-/ready") == (503, "draining\n".to_owned()));
    assert_eq!(plain(monitored.port, "/-/health"), (200, "ok\n".to_owned()));
    upload.send("123456789");
    assert!(upload.try_reply(false).is_some());
}

#[test]
fn probes_have_the_paths_of_the_settings() {
    let site = Site::pve();
    let sets = ["health.live=/healthz", "health.ready="];
    let gate = Nodegate::start(&site, &sets);
    assert_eq!(gate.get("/healthz", "").text(), "ok\n");
    for path in ["/-/health", "/-/ready"] {
        assert_eq!(gate.get(path, "").status, 404);
    }
    let outcome = Outcome::ask(&site, &["--set", sets[0], "route", "pve", "GET", "/healthz"]);
    assert_eq!(outcome.stdout, "page open answered here: whether the process is up\n");
    for (set, complaint) in [
        ("health.live=health", "health.live: 'health' is not a path of letters, digits, '-', '_', '.'"),
        ("metrics.listen=9106", "metrics.listen: '9106': write ADDRESS:PORT, [IPv6]:PORT or unix:/path"),
        (
            "trace.request_id_header=Cookie",
            "trace.request_id_header: 'Cookie' is not a header name that begins with X-",
        ),
    ] {
        Outcome::check(&site, &[set]).complains(&format!("--set: {complaint}"));
    }
}

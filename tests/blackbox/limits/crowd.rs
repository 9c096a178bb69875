//! Too many at once: connections, requests and uploads.

use std::net::{SocketAddr, TcpStream};

use super::{VERSION, behind_a_proxy, from};
use crate::listening::namespace::Namespace;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site};

const UPLOAD: &str = "/api2/json/nodes/node1/storage/local/upload";
const FORM: &str = "Content-Type: multipart/form-data; boundary=b\r\n";

fn is_told(reply: &Reply, status: u16, reason: &str) -> bool {
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    reply.status == status && seconds > 0 && reply.json()["message"].as_str().unwrap().starts_with(reason)
}

/// Connections that are open already are served on.
#[test]
fn the_connection_limit_answers_503_within_tls() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.connections=3"]);
    let cookie = site.cookie("root@pam");
    let mut inside: Vec<_> = (0..3).map(|_| gate.connect()).collect();
    for session in &mut inside {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    let mut outside = gate.connect();
    let reply = outside.request("GET", VERSION, &cookie, b"");
    assert!(is_told(&reply, 503, "all connections are in use"), "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(outside.is_closed());
    for session in &mut inside {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    drop(inside.pop());
    eventually("there is a place again", || gate.get(VERSION, &cookie).status == 200);
    assert!(
        gate.stderr().contains("connection limit reached; rejecting new connections"),
        "{}",
        gate.stderr()
    );
}

#[test]
fn a_full_tunnel_port_answers_503() {
    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, "spice", &["limits.connections=1"]);
    let _inside = TcpStream::connect(gate.local()).unwrap();
    let target = site.keys.spice_target("node1", 100, 61_000, nodegate_standin::now());
    eventually("the first one has its place", || {
        let mut session = Session::plain(gate.local());
        session.send(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n"));
        let reply = session.reply(false);
        reply.status == 503 && reply.text().starts_with("all connections are in use")
    });
}

#[test]
fn beyond_the_reserve_connections_close() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.connections=1"]);
    let cookie = site.cookie("root@pam");
    let mut inside = gate.connect();
    assert_eq!(inside.request("GET", VERSION, &cookie, b"").status, 200);
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(gate.local()).unwrap()).collect();
    eventually("the reserve is taken", || Session::try_tls(gate.local()).is_err());
    assert_eq!(inside.request("GET", VERSION, &cookie, b"").status, 200);
    drop((silent, inside));
    eventually("all of it is free again", || {
        Session::try_tls(gate.local()).is_ok_and(|mut session| {
            session.try_send(format!("GET {VERSION} HTTP/1.1\r\nHost: a\r\n{cookie}\r\n")).is_ok()
                && session.try_reply(false).is_some_and(|reply| reply.status == 200)
        })
    });
}

#[test]
fn descriptors_are_never_used_up_first() {
    let site = Site::pve();
    let mut command = std::process::Command::new("sh");
    let prepared = Nodegate::prepared(&site, "pve", &["workers=2"]);
    command.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(prepared.get_program());
    command.args(prepared.get_args());
    let gate = Nodegate::spawn(&mut command);
    // Users: strangers give way before all places are taken.
    let call = format!("GET {VERSION} HTTP/1.1\r\nHost: a\r\n{}\r\n", site.cookie("root@pam"));
    let enter = |_: usize| {
        let mut user = Session::try_tls(gate.local()).ok()?;
        user.try_send(&call).ok()?;
        user.try_reply(false)?;
        Some(user)
    };
    let users: Vec<_> = (0..130).map(enter).collect();
    let crowd: Vec<_> = (0..400).map(|_| TcpStream::connect(gate.local()).unwrap()).collect();
    eventually("somebody is turned away", || {
        gate.stderr().contains("connection limit reached; rejecting new connections")
    });
    drop((users, crowd));
    eventually("there is a place again", || Session::try_tls(gate.local()).is_ok());
    eventually("it serves", || gate.get("/nope", "").status == 404);
    assert!(!gate.stderr().contains("cannot accept"), "{}", gate.stderr());
}

#[test]
fn connections_are_limited_per_address() {
    let Some(space) = Namespace::new() else { return };
    for address in ["192.0.2.50/32", "192.0.2.51/32"] {
        space.ip(&["addr", "add", address, "dev", "lo"]);
    }
    let site = Site::pve();
    space.inside(|| {
        let sets = ["listen.address=0.0.0.0", "limits.connections_per_address=2"];
        let gate = Nodegate::start(&site, &sets);
        // A client of the machine's own address comes from that address.
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), gate.port());
        let mut inside: Vec<_> = (0..2).map(|_| Session::tls(at("192.0.2.50"))).collect();
        for session in &mut inside {
            assert_eq!(session.request("GET", "/nope", "", b"").status, 404);
        }
        let reply = Session::tls(at("192.0.2.50")).request("GET", VERSION, "", b"");
        assert!(is_told(&reply, 429, "too many connections from this address: 2 are open"), "{reply:?}");
        let said =
            "192.0.2.50 has all of its 2 connections (connections_per_address); rejecting more of them";
        assert!(gate.stderr().contains(said), "{}", gate.stderr());
        assert!(!gate.stderr().contains("connection limit reached"), "{}", gate.stderr());
        assert_eq!(Session::tls(at("192.0.2.51")).request("GET", "/nope", "", b"").status, 404);
        let _many: Vec<_> = (0..5).map(|_| Session::tls(at("127.0.0.1"))).collect();
        assert_eq!(Session::tls(at("127.0.0.1")).request("GET", "/nope", "", b"").status, 404);
        drop(inside);
        eventually("its places are free again", || {
            Session::tls(at("192.0.2.50")).request("GET", "/nope", "", b"").status == 404
        });
    });
}

#[test]
fn requests_in_flight_are_limited_behind_proxies() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.requests_per_address=2"]);
    let headers = |client: &str| site.cookie("root@pam") + &from(client);
    let slow = |client: &str| {
        let mut session = gate.connect();
        let headers = headers(client);
        session.send(format!("GET /api2/json/standin/slow?ms=3000 HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        session
    };
    let mut first = [slow("192.0.2.7"), slow("192.0.2.7")];
    eventually("both are with the daemon", || site.daemon.requests().len() == 2);
    let reply = gate.get(VERSION, &headers("192.0.2.7"));
    assert!(is_told(&reply, 429, "too many requests from this address: 2 are being answered"), "{reply:?}");
    assert_eq!(gate.get(VERSION, &headers("192.0.2.8")).status, 200);
    assert_eq!(gate.get(VERSION, &headers("")).status, 200);
    assert!(first.iter_mut().all(|session| session.reply(false).status == 200));
    eventually("its requests are over", || gate.get(VERSION, &headers("192.0.2.7")).status == 200);
}

/// An upload that has begun and does not go on.
fn begun(site: &Site, gate: &Nodegate, length: usize) -> Session {
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session.send(format!(
        "POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{FORM}{cookie}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\n"
    ));
    session
}

fn small_upload(site: &Site, gate: &Nodegate) -> Reply {
    let body =
        "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\nx\r\n--b--\r\n";
    gate.request("POST", UPLOAD, &(site.cookie("root@pam") + FORM), body.as_bytes())
}

fn spooled(site: &Site) -> usize {
    std::fs::read_dir(site.path("/var/tmp")).unwrap().count()
}

#[test]
fn uploads_are_bounded_in_number() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.uploads=2"]);
    let running = [begun(&site, &gate, 1000), begun(&site, &gate, 1000)];
    eventually("both have begun", || spooled(&site) == 2);
    let reply = small_upload(&site, &gate);
    assert!(is_told(&reply, 503, "2 uploads are running already"), "{reply:?}");
    drop(running);
    eventually("there is a place again", || small_upload(&site, &gate).status == 200);
}

/// All uploads share a limit of bytes; each counts as what it announces.
#[test]
fn uploads_are_bounded_together_and_each() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.upload_bytes_total=1000000"]);
    let running = begun(&site, &gate, 999_990);
    eventually("it has begun", || spooled(&site) == 1);
    let reply = small_upload(&site, &gate);
    assert!(is_told(&reply, 503, "the running uploads hold all of the 1000000 bytes"), "{reply:?}");
    let reply = begun(&site, &gate, 1_000_001).reply(false);
    assert_eq!((reply.status, reply.reason.as_str()), (413, "upload too large: 1000000 bytes are allowed"));
    drop(running);
    eventually("the bytes are free again", || small_upload(&site, &gate).status == 200);
}

#[test]
fn a_chunked_upload_is_bounded_as_it_grows() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["limits.upload_bytes_total=1000000"]);
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session.send(format!(
        "POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{FORM}{cookie}\r\n"
    ));
    let part = "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\n";
    session.send(format!("{:x}\r\n{part}\r\n", part.len()));
    for _ in 0..12 {
        let piece = [b"186a0\r\n".as_slice(), &[b'x'; 100_000], b"\r\n"].concat();
        if session.try_send(piece).is_err() {
            break;
        }
    }
    let _ = session.try_send("0\r\n\r\n");
    let reply = session.reply(false);
    assert_eq!((reply.status, reply.reason.as_str()), (413, "upload too large: 1000000 bytes are allowed"));
    eventually("the spool file is gone", || spooled(&site) == 0);
}

/// How many descriptors it has open.
pub fn descriptors(gate: &Nodegate) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap().count()
}

//! A guess takes a permit of its address from when its body is there until the daemon's verdict, even if its client
//! leaves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nodegate_standin::{API_TOKEN, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{BEHIND_A_PROXY, LOGIN, VERSION, behind_a_proxy, from, login, verified};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site, all_at_once};

const CLIENT: &str = "192.0.2.7";
const NEIGHBOUR: &str = "192.0.2.8";
const THREE: &str = "limits.login_failures=3";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A listener that users log in at.
struct Listener {
    site: Site,
    /// ends with the listener
    gate: Nodegate,
    address: SocketAddr,
    wrong: String,
    right: String,
}

impl Listener {
    fn full(sets: &[&str]) -> Self {
        let site = Site::pve();
        let gate = behind_a_proxy(&site, sets);
        let address = gate.local();
        let [wrong, right] = ["x", "demo"].map(|password| format!("username=root%40pam&password={password}"));
        Self { site, gate, address, wrong, right }
    }

    fn quarantine(sets: &[&str]) -> Self {
        let site = Site::pmg();
        let settings = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
        site.write("/etc/nodegate/pmg.toml", settings);
        let gate = Nodegate::start(&site, &[&BEHIND_A_PROXY, sets].concat());
        let address = gate.listener("public");
        let ticket = site.keys.ticket("PMGQUAR", "user@example.com", now());
        let ticket = utf8_percent_encode(&ticket, NON_ALPHANUMERIC).to_string();
        let form = |password: &str| format!("username=user%40example.com%40quarantine&password={password}");
        let (wrong, right) = (form("x"), form(&ticket));
        Self { site, gate, address, wrong, right }
    }

    fn log_in(&self, client: &str, form: &str) -> Reply {
        let headers = from(client) + FORM;
        Session::tls(self.address).request("POST", LOGIN, &headers, form.as_bytes())
    }

    /// Sends a guess that the daemon takes so long to answer, and waits until the daemon has it.
    fn send(&self, form: &str, milliseconds: u32) -> Session {
        let before = verified(&self.site);
        let mut session = Session::tls(self.address);
        let (client, length) = (from(CLIENT), form.len());
        session.send(format!(
            "POST {LOGIN}?standin-wait={milliseconds} HTTP/1.1\r\nHost: node1\r\n{client}{FORM}\
             Content-Length: {length}\r\n\r\n{form}"
        ));
        eventually("the daemon is asked", || verified(&self.site) > before);
        session
    }
}

fn is_refused(reply: &Reply) -> bool {
    reply.status == 429 && reply.header("retry-after").is_some()
}

/// Logins whose bodies never end leave their neighbours behind the same address every place.
fn dripping_bodies_take_no_place(listener: &Listener) {
    let dripping: Vec<_> = (0..6)
        .map(|_| {
            let mut session = Session::tls(listener.address);
            session.send(format!(
                "POST {LOGIN} HTTP/1.1\r\nHost: node1\r\n{}{FORM}Content-Length: 60\r\n\r\nusername=",
                from(CLIENT)
            ));
            session
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let reply = listener.log_in(CLIENT, &listener.right);
    assert_eq!(reply.status, 200, "after {:?}: {reply:?}", began.elapsed());
    drop(dripping);
}

#[test]
fn dripping_bodies_take_no_slot() {
    dripping_bodies_take_no_place(&Listener::full(&[THREE]));
}

#[test]
fn dripping_bodies_at_the_quarantine_take_none() {
    dripping_bodies_take_no_place(&Listener::quarantine(&[THREE]));
}

/// The client left before the answer.
#[test]
fn a_correct_password_without_client_is_no_failure() {
    let listener = Listener::full(&["limits.login_failures=1"]);
    let session = listener.send(&listener.right, 12_000);
    session.reset();
    eventually("the daemon has answered", || listener.site.daemon.open() == 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(listener.log_in(CLIENT, &listener.right).status, 200);
}

/// By a reset of TCP, by closing it, and by the end of what the client sends.
#[test]
fn leaving_frees_no_slot() {
    let listener = Listener::full(&[THREE]);
    let leave: [fn(Session); 3] = [Session::reset, drop, |mut session| session.finish_tcp()];
    let sessions: Vec<_> = (0..3).map(|_| listener.send(&listener.wrong, 6000)).collect();
    for (session, leave) in sessions.into_iter().zip(leave) {
        leave(session);
    }
    std::thread::sleep(Duration::from_millis(1500));
    let seen = verified(&listener.site);
    let began = Instant::now();
    assert!(is_refused(&listener.log_in(CLIENT, &listener.wrong)));
    assert!(began.elapsed() > Duration::from_secs(2), "the places were free after {:?}", began.elapsed());
    assert_eq!((seen, verified(&listener.site)), (3, 3));
    assert_eq!(listener.log_in(NEIGHBOUR, &listener.right).status, 200);
}

/// A guess goes on when its worker takes no more connections.
#[test]
fn a_guess_outlives_the_retirement_of_its_worker() {
    let site = Site::pve();
    site.write("/etc/nodegate/pve.toml", "workers = 3\n");
    let gate = behind_a_proxy(&site, &["limits.login_failures=3"]);
    let form = "username=root%40pam&password=x";
    let sessions: Vec<_> = (0..3)
        .map(|_| {
            let mut session = gate.connect();
            session.send(format!(
                "POST {LOGIN}?standin-wait=4000 HTTP/1.1\r\nHost: node1\r\n{}{FORM}Content-Length: {}\r\n\r\n{form}",
                from(CLIENT),
                form.len()
            ));
            session
        })
        .collect();
    eventually("the daemon is asked", || verified(&site) == 3);
    site.write("/etc/nodegate/pve.toml", "workers = 1\n");
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    sessions.into_iter().for_each(Session::reset);
    eventually("the daemon has answered", || site.daemon.open() == 0);
    let reply = login(&gate, CLIENT, "root@pam", "demo");
    assert!(is_refused(&reply), "{reply:?}");
}

fn token(secret: usize) -> String {
    from(CLIENT)
        + &format!("Authorization: PVEAPIToken=root@pam!t={secret:08x}-0000-4000-8000-000000000001\r\n")
}

#[test]
fn concurrent_tokens_are_verified_up_to_the_limit() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let refused = AtomicUsize::new(0);
    let cases: Vec<_> = (0..40).collect();
    let path = format!("{VERSION}?standin-wait=1000");
    all_at_once(&cases, |number| {
        let reply = gate.get(&path, &token(*number));
        assert!(matches!(reply.status, 401 | 429), "{reply:?}");
        refused.fetch_add(usize::from(reply.status == 429), Ordering::Relaxed);
    });
    assert_eq!((site.daemon.requests().len(), refused.into_inner()), (3, 37));
}

/// The daemon takes these for calls that need no login, and ignores the token: their answers prove nothing.
#[test]
fn answers_of_open_calls_prove_no_token() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE, "http2=true"]);
    let paths = ["/access/domains", "/access/ticket"].iter().flat_map(|path| {
        let inner = &path[1..];
        [
            format!("{path}/"),
            format!("/{path}"),
            format!("{path}%2F"),
            format!("/{}", inner.replace('/', "//")),
            format!("/{}", inner.replace('/', "/%2F")),
        ]
    });
    let cases: Vec<_> = paths.flat_map(|path| ["GET", "HEAD"].map(|method| (method, path.clone()))).collect();
    let cases: Vec<_> = cases.into_iter().enumerate().collect();
    all_at_once(&cases, |(number, (method, path))| {
        let client = from(&format!("198.51.100.{number}"));
        let authorization = |secret: usize| {
            format!(
                "{client}Authorization: PVEAPIToken=root@pam!t={number:04x}{secret:04x}-0000-4000-8000-1\r\n"
            )
        };
        let path = format!("/api2/json{path}");
        let statuses = |secret: usize| {
            let open = gate.request(method, &path, &authorization(secret), b"").status;
            (open, gate.get(VERSION, &authorization(secret)).status)
        };
        let all: Vec<_> = (0..4).map(statuses).collect();
        let verified = all.iter().filter(|(_, version)| *version == 401).count();
        assert!(verified <= 3 && all[3] == (429, 429), "{method} {path}: {all:?}");
    });
}

/// A script with a revoked token repeats one guess. The daemon verifies it each time, and the answer is late.
#[test]
fn the_same_refused_token_counts_once() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    for number in 0..5 {
        let began = Instant::now();
        assert_eq!(gate.get(VERSION, &token(0)).status, 401, "call {number}");
        assert!(began.elapsed() >= Duration::from_secs(3), "call {number}: {:?}", began.elapsed());
    }
    assert_eq!(site.daemon.requests().len(), 5);
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
    all_at_once(&[1, 2], |number| assert_eq!(gate.get(VERSION, &token(*number)).status, 401));
    assert_eq!(gate.get(VERSION, &token(0)).status, 429);
}

/// An upload asks for the permission before anything else, which is as good a guess as any other call.
#[test]
fn tokens_of_uploads_are_counted() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let upload = |number| {
        let headers = token(number) + "Content-Type: multipart/form-data; boundary=x\r\n";
        let path = "/api2/json/nodes/node1/storage/local/upload";
        gate.request("POST", path, &headers, b"--x--\r\n").status
    };
    let cases: Vec<_> = (0..3).collect();
    all_at_once(&cases, |number| assert_eq!(upload(*number), 401));
    assert_eq!((upload(3), site.daemon.requests().len()), (429, 3));
}

#[test]
fn a_new_valid_token_serves_concurrent_calls() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let cases = [0; 64];
    let path = format!("{VERSION}?standin-wait=500");
    let headers = from(CLIENT) + &format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    all_at_once(&cases, |_| assert_eq!(gate.get(&path, &headers).status, 200));
}

/// A good token whose first calls all fail for other reasons is no guesser.
#[test]
fn errors_of_a_new_token_count_once() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=2"]);
    let headers = from(CLIENT) + &format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    for number in 0..6 {
        let reply = gate.get("/api2/json/nodes/node1/nothing", &headers);
        assert_eq!(reply.status, 501, "call {number}: {reply:?}");
    }
    assert_eq!(gate.get(VERSION, &headers).status, 200);
}

/// Neither a reload nor other tokens make a token that was good a guess again.
#[test]
fn a_revoked_token_fails_after_a_reload() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let good = from(CLIENT) + &format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    assert_eq!(gate.get(VERSION, &good).status, 200);
    all_at_once(&[0, 1, 2], |number| assert_eq!(gate.get(VERSION, &token(*number)).status, 401));
    site.write("/etc/nodegate/pve.toml", "workers = 1\n");
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it has reloaded", || gate.stderr().contains("reloaded"));
    assert_eq!(gate.get(VERSION, &token(4)).status, 429);
    assert_eq!(gate.get(VERSION, &good).status, 200);
}

/// The first call of a token may be an upload: its verdict is that of the check before the file.
#[test]
fn a_new_tokens_upload_holds_no_slot() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let headers = from(CLIENT) + &format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    let mut session = gate.connect();
    session.send(format!(
        "POST /api2/json/nodes/node1/storage/local/upload HTTP/1.1\r\nHost: node1\r\n{headers}\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
    ));
    eventually("the permission is checked", || !site.daemon.requests().is_empty());
    let began = Instant::now();
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A directory service that is slow for all users: no password was wrong.
#[test]
fn a_wait_that_times_out_is_no_guess() {
    let listener = Listener::full(&["limits.login_failures=1", "timeout.answer=90"]);
    let slow = listener.send(&listener.right, 80_000);
    let (mut session, began) = (Session::tls(listener.address), Instant::now());
    let reply = session.request("POST", LOGIN, &(from(CLIENT) + FORM), listener.right.as_bytes());
    assert!(is_refused(&reply) && reply.header("connection") == Some("keep-alive"), "{reply:?}");
    assert!(began.elapsed() >= Duration::from_secs(29), "after {:?}", began.elapsed());
    assert_eq!(session.request("GET", "/api2/json/access/domains", &from(CLIENT), b"").status, 200);
    let log = listener.gate.stderr();
    assert!(!log.contains("authentication failure"), "{log}");
    drop(slow);
}

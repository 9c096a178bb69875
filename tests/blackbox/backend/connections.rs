//! Connections to the daemon: fresh ones by default, kept ones where that is wanted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodegate_standin::{Config, Daemon, Listen};

use super::VERSION;
use crate::support::{Nodegate, Site};

const ECHO: &str = "/api2/json/standin/echo";

#[test]
fn each_request_has_a_connection_of_its_own() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    for method in ["GET", "POST", "GET", "HEAD", "GET"] {
        assert_eq!(session.request(method, ECHO, &headers, b"").status, 200);
        assert_eq!(site.daemon.last().all("connection"), ["close"]);
    }
    assert_eq!(site.daemon.connections(), 5);
}

#[test]
fn only_reads_reuse_kept_connections() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.keepalive=true", "workers=1"]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    let mut connection = |method: &str| {
        assert_eq!(session.request(method, ECHO, &headers, b"").status, 200);
        site.daemon.last().connection
    };
    let first = connection("GET");
    assert_eq!(connection("GET"), first);
    assert_eq!(connection("HEAD"), first);
    let writing: Vec<_> = ["POST", "PUT", "DELETE"].into_iter().map(&mut connection).collect();
    assert!(!writing.contains(&first), "{writing:?}");
    assert_eq!(connection("GET"), first);
    assert_eq!(site.daemon.connections(), 4);
}

fn daemon(site: &Site, listen: Listen) -> Daemon {
    let idle = Duration::from_millis(300);
    Daemon::start(Config { keys: Arc::clone(&site.keys), listen, idle, ..Config::new(site.product) })
}

/// The daemon had closed the kept connection; nodegate sends the read once more.
#[test]
fn a_read_on_a_dead_connection_is_retried() {
    let site = Site::pve();
    let own = daemon(&site, Listen::Free);
    let address = own.address().parse().unwrap();
    let backend = format!("backend.address={}", own.address());
    let gate = Nodegate::start(&site, &[&backend, "backend.keepalive=true", "workers=1"]);
    let cookie = site.cookie("root@pam");
    assert_eq!(gate.get(ECHO, &cookie).status, 200);
    drop(own);
    let own = daemon(&site, Listen::Address(address));
    assert_eq!(gate.get(ECHO, &cookie).status, 200);
    // The daemon closes when idle; the time of that is up to it.
    for pause in [250, 290, 300, 310, 350] {
        std::thread::sleep(Duration::from_millis(pause));
        assert_eq!(gate.get(ECHO, &cookie).status, 200);
    }
    own.clear();
    assert_eq!(gate.get("/api2/json/standin/close", &cookie).status, 596);
    let sent = own.requests().len();
    assert!(sent <= 2, "sent {sent} times");
    own.clear();
    let headers = cookie + &site.csrf("root@pam");
    assert_eq!(gate.request("POST", "/api2/json/standin/close", &headers, b"a=1").status, 596);
    assert_eq!(own.requests().len(), 1);
}

#[test]
fn the_daemon_may_listen_on_a_unix_socket() {
    let site = Site::pve();
    let path: PathBuf = site.path("/run/daemon.sock");
    let own = daemon(&site, Listen::Unix(path));
    let gate = Nodegate::start(&site, &["backend.address=unix:/run/daemon.sock"]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    assert_eq!(gate.get(VERSION, &headers).status, 200);
    assert_eq!(gate.request("PUT", ECHO, &headers, b"a=1").status, 200);
    assert_eq!(own.last().body, b"a=1");
    assert_eq!(own.last().all("host"), ["node1:8006"]);
}

#[test]
fn a_slow_call_holds_up_no_other() {
    let site = Site::pve();
    let cookie = site.cookie("root@pam");
    for keepalive in ["false", "true"] {
        let sets = [&format!("backend.keepalive={keepalive}"), "workers=1"];
        let gate = Nodegate::start(&site, &sets);
        let mut slow = gate.connect();
        slow.send(format!("GET /api2/json/standin/slow?ms=30000 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        let before = Instant::now();
        for _ in 0..5 {
            assert_eq!(gate.get(VERSION, &cookie).status, 200);
        }
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    }
}

#[test]
fn a_client_that_leaves_ends_its_call() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=1"]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    session.send(format!("GET /api2/json/standin/slow?ms=500 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    drop(session);
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
}

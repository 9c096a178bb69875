//! Calls that take long: how long each kind may, and what ends the wait before.

use std::process::Command;
use std::time::{Duration, Instant};

use nodegate_standin::{API_TOKEN, Config, Daemon, Product, content};

use crate::cluster::machines::Cluster;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site, all_at_once};

/// Needs no root; the products answer it in their proxy.
const STATISTICS: &str = "/api2/json/statistics/mail?standin-wait=2500";
const UNTABLED: &str = "/api2/json/newer/than/the/table?standin-wait=2500";
const WITH_ROOT: &str = "/api2/json/nodes/node1/journal?standin-wait=2500";
const HANG: &str = "/api2/json/standin/hang";

#[test]
fn calls_without_root_may_take_longer_than_others() {
    let site = Site::pmg();
    let other = Daemon::start(Config { keys: site.keys.clone(), ..Config::new(Product::Pmg) });
    let unprivileged = format!("backend.unprivileged={}", other.address());
    for sets in [&["timeout.answer=1"][..], &["timeout.answer=1", &unprivileged]] {
        let gate = Nodegate::start(&site, sets);
        let cookie = site.cookie("root@pam");
        all_at_once(&[(STATISTICS, 200), (UNTABLED, 501), (WITH_ROOT, 596)], |(path, status)| {
            let started = Instant::now();
            let reply = gate.get(path, &cookie);
            assert_eq!(reply.status, *status, "{path} {sets:?}: {}", reply.text());
            assert_eq!(*status == 596, started.elapsed() < Duration::from_millis(2500), "{path}");
        });
    }
    let gate = Nodegate::start(&site, &["timeout.answer_unprivileged=1"]);
    let cookie = site.cookie("root@pam");
    all_at_once(&[(STATISTICS, 596), (WITH_ROOT, 200)], |(path, status)| {
        assert_eq!(gate.get(path, &cookie).status, *status, "{path}");
    });
}

/// The 30 s that hold for other calls end none of these by default.
#[test]
fn curl_waits_33_seconds_for_statistics() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let url = format!("https://{}/api2/json/statistics/mail?standin-wait=33000", gate.local());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--insecure", "--fail", "--max-time", "120"]);
    let got = curl.args(["-H", site.cookie("root@pam").trim_end(), &url]).output().unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(got.stdout, br#"{"data":[]}"#);
}

/// A slow API call does not get its longer timeout on another node.
#[test]
fn another_node_has_the_short_timeout() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &["timeout.answer=1"]);
    let _second = cluster.start(2, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    let started = Instant::now();
    let reply = first.get("/api2/json/nodes/node2/status?standin-wait=20000", &cookie);
    assert_eq!(reply.status, 596);
    assert!(started.elapsed() < Duration::from_secs(10));
    // That node's nodegate would wait for ten minutes: it learns that its client has gone.
    let log = || cluster.nodes[1].site.access_log();
    eventually("the second node gives up", || log().contains("\" 499 "));
}

#[test]
fn pauses_may_last_as_long_as_calls() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.answer=1"]);
    let reply = gate.get("/api2/json/standin/drip?pieces=3&ms=1500", &site.cookie("root@pam"));
    assert!(reply.body == content(10).repeat(3), "{}", reply.text());
}

/// A long call begun on a separate connection.
fn begin(gate: &Nodegate, site: &Site, path: &str) -> Session {
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session.send(format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    eventually("the daemon is asked", || site.daemon.open() == 1);
    session
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    // Before an answer, within one that is held, and within one that is passed on.
    for (path, status) in [
        (HANG, 499),
        ("/api2/json/standin/head-only-then-hang?size=1000", 499),
        ("/api2/json/standin/head-only-then-hang?size=1000000", 200),
    ] {
        drop(begin(&gate, &site, path));
        let left = Instant::now();
        eventually("the daemon's connection ends", || site.daemon.open() == 0);
        assert!(left.elapsed() < Duration::from_secs(15), "{path}");
        let line = format!("GET {path} HTTP/1.1\" {status} ");
        eventually("it is logged", || site.access_log().contains(&line));
    }
}

/// A process that is killed ends its TCP stream without a word of TLS.
#[test]
fn a_tcp_end_ends_the_wait() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = begin(&gate, &site, HANG);
    session.finish_tcp();
    let left = Instant::now();
    eventually("the daemon's connection ends", || site.daemon.open() == 0);
    assert!(left.elapsed() < Duration::from_secs(15), "{:?}", left.elapsed());
    let line = format!("GET {HANG} HTTP/1.1\" 499 ");
    eventually("it is logged", || site.access_log().contains(&line));
}

#[test]
fn a_half_closed_client_gets_its_long_response() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = begin(&gate, &site, "/api2/json/cluster/options?standin-wait=4000");
    session.finish();
    assert_eq!(session.reply(false).status, 200);
    // Without TLS the end of sending looks the same as that of the connection.
    site.write(
        "/etc/nodegate/pve.toml",
        "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\n",
    );
    let gate = Nodegate::start(&site, &[]);
    let mut session = Session::plain(gate.listener("clear"));
    let cookie = site.cookie("root@pam");
    session.send(format!(
        "GET /api2/json/cluster/options?standin-wait=4000 HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"
    ));
    session.finish();
    assert_eq!(session.reply(false).status, 200);
}

/// Whether an API token is good is found out first, so that guesses are counted.
#[test]
fn a_leaving_token_waits_for_the_verdict() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"]);
    let mut session = gate.connect();
    let token = format!("Authorization: PVEAPIToken={API_TOKEN}\r\nX-Real-IP: 192.0.2.9\r\n");
    session.send(format!("GET {HANG} HTTP/1.1\r\nHost: node1\r\n{token}\r\n"));
    eventually("the daemon is asked", || site.daemon.open() == 1);
    session.reset();
    // nodegate waits 30 s for a verdict. A daemon takes 3 s to refuse, and longer when it is busy.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(site.daemon.open(), 1);
    eventually("the daemon's connection ends", || site.daemon.open() == 0);
}

/// The other client that sent the same call still waits.
#[test]
fn a_leader_that_leaves_is_replaced() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.coalesce=1"]);
    let path = "/api2/json/cluster/resources?standin-wait=4000";
    let first = begin(&gate, &site, path);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| gate.get(path, &site.cookie("root@pam")).status);
        std::thread::sleep(Duration::from_millis(500));
        first.reset();
        assert_eq!(second.join().unwrap(), 200);
    });
}

//! The same call asked several times at once.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use nodegate_standin::content;

use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Reply, Session, Site};

/// The built-in profile, with calls of the stand-in that take their time among those that are shared.
fn profile(site: &Site) -> String {
    let text = nodegate::testing::config::built_in_profile("pve").unwrap();
    let (before, after) = text.split_once("coalesce = [").unwrap();
    site.write("/own.toml", format!("{before}coalesce = [\"GET /standin/{{call}}\", {after}"));
    site.path("/own.toml").to_str().unwrap().to_owned()
}

fn start(site: &Site, sets: &[&str]) -> Nodegate {
    Nodegate::start_profile(site, &profile(site), &[&["backend.coalesce=true"], sets].concat())
}

/// Sends all requests at the same time, each on a separate connection.
fn ask(gate: &Nodegate, requests: &[(&str, String)]) -> Vec<Reply> {
    let barrier = Arc::new(Barrier::new(requests.len()));
    std::thread::scope(|scope| {
        let asking: Vec<_> = requests
            .iter()
            .map(|(path, headers)| {
                let (barrier, mut session) = (Arc::clone(&barrier), gate.connect());
                scope.spawn(move || {
                    barrier.wait();
                    session.request("GET", path, headers, b"")
                })
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const SLOW: &str = "/api2/json/standin/slow?ms=1500";

/// Several workers get the same call of the same client; the daemon sees one.
#[test]
fn all_workers_share_a_clients_call() {
    let site = Site::pve();
    let port = free_port();
    let gate = start(&site, &["workers=3", &format!("metrics.listen=127.0.0.1:{port}")]);
    let cookie = site.cookie("root@pam");
    let replies = ask(&gate, &vec![(SLOW, cookie.clone()); 30]);
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == replies[0].text()));
    assert_eq!(site.daemon.requests().len(), 1);
    let lines = || site.access_log().matches("\"GET /api2/json/standin/slow?ms=1500 HTTP/1.1\" 200").count();
    eventually("each request has its line", || lines() == 30);
    assert_eq!(gate.get(SLOW, &cookie).status, 200);
    assert_eq!(site.daemon.requests().len(), 2, "nothing is kept");
    let metrics = Session::plain(([127, 0, 0, 1], port).into()).request("GET", "/metrics", "", b"").text();
    assert!(metrics.contains("\nnodegate_requests_coalesced_total 29\n"), "{metrics}");
}

#[test]
fn different_calls_are_sent_separately() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let other = site.keys.ticket("PVE", "root@pam", nodegate_standin::now() - 60);
    let requests = [
        (SLOW, cookie.clone()),
        (SLOW, cookie.clone()),
        ("/api2/extjs/standin/slow?ms=1500", cookie.clone()),
        ("/api2/json/standin/slow?ms=1501", cookie.clone()),
        (SLOW, site.cookie("bob@pve")),
        (SLOW, format!("Cookie: PVEAuthCookie={other}\r\n")),
        (SLOW, format!("{cookie}Accept-Encoding: gzip\r\n")),
        ("/api2/json/other/standin/slow?ms=1500", cookie.clone()),
        ("/api2/json/other/standin/slow?ms=1500", cookie.clone()),
    ];
    let replies = ask(&gate, &requests);
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(site.daemon.requests().len(), requests.len() - 1);
    // A CSRF token is another in each window, and no reading call needs it.
    site.daemon.clear();
    let requests = [(SLOW, format!("{cookie}{}", site.csrf("root@pam"))), (SLOW, cookie)];
    ask(&gate, &requests);
    assert_eq!(site.daemon.requests().len(), 1);
}

#[test]
fn sharing_is_off_by_default() {
    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, &profile(&site), &[]);
    ask(&gate, &vec![(SLOW, site.cookie("root@pam")); 3]);
    assert_eq!(site.daemon.requests().len(), 3);
}

#[test]
fn errors_are_shared_and_large_answers_are_not() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.answer_unprivileged=2"]);
    let cookie = site.cookie("root@pam");
    for reply in ask(&gate, &vec![("/api2/json/standin/hang", cookie.clone()); 5]) {
        assert_eq!(reply.status, 596);
    }
    assert_eq!(site.daemon.requests().len(), 1);
    let large = vec![("/api2/json/standin/big?size=2000000", cookie.clone()); 5];
    for reply in ask(&gate, &large) {
        assert!(reply.body == content(2_000_000));
    }
    for reply in ask(&gate, &vec![("/api2/json/standin/big?size=260000", cookie); 5]) {
        assert!(reply.body == content(260_000));
    }
}

#[test]
fn a_leaving_client_ends_no_shared_call() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut first = gate.connect();
    first.send(format!("GET {SLOW} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n"));
    eventually("the daemon is asked", || site.daemon.requests().len() == 1);
    let headers = format!("Host: localhost\r\n{cookie}");
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..5)
            .map(|_| {
                let mut session = gate.connect();
                session.send(format!("GET {SLOW} HTTP/1.1\r\n{headers}\r\n"));
                scope.spawn(move || session.reply(false))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        drop(first);
        for other in others {
            assert_eq!(other.join().unwrap().status, 200);
        }
    });
    assert!(site.daemon.requests().len() <= 2, "{}", site.daemon.requests().len());
}

/// The statement of `docs/performance.md` on fifty windows, ten times as fast.
#[test]
fn fifty_windows_share_their_calls() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let path = "/api2/json/standin/slow?ms=100";
    let cookie = site.cookie("root@pam");
    std::thread::scope(|scope| {
        for window in 0..50 {
            let (mut session, cookie) = (gate.connect(), &cookie);
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(12 * window));
                for _ in 0..5 {
                    assert_eq!(session.request("GET", path, cookie, b"").status, 200);
                    std::thread::sleep(Duration::from_millis(500));
                }
            });
        }
    });
    let calls = site.daemon.requests().len();
    println!("250 requests cost {calls} calls");
    assert!(calls < 125, "{calls}");
}

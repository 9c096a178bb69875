//! Clients take turns, slow calls leave a worker to the others, and requests without a client leave the queue.

use std::time::{Duration, Instant};

use super::{BEHIND_A_PROXY, CONFIG, Sent, call, connections, counts, place, site};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const DEAD: &str = "/api2/json/nodes/node1/storage/dead/content";
const REALMS: &str = "/api2/json/access/domains";
const LOGIN: &str = "/api2/json/access/ticket";
const WORKERS: usize = 3;
const CALL: Duration = Duration::from_millis(50);
/// Requests that a machine in trouble may pass on between two steps of a test.
const SLACK: usize = 15;

/// `count` calls of one user that wait for each other.
fn script(site: &Site, gate: &Nodegate, user: &str, count: usize) -> Vec<Sent> {
    let cookie = site.cookie(user);
    let sessions = connections(gate, count);
    let sent = sessions.into_iter().zip(0..);
    let sent: Vec<_> =
        sent.map(|(session, number)| Sent::get(session, CONFIG, &cookie, (CALL, number))).collect();
    eventually("the workers are busy", || site.daemon.requests().len() >= WORKERS);
    sent
}

fn all_succeed(sent: Vec<Sent>) {
    for Sent { mut session, number } in sent {
        let reply = session.reply(false);
        assert_eq!(reply.status, 200, "number {number}: {}", reply.text());
    }
}

/// The daemon never has more calls than workers.
#[test]
fn a_script_lets_others_go_first() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &[]);
    let mut window = gate.connect();
    let sent = script(&site, &gate, "script@pve", 64);
    let before = site.daemon.requests().len();
    let path = call("/api2/json/version", Duration::ZERO, 1000);
    assert_eq!(window.request("GET", &path, &site.cookie("root@pam"), b"").status, 200);
    let order = site.daemon.requests();
    let overtaken = place(&order, 1000) - before;
    assert!(overtaken <= SLACK, "{overtaken} calls of the script went first");
    all_succeed(sent);
    assert_eq!(site.daemon.most_at_once(), WORKERS);
}

/// With `backend.workers=0` the daemon gets all, in the order of their arrival.
#[test]
fn without_limit_all_requests_go_to_the_daemon() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &["backend.workers=0"]);
    let sent = script(&site, &gate, "script@pve", 40);
    eventually("it has them all", || site.daemon.requests().len() == 40);
    assert!(site.daemon.most_at_once() > WORKERS, "{}", site.daemon.most_at_once());
    all_succeed(sent);
}

/// Also the same user from another address.
#[test]
fn one_user_at_two_addresses_is_two_clients() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &BEHIND_A_PROXY);
    let cookie = site.cookie("root@pam");
    let mut window = gate.connect();
    let sent = script(&site, &gate, "root@pam", 64);
    let before = site.daemon.requests().len();
    let path = call("/api2/json/version", Duration::ZERO, 1000);
    let headers = format!("{cookie}X-Real-IP: 192.0.2.9\r\n");
    assert_eq!(window.request("GET", &path, &headers, b"").status, 200);
    let overtaken = place(&site.daemon.requests(), 1000) - before;
    assert!(overtaken <= SLACK, "{overtaken} calls of the other address went first");
    all_succeed(sent);
}

/// Once it is known to be slow; before that, three calls hold the workers for as long as they take.
#[test]
fn a_dead_storage_leaves_a_worker_free() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("script@pve");
    let dead = |time: u64| {
        let sessions = connections(&gate, 4).into_iter().zip(0..);
        let time = Duration::from_millis(time);
        sessions
            .map(|(session, number)| Sent::get(session, DEAD, &cookie, (time, number)))
            .collect::<Vec<_>>()
    };
    all_succeed(dead(1500));
    site.daemon.clear();
    let mut hanging = dead(4000);
    eventually("two of them run", || site.daemon.requests().len() == WORKERS - 1);
    let mut window = gate.connect();
    for _ in 0..20 {
        let reply = window.request("GET", "/api2/json/version", &site.cookie("root@pam"), b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(hanging.iter_mut().all(|sent| !sent.session.has_reply()), "the window waited for a dead call");
    let running = counts(&site.daemon.requests()).len();
    assert_eq!(running, WORKERS - 1, "slow calls hold all workers but one");
    all_succeed(hanging);
    assert!(site.daemon.most_at_once() <= WORKERS);
}

/// The learned cost is that of the storage: a few quick answers lower it.
#[test]
fn a_returning_storage_gets_all_workers_again() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("script@pve");
    let send = |count: usize, time: u64| {
        let sessions = connections(&gate, count).into_iter().zip(0..);
        let time = Duration::from_millis(time);
        sessions
            .map(|(session, number)| Sent::get(session, DEAD, &cookie, (time, number)))
            .collect::<Vec<_>>()
    };
    all_succeed(send(4, 1500));
    for _ in 0..10 {
        all_succeed(send(1, 0));
    }
    site.daemon.clear();
    let started = send(WORKERS, 1000);
    eventually("all three run", || site.daemon.requests().len() == WORKERS);
    all_succeed(started);
    assert_eq!(site.daemon.most_at_once(), WORKERS);
}

#[test]
fn clients_that_leave_the_queue_cost_nothing() {
    let site = site(WORKERS);
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("script@pve");
    let send = |count, time| {
        let sessions = connections(&gate, count).into_iter().zip(0..);
        sessions
            .map(|(session, number)| Sent::get(session, CONFIG, &cookie, (time, number)))
            .collect::<Vec<_>>()
    };
    let first = send(WORKERS, Duration::from_secs(10));
    eventually("the workers are busy", || site.daemon.requests().len() == WORKERS);
    for sent in send(50, Duration::from_secs(20)) {
        sent.session.reset();
    }
    // nodegate looks once a second whether a client has left.
    eventually("they are logged", || site.access_log().matches("\" 499 ").count() == 50);
    all_succeed(first);
    let begun = Instant::now();
    assert_eq!(gate.get("/api2/json/version", &cookie).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for a client that has left");
    assert_eq!(site.daemon.requests().len(), WORKERS + 1);
}

/// Logins without credentials are one client for each address.
#[test]
fn a_login_flood_delays_only_its_address() {
    let site = site(WORKERS);
    let sets = [&BEHIND_A_PROXY[..], &["limits.login_failures=0"]].concat();
    let gate = Nodegate::start(&site, &sets);
    let form = |user: &str, password: &str| format!("username={user}&password={password}");
    let login = |address: &str, number: usize, form: &str| {
        let (path, length) = (call(LOGIN, CALL, number), form.len());
        format!(
            "POST {path} HTTP/1.1\r\nHost: node1:8006\r\nX-Real-IP: {address}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        )
    };
    let mut other = gate.connect();
    let mut flood = connections(&gate, 100);
    for (session, number) in flood.iter_mut().zip(0..) {
        session.send(login("192.0.2.7", number, &form("root@pam", "guess")));
    }
    eventually("the workers are busy", || site.daemon.requests().len() >= WORKERS);
    let before = site.daemon.requests().len();
    other.send(login("192.0.2.8", 1000, &form("bob@pve", "demo")));
    let reply = other.reply(false);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let overtaken = place(&site.daemon.requests(), 1000) - before;
    assert!(overtaken <= SLACK, "{overtaken} logins of the flood went first");
    for session in &mut flood {
        let status = session.reply(false).status;
        assert!(matches!(status, 401 | 429 | 503), "{status}");
    }
}

/// Each has one request; a client with 200 of them does not hold them up.
#[test]
fn a_thousand_clients_are_served_in_turn() {
    const CLIENTS: usize = 1000;
    const OTHERS: usize = 200;
    let site = site(WORKERS);
    // Clients without a login fill half of the queue.
    let queue = format!("backend.queue={}", 2 * (CLIENTS + OTHERS));
    // The first connections wait until all are open.
    let times = ["timeout.header=120", "timeout.queue=120", "timeout.answer=120", &queue];
    let sets = [&BEHIND_A_PROXY[..], &times].concat();
    let gate = Nodegate::start(&site, &sets);
    let (mut sessions, time) = (connections(&gate, CLIENTS + OTHERS), Duration::from_millis(20));
    let own = sessions.split_off(OTHERS);
    let mut sent: Vec<_> = (CLIENTS..)
        .zip(sessions)
        .map(|(number, session)| Sent::get(session, REALMS, "X-Real-IP: 192.0.2.7\r\n", (time, number)))
        .collect();
    eventually("the workers are busy", || site.daemon.requests().len() >= WORKERS);
    let before = site.daemon.requests().len();
    sent.extend((0..).zip(own).map(|(number, session)| {
        let header = format!("X-Real-IP: 10.0.{}.{}\r\n", number / 250, number % 250 + 1);
        Sent::get(session, REALMS, &header, (time, number))
    }));
    all_succeed(sent);
    let order = site.daemon.requests();
    assert_eq!(order.len(), CLIENTS + OTHERS);
    let last = (0..CLIENTS).map(|number| place(&order, number)).max().unwrap();
    let ahead = last + 1 - before - CLIENTS;
    assert!(ahead <= OTHERS / 4, "{ahead} requests of one client went before the last of the others");
    assert_eq!(site.daemon.most_at_once(), WORKERS);
}

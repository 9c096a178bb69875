//! The daemon is killed, the settings are reloaded, the binary is replaced, while 500 requests wait.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nodegate_standin::{Listen, Recorded};

use super::held::{Queues, head, held};
use super::{CONFIG, Sent, connections, counts, daemon, number, site};
use crate::reload::reload;
use crate::reload::upgrade::Installed;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site};

const WAITING: usize = 500;
const USERS: usize = 10;
const WORKERS: usize = 3;
const CALL: Duration = Duration::from_millis(20);
const SETTINGS: &str = "/etc/nodegate/pve.toml";
/// Generous: the last of 500 waits for four seconds on a quiet machine, and the first until all are connected.
const TIMES: &str = "[timeout]\nheader = 120\nqueue = 120\nanswer = 120\n";

/// 500 requests of ten users, all sent, the daemon's workers busy.
fn send(site: &Site, gate: &Nodegate) -> Vec<Sent> {
    let cookies: Vec<_> = (0..USERS).map(|user| site.cookie(&format!("user{user}@pve"))).collect();
    let sent = connections(gate, WAITING)
        .into_iter()
        .zip(0..)
        .map(|(session, number)| Sent::get(session, CONFIG, &cookies[number % USERS], (CALL, number)));
    let sent = sent.collect();
    eventually("the workers are busy", || site.daemon.requests().len() >= WORKERS);
    sent
}

/// Every answer, with the number of its request. `Session` panics if one hangs.
fn receive(sent: Vec<Sent>) -> Vec<(usize, Reply)> {
    let receive = |mut sent: Sent| (sent.number, sent.session.reply(false));
    sent.into_iter().map(receive).collect()
}

/// No number came twice, and each that was answered with 200 came.
fn each_was_sent_once(replies: &[(usize, Reply)], requests: &[Recorded]) {
    let counts = counts(requests);
    assert!(counts.values().all(|count| *count == 1), "the daemon got a request twice");
    for (number, reply) in replies {
        assert!(reply.status != 200 || counts.contains_key(number), "number {number} was not sent");
    }
}

fn count(replies: &[(usize, Reply)], status: u16) -> usize {
    replies.iter().filter(|(_, reply)| reply.status == status).count()
}

fn says_why(replies: &[(usize, Reply)]) {
    for (number, reply) in replies.iter().filter(|(_, reply)| reply.status != 200) {
        assert!(matches!(reply.status, 503 | 595 | 596), "number {number}: {reply:?}");
        let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.len() > 10, "number {number}: {reply:?}");
    }
}

#[test]
fn a_restarted_daemon_serves_those_that_wait() {
    let mut site = site(WORKERS);
    site.write(SETTINGS, TIMES);
    let gate = Nodegate::start(&site, &[]);
    let sent = send(&site, &gate);
    let address = site.daemon.address().parse().unwrap();
    let spare = daemon(&site, WORKERS, Listen::Free);
    let mut requests = std::mem::replace(&mut site.daemon, spare).stop();
    site.daemon = daemon(&site, WORKERS, Listen::Address(address));
    let replies = receive(sent);
    requests.extend(site.daemon.requests());
    says_why(&replies);
    each_was_sent_once(&replies, &requests);
    assert!(count(&replies, 200) > WORKERS, "{} got an answer", count(&replies, 200));
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
    assert_eq!(site.daemon.most_at_once(), WORKERS);
}

#[test]
fn without_a_daemon_those_that_wait_get_595() {
    let mut site = site(WORKERS);
    site.write(SETTINGS, TIMES);
    let gate = Nodegate::start(&site, &[]);
    let sent = send(&site, &gate);
    let spare = daemon(&site, WORKERS, Listen::Free);
    let requests = std::mem::replace(&mut site.daemon, spare).stop();
    let replies = receive(sent);
    says_why(&replies);
    each_was_sent_once(&replies, &requests);
    let (good, broken) = (count(&replies, 200), count(&replies, 596));
    assert!(good + broken <= requests.len(), "{good} of {} and {broken}", requests.len());
    assert_eq!(count(&replies, 595), WAITING - good - broken);
}

/// The new number of workers applies to those that wait.
#[test]
fn a_reload_keeps_those_that_wait() {
    let site = site(0);
    site.write(SETTINGS, format!("[backend]\nworkers = {WORKERS}\n{TIMES}"));
    let gate = Nodegate::start(&site, &[]);
    let sent = send(&site, &gate);
    eventually("all workers are busy", || site.daemon.most_at_once() == WORKERS);
    site.write(SETTINGS, format!("[backend]\nworkers = {}\n{TIMES}", WORKERS + 2));
    reload(&gate, "reloaded changed=\"backend.workers\"");
    assert!(site.daemon.requests().len() < WAITING, "no request was left to wait");
    let replies = receive(sent);
    assert_eq!(count(&replies, 200), WAITING, "{:?}", replies.iter().find(|(_, reply)| reply.status != 200));
    each_was_sent_once(&replies, &site.daemon.requests());
    assert_eq!(site.daemon.most_at_once(), WORKERS + 2);
}

/// Without a limit all are sent at once. With a limit again, the calls that come wait until those have their answers.
#[test]
fn reloads_without_and_with_limit_lose_none() {
    const CALLS: usize = 200;
    let (site, queues) = (site(0), Queues::new());
    let limit = |workers: usize| {
        site.write(SETTINGS, format!("[backend]\nworkers = {workers}\n{TIMES}"));
    };
    limit(WORKERS);
    let gate = Nodegate::start(&site, &[&queues.setting()]);
    let begin = |(number, mut session): (usize, Session), hold: &str| {
        let cookie = site.cookie(&format!("user{}@pve", number % USERS));
        session.send(head(&held(CONFIG, hold, number), &cookie));
        Sent { session, number }
    };
    let sessions = (0..).zip(connections(&gate, CALLS));
    let mut sent: Vec<_> = sessions.map(|session| begin(session, "first")).collect();
    queues.wait_until_waiting(CALLS - WORKERS);
    limit(0);
    reload(&gate, "reloaded changed=\"backend.workers\"");
    eventually("the daemon has them all", || site.daemon.requests().len() == CALLS);
    limit(1);
    reload(&gate, "reloaded changed=\"backend.workers\"");
    let sessions = (CALLS..).zip(connections(&gate, CALLS));
    sent.extend(sessions.map(|session| begin(session, "second")));
    queues.wait_until_waiting(CALLS);
    site.daemon.release("first");
    eventually("the next one begins", || site.daemon.requests().len() == CALLS + 1);
    assert_eq!(queues.sample("workers_busy"), 1);
    site.daemon.release("second");
    let replies = receive(sent);
    assert_eq!(
        count(&replies, 200),
        2 * CALLS,
        "{:?}",
        replies.iter().find(|(_, reply)| reply.status != 200)
    );
    each_was_sent_once(&replies, &site.daemon.requests());
    queues.wait_until_idle();
}

/// Both processes together send the daemon no more than it has workers, and the new one's clients do not wait for
/// all of the old one's.
#[test]
fn a_new_binary_keeps_those_that_wait() {
    let site = site(0);
    site.write(SETTINGS, TIMES);
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let sent = send(&site, &gate);
    installed.replace();
    reload(&gate, "the successor serves");
    let successor = installed.successor(&gate);
    assert!(site.daemon.requests().len() < WAITING, "no request was left to wait");
    let path = super::call("/api2/json/version", Duration::ZERO, WAITING);
    assert_eq!(gate.get(&path, &site.cookie("root@pam")).status, 200);
    let at_first = site.daemon.requests();
    assert!(at_first.iter().any(|request| number(request) == Some(WAITING)));
    assert!(at_first.len() <= WAITING, "the new client was served last");
    let replies = receive(sent);
    assert_eq!(count(&replies, 200), WAITING, "{:?}", replies.iter().find(|(_, reply)| reply.status != 200));
    each_was_sent_once(&replies, &site.daemon.requests());
    assert_eq!(site.daemon.most_at_once(), WORKERS);
    assert!(gate.wait().success());
    kill(successor, Signal::SIGTERM).unwrap();
}

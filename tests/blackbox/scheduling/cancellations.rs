//! Clients that leave while their calls wait, again and again.

use super::held::{Queues, begin, held, occupy};
use super::{number, site};
use crate::http2::wire::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Wire, request};
use crate::status::report;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const START: &str = "/api2/json/nodes/node1/qemu/100/status/start";
const VERSION: &str = "/api2/json/version";
const WORKERS: usize = 2;
/// No call is slow, however busy the machine is: slow calls would not get the last worker.
const SETS: [&str; 2] = ["backend.workers=2", "backend.slow_call=60"];
const ROUNDS: usize = 5;
/// Requests that a connection may have at once.
const STREAMS: u32 = 8;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn logged(site: &Site) -> usize {
    site.access_log().matches("\" 499 ").count()
}

/// The queue is empty, the workers are free, and both still take calls.
fn nothing_is_left(site: &Site, gate: &Nodegate, queues: &Queues) {
    queues.wait_until_idle();
    let report = report(site, gate, "pve");
    let daemon = report["upstreams"].as_array().unwrap().iter().find(|it| it["name"] == "daemon").unwrap();
    assert_eq!((&daemon["queue"]["busy"], &daemon["queue"]["waiting"]), (&0.into(), &0.into()), "{daemon}");
    let calls = occupy_again(site, gate);
    assert_eq!(queues.sample("workers_busy"), WORKERS);
    site.daemon.release("again");
    for mut call in calls {
        assert_eq!(call.reply(false).status, 200);
    }
    queues.wait_until_idle();
}

fn occupy_again(site: &Site, gate: &Nodegate) -> Vec<Session> {
    const NUMBER: usize = 20_000;
    let path = held(VERSION, "again", NUMBER);
    let calls = (0..WORKERS).map(|_| begin(gate, &path, &site.cookie("root@pam"))).collect();
    // The daemon may only now see calls whose clients have left.
    let came = || site.daemon.requests().iter().filter(|request| number(request) == Some(NUMBER)).count();
    eventually("every worker has a call", || came() == WORKERS);
    calls
}

/// Reads and writes; the client resets each stream while it waits.
#[test]
fn reset_streams_leave_no_worker_behind() {
    let (site, queues) = (site(0), Queues::new());
    let gate = Nodegate::start(&site, &[&SETS[..], &["http2=true", &queues.setting()]].concat());
    let busy = occupy(&gate, &site, WORKERS);
    let value = |line: String| line.trim_end().split_once(": ").unwrap().1.to_owned();
    let (cookie, csrf) = (value(site.cookie("script@pve")), value(site.csrf("script@pve")));
    let headers = [("cookie", cookie.as_str()), ("csrfpreventiontoken", csrf.as_str())];
    for round in 0..ROUNDS {
        let mut wire = Wire::connect(&gate, &[]);
        for number in 0..STREAMS {
            let (method, path) = if number % 2 == 0 { ("GET", VERSION) } else { ("POST", START) };
            wire.frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &request(method, path, &headers));
        }
        queues.wait_until_waiting(8);
        for number in 0..STREAMS {
            wire.frame(RST_STREAM, 0, number * 2 + 1, &CANCEL);
        }
        queues.wait_until_waiting(0);
        eventually("each has its line", || logged(&site) == (round + 1) * 8);
    }
    assert_eq!(site.daemon.requests().len(), WORKERS, "the daemon got a call whose client had left");
    site.daemon.release("busy");
    for mut session in busy {
        assert_eq!(session.reply(false).status, 200);
    }
    nothing_is_left(&site, &gate, &queues);
}

/// Streams are reset while workers become free, so that some have just got theirs.
#[test]
fn resets_beside_freed_workers_leak_nothing() {
    let (site, queues) = (site(0), Queues::new());
    let gate = Nodegate::start(&site, &[&SETS[..], &["http2=true", &queues.setting()]].concat());
    let cookie = site.cookie("script@pve");
    let value = cookie.trim_end().split_once(": ").unwrap().1;
    for round in 0..ROUNDS * 4 {
        let mut wire = Wire::connect(&gate, &[]);
        let path = format!("{VERSION}?standin-wait={}", round % 3);
        for number in 0..STREAMS {
            wire.get(number * 2 + 1, &path, &[("cookie", value)]);
        }
        for number in 0..STREAMS {
            wire.frame(RST_STREAM, 0, number * 2 + 1, &CANCEL);
        }
        if round % 2 == 0 {
            drop(wire);
        }
    }
    nothing_is_left(&site, &gate, &queues);
}

/// Some close, others reset their connection.
#[test]
fn closed_connections_leave_no_worker_behind() {
    const CLIENTS: usize = 20;
    let (site, queues) = (site(0), Queues::new());
    let gate = Nodegate::start(&site, &[&SETS[..], &[&queues.setting()]].concat());
    let busy = occupy(&gate, &site, WORKERS);
    let cookie = site.cookie("script@pve");
    for round in 0..3 {
        let waiting: Vec<_> = (0..CLIENTS).map(|_| begin(&gate, VERSION, &cookie)).collect();
        queues.wait_until_waiting(CLIENTS);
        for (number, session) in waiting.into_iter().enumerate() {
            if number % 2 == 0 { session.reset() } else { drop(session) }
        }
        queues.wait_until_waiting(0);
        eventually("each has its line", || logged(&site) == (round + 1) * CLIENTS);
    }
    assert_eq!(site.daemon.requests().len(), WORKERS, "the daemon got a call whose client had left");
    site.daemon.release("busy");
    for mut session in busy {
        assert_eq!(session.reply(false).status, 200);
    }
    nothing_is_left(&site, &gate, &queues);
}

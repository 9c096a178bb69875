//! `queued_ms` in the access log: the time that a request waited for a worker.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::held::{Queues, begin, occupy};
use super::site;
use crate::http2::wire::{HEADERS, STATUS_200, Wire};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const TASKS: &str = "/api2/json/cluster/tasks";
const WAIT: Duration = Duration::from_millis(300);

/// The lines of the access log about a path.
fn lines(site: &Site, path: &str) -> Vec<Value> {
    let log = site.access_log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["request"].as_str().is_some_and(|request| request.contains(path))).collect()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// It waited for at least `WAIT`, and since `begun` at most. That time is none of the daemon's.
fn assert_waited(line: &Value, begun: Instant) {
    let queued = line["queued_ms"].as_u64().unwrap_or_else(|| panic!("{line}"));
    assert!((milliseconds(WAIT)..=milliseconds(begun.elapsed())).contains(&queued), "{line}");
    let (latency, upstream) = (line["latency"].as_f64().unwrap(), line["upstream_latency"].as_f64().unwrap());
    let without_queue = latency - Duration::from_millis(queued).as_secs_f64();
    assert!(upstream <= without_queue + 0.002, "{line}");
}

/// Streams of one connection, each with its own time.
#[test]
fn each_http_2_stream_has_its_wait() {
    const STREAMS: u32 = 3;
    let (site, queues) = (site(0), Queues::new());
    let sets = ["http2=true", "backend.workers=1", "log.format=json", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    let cookie = site.cookie("root@pam");
    let value = cookie.trim_end().split_once(": ").unwrap().1;
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, "/api2/json/access/domains", &[("cookie", value)]);
    assert_eq!(wire.wait_for(HEADERS, 1).payload[0], STATUS_200);
    let busy = occupy(&gate, &site, 1);
    let begun = Instant::now();
    for number in 1..=STREAMS {
        wire.get(number * 2 + 1, TASKS, &[("cookie", value)]);
    }
    queues.wait_until_waiting(3);
    std::thread::sleep(WAIT);
    site.daemon.release("busy");
    for _ in 0..STREAMS {
        while wire.next().expect("the connection closed").kind != HEADERS {}
    }
    eventually("all are logged", || lines(&site, TASKS).len() == 3);
    for line in lines(&site, TASKS) {
        assert!(line["request"].as_str().unwrap().ends_with("HTTP/2.0"), "{line}");
        assert_waited(&line, begun);
    }
    eventually("both are logged", || site.access_log().lines().count() == 5);
    for path in ["/access/domains", "/qemu/100/config"] {
        let quick = lines(&site, path).remove(0);
        assert_eq!(quick["queued_ms"], 0, "it found a worker: {quick}");
    }
    drop(busy);
}

/// The call that was sent has the time; the others waited for its answer only.
#[test]
fn a_shared_call_has_one_wait() {
    let (site, queues) = (site(0), Queues::new());
    let sets = ["backend.coalesce=true", "backend.workers=1", "log.format=json", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    let cookie = site.cookie("root@pam");
    let busy = occupy(&gate, &site, 1);
    let begun = Instant::now();
    let mut windows = vec![begin(&gate, TASKS, &cookie)];
    queues.wait_until_waiting(1);
    windows.extend((0..3).map(|_| begin(&gate, TASKS, &cookie)));
    std::thread::sleep(WAIT);
    assert_eq!(queues.sample("requests_waiting"), 1, "a call that is shared waits once");
    site.daemon.release("busy");
    for window in &mut windows {
        assert_eq!(window.reply(false).status, 200);
    }
    eventually("all are logged", || lines(&site, TASKS).len() == 4);
    let (sent, shared): (Vec<_>, Vec<_>) =
        lines(&site, TASKS).into_iter().partition(|line| line["upstream"].is_string());
    assert_eq!((sent.len(), shared.len()), (1, 3));
    assert_waited(&sent[0], begun);
    for line in shared {
        assert!(line["queued_ms"].is_null(), "{line}");
    }
    drop(busy);
}

/// Its client leaves while it waits: the next one takes its own place in the queue.
#[test]
fn a_shared_call_survives_its_first_client() {
    let (site, queues) = (site(0), Queues::new());
    let sets = ["backend.coalesce=true", "backend.workers=1", "log.format=json", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    let cookie = site.cookie("root@pam");
    let busy = occupy(&gate, &site, 1);
    let begun = Instant::now();
    let first = begin(&gate, TASKS, &cookie);
    queues.wait_until_waiting(1);
    let mut second = begin(&gate, TASKS, &cookie);
    std::thread::sleep(WAIT);
    first.reset();
    eventually("its line is there", || lines(&site, TASKS).iter().any(|line| line["status"] == 499));
    queues.wait_until_waiting(1);
    std::thread::sleep(WAIT);
    site.daemon.release("busy");
    assert_eq!(second.reply(false).status, 200);
    let sent = site.daemon.requests().iter().filter(|request| request.path() == TASKS).count();
    assert_eq!(sent, 1, "the daemon got the call of the client that had left");
    eventually("both are logged", || lines(&site, TASKS).len() == 2);
    let lines = lines(&site, TASKS);
    let (left, answered): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["status"] == 499);
    assert!(left[0]["upstream"].is_null(), "{}", left[0]);
    assert!(left[0]["queued_ms"].as_u64().is_some_and(|queued| queued >= milliseconds(WAIT)), "{}", left[0]);
    assert_waited(answered[0], begun);
    drop(busy);
}

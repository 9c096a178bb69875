//! Requests that wait in nodegate while every worker of the daemon is busy.

use std::time::{Duration, Instant};

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Reply, Session, Site, all_at_once};

const VERSION: &str = "/api2/json/version";
/// A call that the route table has.
const STATUS: &str = "/api2/json/nodes/node1/status";
/// Shorter than a slow call.
const QUICK: &str = "/api2/json/nodes/node1/status?standin-wait=300";

/// A request begun on a connection of its own.
fn begin(gate: &Nodegate, cookie: &str, path: &str) -> Session {
    let mut session = gate.connect();
    session.send(format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    session
}

/// A call that the daemon is working on, and does not end.
fn occupy(gate: &Nodegate, site: &Site, workers: usize) -> Vec<Session> {
    let path = format!("{STATUS}?standin-wait=60000");
    let sessions = (0..workers).map(|_| begin(gate, &site.cookie("busy@pam"), &path)).collect();
    eventually("the daemon works on them", || site.daemon.open() == workers);
    sessions
}

fn asked(site: &Site, path: &str) -> usize {
    site.daemon.requests().iter().filter(|request| request.target.starts_with(path)).count()
}

#[test]
fn a_daemon_gets_no_more_requests_than_workers() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=2", "workers=3"]);
    let started = Instant::now();
    let cookie = site.cookie("root@pam");
    all_at_once(&[(); 6], |()| assert_eq!(gate.get(QUICK, &cookie).status, 200));
    assert_eq!(site.daemon.most_at_once(), 2);
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    let gate = Nodegate::start(&site, &["backend.workers=0"]);
    all_at_once(&[(); 6], |()| assert_eq!(gate.get(QUICK, &cookie).status, 200));
    assert!(site.daemon.most_at_once() > 2, "no limit");
}

fn assert_saturated(reply: &Reply, text: &str) {
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{}", reply.text());
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(text), "{message}");
    assert!(message.contains("GET /nodes/{node}/status"), "the template, and no parameter: {message}");
    assert!(!message.contains("standin-wait"), "{message}");
}

#[test]
fn requests_over_the_queue_get_503() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1", "backend.queue=2"]);
    let _busy = occupy(&gate, &site, 1);
    let [first, second, third] = ["a@pam", "b@pam", "c@pam"].map(|user| site.cookie(user));
    let _waiting = [begin(&gate, &first, VERSION), begin(&gate, &second, VERSION)];
    let mut refused = None;
    eventually("the queue is full", || {
        let mut session = begin(&gate, &third, VERSION);
        std::thread::sleep(Duration::from_millis(100));
        refused = session.has_reply().then(|| session.reply(false));
        refused.is_some()
    });
    assert_saturated(&refused.unwrap(), "too many calls wait");
    let extjs = gate.get("/api2/extjs/version", &third);
    let answer = extjs.json();
    assert_eq!((extjs.status, &answer["success"], &answer["status"]), (200, &0.into(), &503.into()));
    assert_eq!(asked(&site, VERSION), 0);
}

#[test]
fn one_client_cannot_fill_the_queue() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1", "backend.queue_per_client=1"]);
    let busy = occupy(&gate, &site, 1);
    let cookie = site.cookie("greedy@pam");
    let mut waiting = begin(&gate, &cookie, VERSION);
    let mut refused = None;
    eventually("the client's queue is full", || {
        let mut session = begin(&gate, &cookie, VERSION);
        std::thread::sleep(Duration::from_millis(100));
        refused = session.has_reply().then(|| session.reply(false));
        refused.is_some()
    });
    assert_saturated(&refused.unwrap(), "too many calls of this client wait");
    let mut other = begin(&gate, &site.cookie("other@pam"), VERSION);
    drop(busy);
    assert_eq!((waiting.reply(false).status, other.reply(false).status), (200, 200));
}

#[test]
fn a_wait_ends_after_its_timeout() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1", "timeout.queue=1", "timeout.answer=2"]);
    let _busy = occupy(&gate, &site, 1);
    let started = Instant::now();
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_saturated(&reply, "no worker within 1 s");
    let message = reply.json()["message"].to_string();
    assert!(message.contains(&site.daemon.address().to_string()), "{message}");
    assert_eq!(asked(&site, VERSION), 0);
}

/// Two calls of 1.5 s, one after the other: each has its two seconds.
#[test]
fn the_answer_timeout_begins_with_the_sending() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1", "timeout.answer=2"]);
    let cookie = site.cookie("root@pam");
    all_at_once(&[(); 2], |()| {
        let path = "/api2/json/nodes/node1/journal?standin-wait=1500";
        assert_eq!(gate.get(path, &cookie).status, 200);
    });
}

#[test]
fn leaving_the_queue_costs_the_daemon_nothing() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1"]);
    let busy = occupy(&gate, &site, 1);
    let cookie = site.cookie("root@pam");
    let leaving = begin(&gate, &cookie, VERSION);
    // A login runs in a task that outlives its client.
    let mut login = gate.connect();
    let body = "username=root@pam&password=wrong";
    login.send(format!(
        "POST /api2/json/access/ticket HTTP/1.1\r\nHost: node1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    std::thread::sleep(Duration::from_millis(300));
    drop((leaving, login));
    eventually("both are logged", || site.access_log().matches(" 499 ").count() == 2);
    drop(busy);
    assert_eq!(gate.get("/api2/json/cluster/tasks", &cookie).status, 200);
    assert_eq!((asked(&site, VERSION), asked(&site, "/api2/json/access/ticket")), (0, 0));
}

#[test]
fn quick_calls_find_a_worker_beside_slow_ones() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=3"]);
    let storage = "/api2/json/nodes/node1/storage/dead/content?standin-wait=20000";
    // nodegate learns what the call costs.
    assert_ne!(gate.get(&storage.replace("20000", "700"), &site.cookie("a@pam")).status, 503);
    let _slow: Vec<_> = (0..4).map(|_| begin(&gate, &site.cookie("a@pam"), storage)).collect();
    eventually("slow calls have all workers but one", || site.daemon.open() == 2);
    let cookie = site.cookie("b@pam");
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(gate.get(VERSION, &cookie).status, 200);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    eventually("slow calls have no more", || site.daemon.open() == 2);
}

/// Each daemon has its own queue, and a request that goes to the other one waits in that one's.
#[test]
fn a_fallback_waits_for_the_other_daemons_worker() {
    let site = Site::pve();
    let closed = format!("backend.unprivileged=127.0.0.1:{}", crate::support::nodegate::free_port());
    let gate = Nodegate::start(&site, &["backend.workers=1", "timeout.queue=1", &closed]);
    // This call needs root.
    let mut busy =
        begin(&gate, &site.cookie("busy@pam"), "/api2/json/nodes/node1/journal?standin-wait=60000");
    eventually("the daemon works on it", || site.daemon.open() == 1);
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{}", reply.text());
    assert!(!busy.has_reply());
    drop(busy);
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
}

#[test]
fn a_reload_changes_the_workers_of_waiting_requests() {
    let site = Site::pve();
    site.write("/etc/default/pvedaemon", "MAX_WORKERS=1\n");
    let gate = Nodegate::start(&site, &[]);
    let _busy = occupy(&gate, &site, 1);
    let mut waiting = begin(&gate, &site.cookie("root@pam"), VERSION);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.has_reply());
    site.write("/etc/default/pvedaemon", "MAX_WORKERS=2\n");
    let port = format!("listen.port={}", gate.port());
    let outcome = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(waiting.reply(false).status, 200);
}

/// A page of the worker and an upload need workers as well.
#[test]
fn uploads_wait_for_a_worker() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["backend.workers=1", "timeout.queue=1"]);
    let busy = occupy(&gate, &site, 1);
    let boundary = "x";
    let body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\r\ndata\r\n--{boundary}--\r\n"
    );
    let headers = format!(
        "{}{}Content-Type: multipart/form-data; boundary={boundary}\r\n",
        site.cookie("root@pam"),
        site.csrf("root@pam")
    );
    let path = "/api2/json/nodes/node1/storage/local/upload";
    let reply = gate.request("POST", path, &headers, body.as_bytes());
    assert_eq!(reply.status, 503, "{}", reply.text());
    drop(busy);
    eventually("the upload is taken", || gate.request("POST", path, &headers, body.as_bytes()).status == 200);
}

/// The access log, `status`, the metrics and the log tell of a queue, and none of them names a user or a parameter.
#[test]
fn a_queue_is_seen_everywhere() {
    let site = Site::pve();
    let metrics = crate::support::nodegate::free_port();
    let listen = format!("metrics.listen=127.0.0.1:{metrics}");
    let gate =
        Nodegate::start(&site, &["backend.workers=1", "backend.slow_call=0.3", "log.format=json", &listen]);
    let started = Instant::now();
    let busy = occupy(&gate, &site, 1);
    let mut waiting = begin(&gate, &site.cookie("root@pam"), VERSION);
    let queue = || {
        let report = crate::status::report(&site, &gate, "pve");
        report["upstreams"].as_array().unwrap().iter().find(|it| it["name"] == "daemon").unwrap()["queue"]
            .clone()
    };
    eventually("it waits", || queue()["waiting"] == 1);
    eventually("the call is slow", || queue()["slow"].as_array().is_some_and(|calls| calls.len() == 1));
    let shown = queue();
    assert_eq!((&shown["workers"], &shown["busy"]), (&1.into(), &1.into()), "{shown}");
    assert_eq!(shown["slow"][0]["template"], "GET /nodes/{node}/status", "{shown}");
    let most = u64::try_from(started.elapsed().as_millis()).unwrap();
    assert!(shown["slow"][0]["age_ms"].as_u64().is_some_and(|age| (300..=most).contains(&age)), "{shown}");
    assert!(shown["oldest_wait_ms"].as_u64().is_some_and(|wait| wait <= most), "{shown}");
    let port = format!("listen.port={}", gate.port());
    let text = Outcome::ask(&site, &["--set", &port, "status", "pve"]).stdout;
    assert!(text.contains("1 of 1 workers busy; 1 requests wait, the oldest for "), "{text}");
    assert!(text.contains("slow: GET /nodes/{node}/status, for "), "{text}");
    let samples =
        || Session::plain(([127, 0, 0, 1], metrics).into()).request("GET", "/metrics", "", b"").text();
    let text = samples();
    for sample in [
        "nodegate_backend_workers{backend=\"daemon\"} 1",
        "nodegate_backend_workers_busy{backend=\"daemon\"} 1",
        "nodegate_backend_requests_waiting{backend=\"daemon\"} 1",
        "nodegate_backend_queue_rejections_total{backend=\"daemon\",limit=\"timeout\"} 0",
    ] {
        assert!(text.contains(sample), "{sample}: {text}");
    }
    // The log warns of waits of a second.
    std::thread::sleep(Duration::from_millis(1100));
    drop(busy);
    assert_eq!(waiting.reply(false).status, 200);
    eventually("the queue is empty", || {
        let text = samples();
        text.contains("nodegate_backend_requests_waiting{backend=\"daemon\"} 0")
            && text.contains("nodegate_backend_workers_busy{backend=\"daemon\"} 0")
            && text.contains("nodegate_backend_queue_seconds_count{backend=\"daemon\"} 2")
    });
    let is_line =
        |line: &str| line.contains(&format!("the daemon at {} is saturated", site.daemon.address()));
    eventually("the log says so", || gate.stderr().lines().any(is_line));
    eventually("both are logged", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut versions = lines.filter(|line| line["request"].to_string().contains(VERSION));
    let version = versions.next_back().unwrap();
    let (queued, upstream) =
        (version["queued_ms"].as_u64().unwrap(), version["upstream_latency"].as_f64().unwrap());
    assert!((1000..=u64::try_from(started.elapsed().as_millis()).unwrap()).contains(&queued), "{version}");
    assert!(upstream < 1.0, "the time in the queue is none of the daemon's: {version}");
    let shown = queue();
    assert_eq!(shown["costliest"].as_array().map(Vec::is_empty), Some(false), "{shown}");
}

//! Calls of one HTTP/2 connection that wait together: those that may change something keep their order.

use std::process::Command;

use nodegate_standin::Recorded;

use super::held::{Queues, begin, held, occupy};
use super::{CONFIG, number, place, site};
use crate::http2::wire::{END_HEADERS, END_STREAM, HEADERS, STATUS_200, Wire, request};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const START: &str = "/api2/json/nodes/node1/qemu/100/status/start";
const STORAGE: &str = "/api2/json/nodes/node1/storage/dead/content";
/// Requests that a connection may have at once.
const STREAMS: usize = 8;

/// The value of a header line.
fn value(line: &str) -> String {
    line.trim_end().split_once(": ").unwrap().1.to_owned()
}

/// An HTTP/2 connection of one user.
struct Connection {
    wire: Wire,
    cookie: String,
    csrf: String,
    sent: u32,
}

impl Connection {
    fn new(site: &Site, gate: &Nodegate, user: &str) -> Self {
        let (cookie, csrf) = (value(&site.cookie(user)), value(&site.csrf(user)));
        Self { wire: Wire::connect(gate, &[]), cookie, csrf, sent: 0 }
    }

    fn send(&mut self, method: &str, path: &str) -> u32 {
        let headers = [("cookie", self.cookie.as_str()), ("csrfpreventiontoken", self.csrf.as_str())];
        let (block, stream) = (request(method, path, &headers), self.sent * 2 + 1);
        self.wire.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        self.sent += 1;
        stream
    }

    /// The status, as HPACK has it, and the stream of the next answer.
    fn next_answer(&mut self) -> (u8, u32) {
        loop {
            let frame = self.wire.next().expect("the connection closed");
            if frame.kind == HEADERS {
                return (frame.payload[0], frame.stream);
            }
        }
    }

    /// All answers are 200, in whatever order they come.
    fn all_succeed(&mut self) {
        for _ in 0..self.sent {
            let (status, stream) = self.next_answer();
            assert_eq!(status, STATUS_200, "stream {stream}");
        }
    }
}

fn is_write(request: &Recorded) -> bool {
    request.method != "GET"
}

/// The numbers of the writes in the order in which the daemon got them.
fn writes(site: &Site) -> Vec<usize> {
    site.daemon.requests().iter().filter(|request| is_write(request)).filter_map(number).collect()
}

/// Lets nodegate learn that calls to the storage are slow.
fn learn_slow_storage(site: &Site, gate: &Nodegate, user: &str) {
    let path = format!("{STORAGE}?standin-wait=2500");
    assert_eq!(gate.get(&path, &site.cookie(user)).status, 200);
}

/// One worker, and reads between the writes, one of which is slow.
#[test]
fn writes_keep_their_order_while_all_wait() {
    let (site, queues) = (site(0), Queues::new());
    let sets = ["http2=true", "backend.workers=1", "backend.slow_call=2", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    learn_slow_storage(&site, &gate, "root@pam");
    let mut busy = occupy(&gate, &site, 1);
    let mut connection = Connection::new(&site, &gate, "root@pam");
    for sent in 0..STREAMS {
        match sent {
            2 => connection.send("GET", &format!("{STORAGE}?number={sent}")),
            5 => connection.send("GET", &format!("{CONFIG}?number={sent}")),
            _ => connection.send("POST", &format!("{START}?number={sent}")),
        };
        queues.wait_until_waiting(sent + 1);
    }
    site.daemon.release("busy");
    connection.all_succeed();
    assert_eq!(writes(&site), [0, 1, 3, 4, 6, 7]);
    let order = site.daemon.requests();
    assert!(place(&order, 1) < place(&order, 5), "a read went before a write that came earlier");
    assert!(place(&order, 5) < place(&order, 6), "a write went before a read that came earlier");
    assert_eq!(busy.remove(0).reply(false).status, 200);
}

/// Three workers that become free at the same time.
#[test]
fn freed_workers_take_writes_in_order() {
    const ROUNDS: usize = 10;
    let (site, queues) = (site(0), Queues::new());
    let sets = ["http2=true", "backend.workers=3", "backend.slow_call=60", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    let cookie = site.cookie("busy@pam");
    for round in 0..ROUNDS {
        site.daemon.clear();
        let hold = format!("busy{round}");
        let mut busy: Vec<_> = (0..3).map(|_| begin(&gate, &held(CONFIG, &hold, 10_000), &cookie)).collect();
        eventually("the workers are busy", || site.daemon.requests().len() == 3);
        let mut connection = Connection::new(&site, &gate, "root@pam");
        for sent in 0..STREAMS {
            connection.send("POST", &format!("{START}?number={sent}"));
        }
        queues.wait_until_waiting(STREAMS);
        site.daemon.release(&hold);
        connection.all_succeed();
        assert_eq!(writes(&site), (0..STREAMS).collect::<Vec<_>>(), "round {round}");
        assert!(busy.iter_mut().all(|session| session.reply(false).status == 200));
    }
}

/// As long as nothing on the connection changes anything.
#[test]
fn quick_reads_overtake_slow_ones() {
    let (site, queues) = (site(0), Queues::new());
    let sets = ["http2=true", "backend.workers=2", "backend.slow_call=2", &queues.setting()];
    let gate = Nodegate::start(&site, &sets);
    learn_slow_storage(&site, &gate, "root@pam");
    let mut connection = Connection::new(&site, &gate, "root@pam");
    for number in 0..3 {
        connection.send("GET", &held(STORAGE, "dead", number));
    }
    queues.wait_until_waiting(2);
    for number in 3..6 {
        let stream = connection.send("GET", &format!("{CONFIG}?number={number}"));
        assert_eq!(connection.wire.wait_for(HEADERS, stream).payload[0], STATUS_200);
    }
    assert_eq!((queues.sample("workers_busy"), queues.sample("requests_waiting")), (1, 2));
    site.daemon.release("dead");
    let slow: Vec<_> = (0..3).map(|_| connection.next_answer()).collect();
    assert!(slow.iter().all(|(status, stream)| *status == STATUS_200 && *stream < 6), "{slow:?}");
}

/// nghttp opens one connection and asks in the order of its arguments. Before it knows how many streams it may have, it
/// opens as many as it likes, so there are no more than those.
#[test]
fn nghttp_sees_its_writes_in_order() {
    let (site, queues) = (site(0), Queues::new());
    let gate = Nodegate::start(&site, &["http2=true", "backend.workers=1", &queues.setting()]);
    site.write("/tmp/form", "x=1");
    let _busy = occupy(&gate, &site, 1);
    let (cookie, csrf) = (site.cookie("root@pam"), site.csrf("root@pam"));
    let targets = (0..STREAMS).map(|sent| format!("https://127.0.0.1:{}{START}?number={sent}", gate.port()));
    let nghttp = Command::new("nghttp")
        .args(["--null-out", "--stat", "-H", cookie.trim_end(), "-H", csrf.trim_end()])
        .args(["-H", "content-type: application/x-www-form-urlencoded", "-d"])
        .arg(site.path("/tmp/form"))
        .args(targets)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("nghttp2-client is installed");
    queues.wait_until_waiting(STREAMS);
    site.daemon.release("busy");
    let output = nghttp.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(writes(&site), (0..STREAMS).collect::<Vec<_>>());
    assert!(site.daemon.requests().iter().all(|request| !is_write(request) || request.text() == "x=1"));
}

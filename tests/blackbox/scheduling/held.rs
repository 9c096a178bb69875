//! Calls that the daemon answers when the test says so, and the figures of its queue.

use std::net::SocketAddr;

use super::CONFIG;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Session, Site};

/// A call with a number that the daemon keeps until `Daemon::release(hold)`.
pub fn held(path: &str, hold: &str, number: usize) -> String {
    format!("{path}?standin-hold={hold}&number={number}")
}

/// The whole head of a GET.
pub fn head(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: node1:8006\r\n{headers}\r\n")
}

/// A GET on its own connection; the answer is read later.
pub fn begin(gate: &Nodegate, path: &str, headers: &str) -> Session {
    let mut session = gate.connect();
    session.send(head(path, headers));
    session
}

/// Calls that hold so many workers until `Daemon::release("busy")`.
pub fn occupy(gate: &Nodegate, site: &Site, workers: usize) -> Vec<Session> {
    let before = site.daemon.requests().len();
    let cookie = site.cookie("busy@pam");
    let sessions = (0..workers).map(|_| begin(gate, &held(CONFIG, "busy", 10_000), &cookie)).collect();
    eventually("the workers are busy", || site.daemon.requests().len() == before + workers);
    sessions
}

/// The figures of the queues, as the metrics have them.
pub struct Queues {
    metrics: SocketAddr,
}

impl Queues {
    pub fn new() -> Self {
        Self { metrics: ([127, 0, 0, 1], free_port()).into() }
    }

    /// The setting that nodegate needs for them.
    pub fn setting(&self) -> String {
        format!("metrics.listen={}", self.metrics)
    }

    /// A sample of the daemon.
    pub fn sample(&self, name: &str) -> usize {
        self.sample_of("daemon", name)
    }

    pub fn sample_of(&self, backend: &str, name: &str) -> usize {
        let text = Session::plain(self.metrics).request("GET", "/metrics", "", b"").text();
        let start = format!("nodegate_backend_{name}{{backend=\"{backend}\"");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        let values = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap());
        values.sum()
    }

    pub fn wait_until_waiting(&self, count: usize) {
        eventually("they wait", || self.sample("requests_waiting") == count);
    }

    /// No call runs or waits.
    pub fn wait_until_idle(&self) {
        eventually("no worker is busy and no call waits", || {
            (self.sample("workers_busy"), self.sample("requests_waiting")) == (0, 0)
        });
    }
}

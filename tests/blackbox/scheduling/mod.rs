//! More requests than the daemon has workers: whose turn is next, and what happens to those that wait.

mod attackers;
mod backends;
mod cancellations;
mod held;
mod interruptions;
mod prefork;
mod queued_time;
mod saturation;
mod storages;
mod turns;
mod write_order;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nodegate_standin::{Config, Daemon, Listen, Product, Recorded};

use crate::support::{Nodegate, Session, Site};

const CONFIG: &str = "/api2/json/nodes/node1/qemu/100/config";
const BEHIND_A_PROXY: [&str; 2] = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];

/// A machine whose daemon works on so many calls at once.
fn site(workers: usize) -> Site {
    let mut site = Site::pve();
    site.daemon = daemon(&site, workers, Listen::Free);
    site
}

fn daemon(site: &Site, workers: usize, listen: Listen) -> Daemon {
    let keys = Arc::clone(&site.keys);
    Daemon::start(Config { keys, listen, workers, root: site.root().to_owned(), ..Config::new(Product::Pve) })
}

/// The path of a call that takes `time`, with a number that shows whether the daemon got it once.
fn call(path: &str, time: Duration, number: usize) -> String {
    format!("{path}?standin-wait={}&number={number}", time.as_millis())
}

/// A request whose answer is read later.
struct Sent {
    session: Session,
    number: usize,
}

impl Sent {
    /// A GET of `path` as `call` makes it; `headers` are whole lines.
    fn get(mut session: Session, path: &str, headers: &str, (time, number): (Duration, usize)) -> Self {
        let path = call(path, time, number);
        session.send(format!("GET {path} HTTP/1.1\r\nHost: node1:8006\r\n{headers}\r\n"));
        Self { session, number }
    }
}

/// Opens that many connections, from a few threads: each handshake of a debug build takes its time.
fn connections(gate: &Nodegate, count: usize) -> Vec<Session> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..THREADS)
            .map(|thread| {
                let own = (thread..count).step_by(THREADS).count();
                scope.spawn(move || (0..own).map(|_| gate.connect()).collect::<Vec<_>>())
            })
            .collect();
        opening.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// The number that `call` has put into a request.
fn number(request: &Recorded) -> Option<usize> {
    request.query().rsplit_once("number=")?.1.parse().ok()
}

/// How often each number was received.
fn counts<'r>(requests: impl IntoIterator<Item = &'r Recorded>) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for number in requests.into_iter().filter_map(number) {
        *counts.entry(number).or_default() += 1;
    }
    counts
}

/// The place of a number in the order in which the daemon got the requests.
fn place(requests: &[Recorded], wanted: usize) -> usize {
    let place = requests.iter().position(|request| number(request) == Some(wanted));
    place.unwrap_or_else(|| panic!("the daemon did not get number {wanted}"))
}

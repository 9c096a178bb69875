//! The line in the log about a daemon whose workers are all busy.

use std::sync::Arc;
use std::time::Duration;

use nodegate_standin::{Config, Daemon, Product};

use super::held::{Queues, begin, occupy};
use super::site;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session};

/// A call to the daemon with root, with something secret in each place.
const SECRET: &str = "/api2/json/nodes/node1/journal?password=hunter2&vmid=hidden";
/// Longer than a wait that the log warns of.
const LONG_WAIT: Duration = Duration::from_millis(1200);
const HIDDEN: [&str; 6] = ["hidden", "hunter2", "node1", "PVE:", "@pve", "CSRF"];

/// The lines about an address.
fn lines(gate: &Nodegate, address: &str) -> Vec<String> {
    let start = format!("the daemon at {address} is saturated: ");
    gate.stderr().lines().filter(|line| line.contains(&start)).map(str::to_owned).collect()
}

/// The only line about an address.
fn line(gate: &Nodegate, address: &str) -> String {
    let mut lines = lines(gate, address);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines.remove(0);
    for hidden in HIDDEN {
        assert!(!line.contains(hidden), "{hidden}: {line}");
    }
    line
}

fn all_have(sessions: Vec<Session>, status: u16) {
    for mut session in sessions {
        assert_eq!(session.reply(false).status, status);
    }
}

/// Many long waits in a few seconds.
#[test]
fn long_waits_are_logged_once() {
    const WAITING: usize = 20;
    let (site, queues) = (site(0), Queues::new());
    let gate = Nodegate::start(&site, &["backend.workers=1", &queues.setting()]);
    let busy = occupy(&gate, &site, 1);
    let cookie = site.cookie("hidden@pve");
    let waiting: Vec<_> = (0..WAITING).map(|_| begin(&gate, SECRET, &cookie)).collect();
    queues.wait_until_waiting(WAITING);
    std::thread::sleep(LONG_WAIT);
    site.daemon.release("busy");
    all_have(waiting, 200);
    all_have(busy, 200);
    let address = site.daemon.address().to_owned();
    eventually("the log says so", || !lines(&gate, &address).is_empty());
    // A call that comes later has its line in the log after those of the others.
    assert_eq!(gate.get("/nope", "").status, 404);
    let line = line(&gate, &address);
    assert!(
        line.contains("1 call of GET /nodes/{node}/qemu/{vmid}/config ("),
        "what holds the worker: {line}"
    );
}

/// Each daemon has its own line, also if it answers no call.
#[test]
fn each_saturated_daemon_has_its_line() {
    const WAITING: usize = 5;
    let (site, queues) = (site(0), Queues::new());
    let other = Daemon::start(Config { keys: Arc::clone(&site.keys), ..Config::new(Product::Pve) });
    let unprivileged = format!("backend.unprivileged={}", other.address());
    let sets = ["backend.workers=1", "backend.unprivileged_workers=1", "timeout.queue=2"];
    let gate = Nodegate::start(&site, &[&sets[..], &[&unprivileged, &queues.setting()]].concat());
    let cookie = site.cookie("hidden@pve");
    let calls = [SECRET, "/api2/json/cluster/tasks?password=hunter2"];
    let hold = |path: &&str| begin(&gate, &format!("{path}&standin-hold=busy"), &cookie);
    let busy: Vec<_> = calls.iter().map(hold).collect();
    eventually("both are busy", || [&site.daemon, &other].iter().all(|it| it.requests().len() == 1));
    for path in calls {
        let rejected = (0..WAITING).map(|_| begin(&gate, path, &cookie)).collect();
        all_have(rejected, 503);
    }
    for (daemon, template) in [(&site.daemon, "GET /nodes/{node}/journal"), (&other, "GET /cluster/tasks")] {
        eventually("the log says so", || !lines(&gate, daemon.address()).is_empty());
        let line = line(&gate, daemon.address());
        assert!(line.contains(&format!("1 call of {template} (")), "{line}");
        assert_eq!(daemon.requests().len(), 1, "a rejected call was sent");
        daemon.release("busy");
    }
    all_have(busy, 200);
}

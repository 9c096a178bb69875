//! Several storages that do not answer at the same time.

use super::held::{Queues, begin, held};
use super::{number, site};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

/// Slow calls hold all but one.
const WORKERS: usize = 4;
const STORAGES: usize = 3;
/// Calls to each storage, numbered one storage after the other.
const CALLS: usize = 4;
/// A machine in trouble still answers quick calls in less.
const SETS: [&str; 2] = ["backend.workers=4", "backend.slow_call=2"];

struct DeadStorages {
    site: Site,
    queues: Queues,
    gate: Nodegate,
    /// by number
    sessions: Vec<Session>,
}

fn path(storage: usize) -> String {
    format!("/api2/json/nodes/node1/storage/dead{storage}/content")
}

impl DeadStorages {
    /// Learns that each storage is slow, then sends all calls; those of a storage have the user of that place. The
    /// first storage has its calls before the others, so it has every worker that slow calls may have.
    fn start(users: [&str; STORAGES]) -> Self {
        let (site, queues) = (site(0), Queues::new());
        let gate = Nodegate::start(&site, &[&SETS[..], &[&queues.setting()]].concat());
        let learn = |storage: usize| {
            let path = format!("{}?standin-wait=2500", path(storage));
            begin(&gate, &path, &site.cookie(users[storage]))
        };
        for mut session in (0..STORAGES).map(learn).collect::<Vec<_>>() {
            assert_eq!(session.reply(false).status, 200);
        }
        site.daemon.clear();
        let mut all = Self { site, queues, gate, sessions: Vec::new() };
        for (storage, user) in users.into_iter().enumerate() {
            let cookie = all.site.cookie(user);
            for number in storage * CALLS..(storage + 1) * CALLS {
                let path = held(&path(storage), &format!("h{number}"), number);
                all.sessions.push(begin(&all.gate, &path, &cookie));
                // Calls of different connections may overtake each other.
                if number < WORKERS - 1 {
                    eventually("the call runs", || all.started().len() == number + 1);
                }
            }
        }
        all.queues.wait_until_waiting(STORAGES * CALLS - (WORKERS - 1));
        all
    }

    /// The numbers of the calls that the daemon got, in order.
    fn started(&self) -> Vec<usize> {
        self.site.daemon.requests().iter().filter_map(number).collect()
    }

    /// Lets the daemon answer a call. Returns the storage whose call it gets instead.
    fn answer(&self, number: usize) -> usize {
        let before = self.started().len();
        self.site.daemon.release(&format!("h{number}"));
        eventually("another one begins", || self.started().len() > before);
        self.started()[before] / CALLS
    }

    /// The last worker is free: the calls of the window are answered while all others hang.
    fn window_is_served(&self) {
        let cookie = self.site.cookie("window@pve");
        for _ in 0..3 {
            assert_eq!(self.gate.get("/api2/json/version", &cookie).status, 200);
        }
    }

    fn all_succeed(mut self) {
        assert!(self.site.daemon.most_at_once() <= WORKERS, "{}", self.site.daemon.most_at_once());
        for number in 0..STORAGES * CALLS {
            self.site.daemon.release(&format!("h{number}"));
        }
        for session in &mut self.sessions {
            assert_eq!(session.reply(false).status, 200);
        }
        assert_eq!(self.started().len(), STORAGES * CALLS);
        self.queues.wait_until_idle();
    }

    /// Of the workers that the first storage gives back, each other storage gets one.
    fn share_the_workers(self) {
        self.window_is_served();
        assert_eq!(self.started(), [0, 1, 2]);
        let mut next = [self.answer(0), self.answer(1)];
        self.window_is_served();
        next.sort_unstable();
        assert_eq!(next, [1, 2]);
        self.all_succeed();
    }
}

#[test]
fn dead_storages_of_several_clients_share_workers() {
    DeadStorages::start(["alice@pve", "bob@pve", "carol@pve"]).share_the_workers();
}

#[test]
fn dead_storages_of_one_client_share_workers() {
    DeadStorages::start(["alice@pve"; STORAGES]).share_the_workers();
}

/// Alice and Bob both use two storages that are dead; Carol's is a third one.
#[test]
fn shared_dead_storages_leave_a_worker_free() {
    let all = DeadStorages::start(["alice@pve", "alice@pve", "carol@pve"]);
    all.window_is_served();
    assert_eq!(all.answer(0), 2, "the client that has had nothing goes first");
    assert_eq!(all.answer(1), 1, "the storage that has had nothing goes before the other");
    all.window_is_served();
    all.all_succeed();
}

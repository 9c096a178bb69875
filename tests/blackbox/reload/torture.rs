//! Two hundred consoles and as many tunnels with traffic, requests all the while, and reload upon reload, a broken
//! configuration, a key that does not fit, and a new binary: nothing fails, nothing stalls, every byte is right.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodegate_standin::{Certificate, Echo, KeyKind};

use super::SETTINGS;
use super::upgrade::Installed;
use crate::console::client::{self, BINARY, FINAL, WebSocket};
use crate::spice::{self, Viewer};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const CONSOLES: usize = 200;
const TUNNELS: usize = 200;
const ASKERS: usize = 4;
const RELOADS: usize = 20;
const VERSION: &str = "/api2/json/version";
/// Between two messages of a client, such as keystrokes or changes of a picture.
const INTERVAL: Duration = Duration::from_millis(150);
/// A round trip that takes longer has stalled.
const STALL: Duration = Duration::from_secs(10);

/// The counters and the stop flag that all clients share.
#[derive(Default)]
struct Crowd {
    over: AtomicBool,
    ready: AtomicUsize,
    rounds: Vec<AtomicUsize>,
}

impl Crowd {
    fn of(clients: usize) -> Self {
        Self { rounds: (0..clients).map(|_| AtomicUsize::new(0)).collect(), ..Self::default() }
    }

    /// One message after the other through `pass`, which says back what came out at the other end.
    fn talk(&self, client: usize, mut pass: impl FnMut(&[u8]) -> Vec<u8>) {
        self.ready.fetch_add(1, Ordering::Relaxed);
        for round in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let message = message(client, round);
            let sent = Instant::now();
            assert!(pass(&message) == message, "client {client} got other bytes back in round {round}");
            assert!(sent.elapsed() < STALL, "client {client} stalled for {:?}", sent.elapsed());
            self.rounds[client].fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(INTERVAL);
        }
    }

    /// Until each client has been through some rounds more.
    fn wait_for_more_rounds(&self) {
        let before: Vec<_> = self.rounds.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eventually("every client goes on", || {
            self.rounds.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) > before + 1)
        });
    }
}

/// Up to 8 kB that only this client sends in this round.
fn message(client: usize, round: usize) -> Vec<u8> {
    let mut state = u64::try_from(client * 1_000_003 + round * 7919 + 1).unwrap();
    let length = 1 + (client * 31 + round * 977) % 8192;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Ends the crowd however the test ends, so that the scope of its threads does.
struct Ending<'a>(&'a Crowd);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// A gate and the process that serves in its name now.
struct Door<'a> {
    gate: &'a Nodegate,
    serves: Pid,
}

impl Door<'_> {
    /// SIGHUP, and the line that tells what came of it.
    fn reload(&self, reported: &str) {
        let count = || self.gate.stderr().matches(reported).count();
        let before = count();
        kill(self.serves, Signal::SIGHUP).unwrap();
        eventually(reported, || count() > before);
    }
}

/// Without `--debug`: every request would be in the log.
fn start(installed: &Installed, site: &Site, profile: &str) -> Nodegate {
    let prepared = Nodegate::prepared(site, profile, &[]);
    let whole = installed.command(&prepared);
    let mut command = Command::new(whole.get_program());
    command.args(whole.get_args().filter(|argument| *argument != "--debug"));
    Nodegate::spawn(&mut command)
}

fn open_consoles<'scope>(
    scope: &'scope Scope<'scope, '_>,
    crowd: &'scope Crowd,
    (site, gate): (&'scope Site, &'scope Nodegate),
    port: u16,
) {
    for number in 0..CONSOLES {
        scope.spawn(move || {
            let path = client::path(site, "root@pam", port);
            let opened = WebSocket::open(gate, &path, &site.cookie("root@pam"));
            let (mut socket, _) = opened.unwrap_or_else(|reply| panic!("{reply:?}"));
            crowd.talk(number, |message| {
                socket.send(FINAL | BINARY, message);
                socket.data(message.len())
            });
        });
    }
}

fn open_tunnels<'scope>(
    scope: &'scope Scope<'scope, '_>,
    crowd: &'scope Crowd,
    (site, gate): (&'scope Site, &'scope Nodegate),
    port: u16,
) {
    for number in CONSOLES..CONSOLES + TUNNELS {
        scope.spawn(move || {
            let mut viewer = Viewer::tunnel(gate, &spice::target(site, port));
            crowd.talk(number, |message| {
                viewer.send(message);
                viewer.take(message.len())
            });
        });
    }
}

/// Requests one after the other: on kept connections as long as they are kept, and each twentieth on a fresh one.
fn ask(crowd: &Crowd, site: &Site, gate: &Nodegate) -> usize {
    let cookie = site.cookie("root@pam");
    let mut session: Option<Session> = None;
    for asked in 0.. {
        if crowd.over.load(Ordering::Relaxed) {
            return asked;
        }
        let kept = session.take().filter(|_| asked % 20 != 0);
        let mut now = kept.unwrap_or_else(|| gate.connect());
        let reply = now.request("GET", VERSION, &cookie, b"");
        assert_eq!(reply.status, 200, "request {asked}: {}", reply.text());
        if reply.header("connection") != Some("close") {
            session = Some(now);
        }
    }
    0
}

/// Reloads in a row; among them one of a broken configuration, and one of a key that does not fit.
fn reload_often(site: &Site, doors: &[&Door<'_>]) {
    let key = site.path("/etc/pve/local/pve-ssl.key");
    let good = std::fs::read(&key).unwrap();
    let other = Certificate::ca().issue("node1.example.com", &[], KeyKind::Rsa2048);
    for round in 0..RELOADS {
        let settings = format!("workers = {}\n[acl]\ndeny_from = \"192.0.2.{round}\"\n", 2 + round % 2);
        site.write(SETTINGS, &settings);
        site.write("/etc/nodegate/spice.toml", settings);
        for door in doors {
            door.reload(" reloaded");
        }
        if round == RELOADS / 3 {
            site.write(SETTINGS, "[acl]\npolicy = \"perhaps\"\n");
            doors[0].reload("reload refused, serving as before");
        }
        if round == RELOADS / 2 {
            std::fs::write(&key, other.key_pem()).unwrap();
            doors[0].reload("the key does not belong to the certificate");
            std::fs::write(&key, &good).unwrap();
        }
    }
}

#[test]
fn twenty_reloads_and_an_upgrade_disturb_no_client() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let consoles = (5900..6000).find_map(|port| Echo::start(([127, 0, 0, 1], port).into()).ok()).unwrap();
    let machine = spice::echoing_machine();
    let (mut pve, mut viewers) = (start(&installed, &site, "pve"), start(&installed, &site, "spice"));
    let crowd = Crowd::of(CONSOLES + TUNNELS);
    let asked: usize = std::thread::scope(|scope| {
        let ending = Ending(&crowd);
        open_consoles(scope, &crowd, (&site, &pve), consoles.address().port());
        open_tunnels(scope, &crowd, (&site, &viewers), machine.address().port());
        let askers: Vec<ScopedJoinHandle<'_, usize>> =
            (0..ASKERS).map(|_| scope.spawn(|| ask(&crowd, &site, &pve))).collect();
        let all = CONSOLES + TUNNELS;
        eventually("all are connected", || crowd.ready.load(Ordering::Relaxed) == all);
        let pid = |gate: &Nodegate| Pid::from_raw(gate.pid().try_into().unwrap());
        let mut doors = [&pve, &viewers].map(|gate| Door { gate, serves: pid(gate) });
        reload_often(&site, &doors.each_ref());
        crowd.wait_for_more_rounds();
        installed.replace();
        for door in &mut doors {
            door.reload("the successor serves");
            door.serves = installed.successor(door.gate);
        }
        crowd.wait_for_more_rounds();
        for door in &doors {
            door.reload(" reloaded");
        }
        crowd.wait_for_more_rounds();
        drop(ending);
        askers.into_iter().map(|asker| asker.join().unwrap()).sum()
    });
    assert!(asked > RELOADS * ASKERS, "{asked} requests");
    assert!(pve.wait().success() && viewers.wait().success(), "they end with their last console and tunnel");
    for gate in [&pve, &viewers] {
        assert!(!gate.stderr().contains("cut off"), "{}", gate.stderr());
        assert!(!gate.stderr().contains("a worker does not respond"), "{}", gate.stderr());
    }
}

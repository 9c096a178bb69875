//! A clock that is set while we run.

use std::path::PathBuf;

use nodegate_standin::now;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site, all_at_once};

const VERSION: &str = "/api2/json/version";
const HOUR: i64 = 3600;

/// nodegate with a separate clock, which starts right.
struct Shifted {
    site: Site,
    gate: Nodegate,
}

impl Shifted {
    fn start() -> Self {
        let site = Site::pve();
        site.age("/etc/pve/authkey.pub", 20 * HOUR.unsigned_abs());
        site.write("/shift", "+0");
        let mut command = Nodegate::prepared(&site, "pve", &[]);
        let gate = Nodegate::spawn(
            command
                .env("LD_PRELOAD", library())
                .env("FAKETIME_TIMESTAMP_FILE", site.path("/shift"))
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1"),
        );
        Self { site, gate }
    }

    fn set(&self, hours: i64) {
        self.site.write("/shift", format!("{:+}", hours * HOUR));
    }

    /// Asks with a ticket made so many hours from now, by the clock that is right.
    fn ask(&self, hours: i64) -> u16 {
        let ticket = self.site.keys.ticket("PVE", "root@pam", now() + hours * HOUR);
        self.gate.get(VERSION, &format!("Cookie: PVEAuthCookie={ticket}\r\n")).status
    }

    /// The number that the daemon has seen; it verifies tickets as well, by the clock that is right.
    fn passed(&self) -> usize {
        self.site.daemon.requests().len()
    }
}

/// Where Debian keeps the library of `faketime`: in a folder of its architecture.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is missing; `make test` installs it")
}

#[test]
fn tickets_follow_the_clock_when_it_jumps() {
    let shifted = Shifted::start();
    for (clock, good, bad) in [(0, 0, [-3, 3]), (3, 3, [0, 6]), (-3, -3, [0, 1]), (0, 0, [-3, 3])] {
        shifted.set(clock);
        shifted.site.daemon.clear();
        shifted.ask(good);
        assert_eq!(shifted.passed(), 1, "the clock is {clock} hours ahead");
        all_at_once(&bad, |hours| assert_eq!(shifted.ask(*hours), 401));
        assert_eq!(shifted.passed(), 1, "the clock is {clock} hours ahead");
    }
    let Shifted { site, gate } = shifted;
    let lines = || site.access_log().lines().count();
    eventually("every request has its line", || lines() == 12);
    assert!(!gate.stderr().contains("panicked"), "{}", gate.stderr());
    assert!(gate.stop().success());
}

#[test]
fn clock_jumps_change_no_timeout() {
    let shifted = Shifted::start();
    let cookie = shifted.site.cookie("root@pam");
    let mut session = shifted.gate.connect();
    let slow = "/api2/json/standin/slow?ms=2000";
    session.send(format!("GET {slow} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    eventually("the daemon has it", || !shifted.site.daemon.requests().is_empty());
    shifted.set(1000);
    assert_eq!(session.reply(false).status, 200, "no deadline has passed");
    shifted.set(-1000);
    assert_eq!(session.request("GET", "/nope", "", b"").status, 404, "the connection is still kept");
    let before = std::time::Instant::now();
    assert_eq!(shifted.ask(0), 401);
    assert!((3..6).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
}

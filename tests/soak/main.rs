//! Everything at once for a while, every byte looked at; afterwards nothing is left of it.
//!
//! `make soak` runs it for half an hour; `SOAK_SECONDS` says how long otherwise.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::large_stack_arrays,
    reason = "a test ends by panicking, and shares what it needs with tests that need more"
)]

#[path = "../blackbox/console/client.rs"]
mod client;
mod load;
mod rest;
#[path = "../blackbox/attacks/stranger.rs"]
mod stranger;
mod strangers;
#[path = "../blackbox/support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nodegate_standin::Echo;

use crate::support::{Nodegate, Site};
use load::Scene;
use rest::Rest;

const USUAL: u64 = 60;
/// The configuration is reloaded so often, at most.
const RELOAD: Duration = Duration::from_mins(1);
/// The memory that the allocator may keep beyond that of the first part, in kilobytes.
const KEPT: u64 = 16 << 10;

/// Strangers are named by a header, because loopback itself is not counted; a client without the header is loopback.
const SETTINGS: [&str; 6] = [
    "http2=true",
    "timeout.header=5",
    "timeout.idle=5",
    "timeout.login_body=5",
    "real_ip.header=X-Real-IP",
    "real_ip.allow_from=127.0.0.0/8",
];

#[test]
fn mixed_load_leaves_nothing_behind() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(USUAL, |seconds| seconds.parse().unwrap());
    let site = Site::pve();
    site.write("/usr/share/pve-xtermjs/a.js", load::content(200_000));
    site.write("/usr/share/pve-xtermjs/index.html.tpl", "<title>[% nodename %]</title>");
    site.write("/usr/share/pve-xtermjs/b.js", "var answer = 42;\n".repeat(5000));
    let scene = Scene {
        gate: quiet(&mut Nodegate::prepared(&site, "pve", &SETTINGS)),
        viewers: quiet(&mut Nodegate::prepared(&site, "spice", &[])),
        console: listening(5900..=5999),
        machine: listening(61_000..=61_999),
        site,
    };
    // The first part fills what is kept on purpose: caches, pools, the allocator's own.
    let first = part(&scene, Duration::from_secs(seconds / 4));
    let last = part(&scene, Duration::from_secs(seconds - seconds / 4));
    for (name, before, after) in [("nodegate", &first[0], &last[0]), ("spice", &first[1], &last[1])] {
        assert_eq!(before.descriptors, after.descriptors, "{name}");
        assert_eq!(before.threads, after.threads, "{name}");
        assert!(after.kilobytes < before.kilobytes + KEPT, "{name}: {before:?}, then {after:?}");
    }
    assert_eq!(std::fs::read_dir(scene.site.path("/var/tmp")).unwrap().count(), 0, "spool files");
    let errors = scene.gate.stderr() + &scene.viewers.stderr();
    assert!(!errors.contains("panicked") && !errors.contains(" ERROR "), "{errors}");
    assert!(scene.gate.stop().success() && scene.viewers.stop().success());
}

/// Load for so long, then what is in use at rest, by consoles and by viewers.
fn part(scene: &Scene, length: Duration) -> [Rest; 2] {
    let until = Instant::now() + length;
    let counts = std::thread::scope(|scope| {
        let loads: Vec<_> = load::LOADS
            .iter()
            .flat_map(|(name, count, run)| (0..*count).map(move |_| (*name, *run)))
            .map(|(name, run)| (name, scope.spawn(move || run(scene, until))))
            .collect();
        let pause = RELOAD.min(length / 3);
        let mut next = Instant::now() + pause;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            if Instant::now() >= next {
                scene.gate.signal(Signal::SIGHUP);
                scene.viewers.signal(Signal::SIGHUP);
                next += pause;
            }
        }
        loads.into_iter().map(|(name, load)| (name, load.join().unwrap())).collect::<Vec<_>>()
    });
    let rest = std::thread::scope(|scope| {
        let viewers = scope.spawn(|| Rest::of(&scene.viewers));
        [Rest::of(&scene.gate), viewers.join().unwrap()]
    });
    println!("{} s: {counts:?}; at rest: {rest:?}", length.as_secs());
    assert!(counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
    rest
}

/// Without the debug log, which would fill the test's memory.
fn quiet(prepared: &mut Command) -> Nodegate {
    let mut command = Command::new(prepared.get_program());
    command.args(prepared.get_args().filter(|argument| *argument != "--debug"));
    Nodegate::spawn(&mut command)
}

/// Something that says everything back, on the first of these ports that is free.
fn listening(mut ports: std::ops::RangeInclusive<u16>) -> Echo {
    ports.find_map(|port| Echo::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()).unwrap()
}

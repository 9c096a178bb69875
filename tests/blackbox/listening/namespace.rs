//! A network namespace of the test's own, with one interface.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::support::require_root;

/// Removed when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// With `lo` up and an interface `gate0`, `fe80::1` on it. `None` if the test is skipped.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !require_root("make network namespaces") {
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("nodegate-test-{}-{number}", std::process::id()) };
        ip(&["netns", "add", &space.name]);
        space.ip(&["link", "set", "lo", "up"]);
        space.ip(&["link", "add", "gate0", "type", "veth", "peer", "name", "gate1"]);
        for interface in ["gate0", "gate1"] {
            space.ip(&["link", "set", interface, "up"]);
        }
        // Without duplicate address detection, during which a bind fails.
        space.ip(&["addr", "add", "fe80::1/64", "dev", "gate0", "nodad"]);
        Some(space)
    }

    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// Runs in a new thread inside the namespace; processes that it starts live there as well.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

//! The daemon that is already running: finds it by its pid file, and signals it to reload or to end.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::Config;

/// Interval between two checks of a process that is to end.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A process that serves the product, nodegate or the original.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DaemonProcess {
    pub pid: Pid,
}

impl DaemonProcess {
    /// The process that the pid file names. The number in a stale file may belong to another program by now.
    pub fn find(config: &Config) -> Option<Self> {
        if config.settings.listen.port != config.own_port {
            return None;
        }
        let path = config.root.path(config.product.pid_file.as_ref()?);
        let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let running = Self { pid: Pid::from_raw(pid) };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let own = [config.product.daemon.as_str(), env!("CARGO_PKG_NAME")];
        (running.is_alive() && own.iter().any(|name| command.contains(name))).then_some(running)
    }

    /// A zombie is not alive.
    pub fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    pub fn signal(self, signal: Signal) -> nix::Result<()> {
        kill(self.pid, signal)
    }

    /// Waits until the process ends; false if that takes longer than `timeout`.
    pub fn wait_for_end(self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        true
    }
}

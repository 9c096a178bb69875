//! A network for the bench only, with the congestion control that Debian has. A host may have chosen another one; BBR
//! holds segments back by the time, on loopback as well, and whether it does decides how fast a proxy is.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// Which of them a network may choose is the host's decision; reno always.
const CHOICE: [&str; 2] = ["cubic", "reno"];
const FORGETS: &str = "/proc/sys/net/ipv4/tcp_no_metrics_save";
const CHOSEN: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Moves this process, which must still have one thread, and all that it starts into a separate network. Without the
/// privilege the bench measures in the host's network, and with the host's congestion control if it can choose none.
/// The tables name the one that was used.
pub(crate) fn enter() -> Result<()> {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return Ok(());
    }
    prepare()?;
    // Strangers come from addresses that the limits count, and loopback is none.
    let strangers = Command::new("ip").args(["addr", "add", "198.51.100.1/24", "dev", "lo"]).status();
    ensure!(strangers?.success(), "no addresses for strangers");
    Ok(())
}

/// Loopback and TCP of a new network, that of this thread.
pub(crate) fn prepare() -> Result<()> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    ensure!(up.context("ip (apt-get install iproute2)")?.success(), "no loopback in a network of its own");
    let _ = CHOICE.iter().any(|name| std::fs::write(CHOSEN, name).is_ok());
    // The kernel must not keep what it learned from one connection for the next one, which may be another proxy's.
    let _ = std::fs::write(FORGETS, "1");
    Ok(())
}

/// The congestion control in effect, for the tables.
pub(crate) fn congestion_control() -> String {
    let chosen = std::fs::read_to_string(CHOSEN).unwrap_or_default();
    format!("TCP {}", chosen.trim())
}

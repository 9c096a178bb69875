//! A configuration is replaced while clients are served.

mod in_place;
mod systemd;
mod torture;
pub(crate) mod upgrade;

use nix::sys::signal::Signal;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

/// The file that tests change settings in: `--set` would be stronger.
const SETTINGS: &str = "/etc/nodegate/pve.toml";

/// SIGHUP, and the line that tells what came of it.
pub(crate) fn reload(gate: &Nodegate, reported: &str) {
    let count = |text: &str| text.matches(reported).count();
    let before = count(&gate.stderr());
    gate.signal(Signal::SIGHUP);
    eventually(reported, || count(&gate.stderr()) > before);
}

/// Serves with what the settings file says, wherever that is.
fn start(site: &Site, settings: &str) -> Nodegate {
    site.write(SETTINGS, settings);
    Nodegate::start(site, &[])
}

/// The names of the process's threads.
fn threads(gate: &Nodegate) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    let mut names: Vec<_> = tasks.map(|task| name(task.unwrap().path()).trim().to_owned()).collect();
    names.sort();
    names
}

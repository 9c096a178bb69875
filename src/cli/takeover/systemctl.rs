//! Commands to systemd.

use std::path::Path;
use std::process::{Command, Stdio};

/// systemd is the init system if this directory exists (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Lines of a unit's log that a message repeats.
const LOG_LINES: &str = "12";

/// A unit.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) name: String,
}

impl Unit {
    /// The service of a daemon.
    pub(super) fn of_daemon(daemon: &str) -> Self {
        Self { name: format!("{daemon}.service") }
    }

    /// An instance of a template, such as `nodegate-trial@DAEMON.service`.
    pub(super) fn instance(template: &str, daemon: &str) -> Self {
        Self { name: format!("{template}@{daemon}.service") }
    }

    pub(super) fn is_known(&self) -> bool {
        self.property("LoadState").is_ok_and(|state| state == "loaded")
    }

    /// Such as `active`, `activating` or `failed`.
    pub(super) fn state(&self) -> String {
        self.property("ActiveState").unwrap_or_else(|_| "unknown".to_owned())
    }

    /// Whether a process runs or comes next.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state().as_str(), "active" | "activating" | "reloading" | "deactivating")
    }

    pub(super) fn start(&self) -> Result<(), String> {
        self.forget_failures();
        systemctl(&["start", &self.name]).map(drop)
    }

    pub(super) fn restart(&self) -> Result<(), String> {
        self.forget_failures();
        systemctl(&["restart", &self.name]).map(drop)
    }

    pub(super) fn stop(&self) -> Result<(), String> {
        systemctl(&["stop", &self.name]).map(drop)
    }

    /// The last lines of its log.
    pub(super) fn log(&self) -> String {
        let arguments =
            ["--unit", &self.name, "--lines", LOG_LINES, "--output", "cat", "--no-pager", "--quiet"];
        output("journalctl", &arguments).unwrap_or_default().trim_end().to_owned()
    }

    /// Without this, starts in a row reach the limit of the unit.
    fn forget_failures(&self) {
        if let Err(error) = systemctl(&["reset-failed", &self.name]) {
            tracing::debug!("{error}");
        }
    }

    fn property(&self, name: &str) -> Result<String, String> {
        let value = systemctl(&["show", "--value", "--property", name, &self.name])?;
        Ok(value.trim().to_owned())
    }
}

pub(super) fn is_init() -> bool {
    Path::new(BOOTED).is_dir()
}

/// Makes systemd read the unit files again.
pub(super) fn daemon_reload() -> Result<(), String> {
    systemctl(&["daemon-reload"]).map(drop)
}

fn systemctl(arguments: &[&str]) -> Result<String, String> {
    output("systemctl", arguments)
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = ran.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), reason.trim()))
}

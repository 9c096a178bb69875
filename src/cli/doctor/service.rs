//! The units of systemd: whether the right one runs, and whether its drop-ins keep the sandbox.

mod fallback;
pub(super) mod sandbox;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::deadline::{self, ProgramError};
use super::finding::Finding;
use super::subject::Subject;
use crate::config::ConfigSources;
use crate::config::command_line::command_line;

const PROGRAM_TIMEOUT: Duration = Duration::from_secs(5);
/// The program that a unit of ours starts.
const PROGRAM: &str = "/nodegate ";

const PROPERTIES: &[&str] = &[
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "UnitFileState",
    "ExecStart",
    "User",
];

/// The properties of one unit (`systemctl show`).
#[derive(Clone, Debug, Default)]
pub(super) struct Unit(BTreeMap<String, String>);

/// The units of one product.
struct Units {
    /// of the daemon that nodegate replaces
    daemon: Unit,
    /// of nodegate on a machine without the original
    instance: Unit,
    /// active after nodegate failed
    fallback: Unit,
    /// that answers calls without root, and its socket
    worker: Vec<Unit>,
}

impl Unit {
    fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    fn name(&self) -> &str {
        self.get("Id")
    }

    fn is_loaded(&self) -> bool {
        self.get("LoadState") == "loaded"
    }

    fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading")
    }

    fn runs_nodegate(&self) -> bool {
        self.get("ExecStart").contains(PROGRAM)
    }

    /// Drop-ins of the admin: those of packages lie below `/usr/lib` or `/lib`, and those of a takeover are named for
    /// nodegate.
    fn own_drop_ins(&self) -> Vec<&str> {
        let is_own = |path: &&str| {
            !["/usr/lib/", "/lib/"].iter().any(|folder| path.starts_with(folder))
                && !path.rsplit('/').next().is_some_and(|name| name.starts_with("nodegate"))
        };
        self.get("DropInPaths").split_whitespace().filter(is_own).collect()
    }
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    if !subject.is_system() {
        return vec![Finding::note("with --root the units of this machine were not looked at")];
    }
    let names = names(subject);
    match show(&names) {
        Ok(text) => evaluate(subject, &units(&names, &parse(&text))),
        Err(ProgramError::Missing) => {
            vec![Finding::note("systemctl is not installed, so no unit was looked at")]
        }
        Err(ProgramError::TooSlow) => vec![
            Finding::warning("systemctl does not answer")
                .because("without the service manager nothing starts or reloads")
                .mend("systemctl is-system-running; journalctl -b -p err -n 50"),
        ],
        Err(ProgramError::Failed(reason)) => {
            vec![Finding::note(format!("no unit was looked at: systemctl: {reason}"))]
        }
    }
}

/// Daemon, instance, fallback, then the worker's.
pub(super) fn names(subject: &Subject) -> Vec<String> {
    let product = &subject.config.product;
    let daemon = &product.daemon;
    let mut names =
        vec![format!("{daemon}.service"), subject.instance(), format!("nodegate-fallback@{daemon}.service")];
    let worker = product.worker_package.as_ref().filter(|_| subject.config.settings.unprivileged.is_some());
    names.extend(
        worker.into_iter().flat_map(|it| [format!("{it}-worker.socket"), format!("{it}-worker.service")]),
    );
    names
}

/// The output of `systemctl show`: a block for each unit, in the order of the names.
fn show(names: &[String]) -> Result<String, ProgramError> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager"]);
    command.args(PROPERTIES.iter().chain(sandbox::PROPERTIES).map(|name| format!("--property={name}")));
    command.arg("--").args(names);
    deadline::output(&mut command, PROGRAM_TIMEOUT)
}

/// The properties of a product's units, for the bundle.
pub(super) fn shown(subject: &Subject) -> Result<String, ProgramError> {
    show(&names(subject))
}

fn parse(text: &str) -> Vec<Unit> {
    let block = |block: &str| {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        Unit(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    };
    text.split("\n\n").filter(|text| !text.trim().is_empty()).map(block).collect()
}

fn units(names: &[String], parsed: &[Unit]) -> Units {
    let find = |name: &String| parsed.iter().find(|unit| unit.name() == name).cloned().unwrap_or_default();
    let at = |number: usize| names.get(number).map(find).unwrap_or_default();
    Units {
        daemon: at(0),
        instance: at(1),
        fallback: at(2),
        worker: names.iter().skip(3).map(find).filter(Unit::is_loaded).collect(),
    }
}

fn evaluate(subject: &Subject, units: &Units) -> Vec<Finding> {
    let Units { daemon, instance, fallback, worker } = units;
    let mut findings = Vec::new();
    let of_fallback = fallback::evaluate(subject, fallback, daemon);
    let is_fallen_back = of_fallback.is_some();
    findings.extend(of_fallback);
    if daemon.is_active() && instance.is_active() {
        findings.push(
            Finding::error(format!("{} and {} are both active", daemon.name(), instance.name()))
                .because("they want the same port, so one of them fails or serves half of the clients")
                .mend(format!("systemctl disable --now {}", instance.name())),
        );
    }
    // Without nodegate nothing needs the worker, and a second unit cannot have the original's port.
    let original_serves = daemon.is_active() && !daemon.runs_nodegate();
    if original_serves && !is_fallen_back {
        findings.push(Finding::ok(format!("{} runs the original", daemon.name())));
    } else if daemon.is_loaded() && !daemon.runs_nodegate() && !is_fallen_back && !instance.is_active() {
        findings.push(original_is_next(subject, daemon.name()));
    }
    if daemon.get("LoadState") == "masked" && !instance.is_active() {
        findings.push(
            Finding::note(format!("{} is masked, so nothing can start it", daemon.name()))
                .because("systemd starts neither the original nor nodegate by this unit")
                .mend(format!("systemctl unmask {}", daemon.name())),
        );
    }
    findings.extend(needless_unit(daemon, instance));
    // The instance is for machines without the original.
    let is_unused = |unit: &Unit| {
        unit.name() == instance.name() && daemon.is_loaded() && unit.get("ActiveState") == "inactive"
    };
    let is_relevant = |unit: &&Unit| unit.is_active() || !(original_serves || is_unused(unit));
    let ours: Vec<_> =
        [daemon, instance].into_iter().filter(|unit| unit.runs_nodegate()).filter(is_relevant).collect();
    for unit in &ours {
        let is_needed = unit.is_active() || ours.len() == 1 || unit.name() == daemon.name();
        if is_needed {
            findings.extend(of_unit(subject, unit));
            findings.extend(on_trial(subject, unit));
        }
    }
    findings.extend(worker.iter().filter(is_relevant).map(|unit| state(unit, false)));
    if ours.is_empty() && findings.is_empty() {
        findings.push(Finding::note("no unit of systemd starts nodegate for this profile"));
    }
    findings
}

/// The instance cannot have the port of an active daemon, and fails or starts again and again.
fn needless_unit(daemon: &Unit, instance: &Unit) -> Option<Finding> {
    let name = instance.name();
    let finding = || {
        Finding::warning(format!(
            "{name} is {}, and {} is active",
            instance.get("ActiveState"),
            daemon.name()
        ))
        .because("they want the same port")
        .mend(format!("systemctl disable --now {name}; systemctl reset-failed {name}"))
    };
    (daemon.is_active() && matches!(instance.get("ActiveState"), "failed" | "activating")).then(finding)
}

fn original_is_next(subject: &Subject, daemon: &str) -> Finding {
    Finding::note(format!("{daemon} starts the original: no drop-in of nodegate is in effect"))
        .because("the package that takes the port over is not installed, or its drop-in is hidden")
        .mend(format!("{} # systemctl cat {daemon} shows the unit", subject.takeover()))
}

/// A takeover that waits for its confirmation.
fn on_trial(subject: &Subject, unit: &Unit) -> Option<Finding> {
    let is_trial = |path: &str| path.ends_with("/nodegate-trial.conf");
    let command = |verb| command_line(verb, &subject.profile, &ConfigSources::default());
    let finding = || {
        Finding::note(format!("{} runs nodegate on trial", unit.name()))
            .because("the original gets its port back unless you confirm")
            .mend(format!("{} --confirm # or go back: {}", command("takeover"), command("giveback")))
    };
    unit.get("DropInPaths").split_whitespace().any(is_trial).then(finding)
}

/// A unit that starts nodegate.
fn of_unit(subject: &Subject, unit: &Unit) -> Vec<Finding> {
    let name = unit.name();
    let mut findings = vec![state(unit, true)];
    let restarts: u32 = unit.get("NRestarts").parse().unwrap_or_default();
    if restarts > 0 && unit.is_active() {
        findings.push(
            Finding::warning(format!("systemd restarted {name} {restarts} times"))
                .because("each restart closes all consoles and uploads")
                .mend(format!("journalctl -u {name} -n 200")),
        );
    }
    if unit.get("NeedDaemonReload") == "yes" {
        findings.push(
            Finding::warning(format!("the files of {name} have changed since systemd read them"))
                .because("your change is not in effect")
                .mend("systemctl daemon-reload"),
        );
    }
    if unit.get("UnitFileState") == "disabled" {
        findings.push(
            Finding::warning(format!("{name} does not start at boot"))
                .because("after a reboot nothing listens")
                .mend(format!("systemctl enable {name}")),
        );
    }
    findings.extend(sandbox::evaluate(subject, unit));
    findings
}

fn state(unit: &Unit, is_proxy: bool) -> Finding {
    let name = unit.name();
    let why = if is_proxy {
        "nodegate serves no client"
    } else {
        "the daemon with root answers its calls, and pages that only the worker renders fail"
    };
    let broken = |what: String| if is_proxy { Finding::error(what) } else { Finding::warning(what) };
    let log = format!("journalctl -u {name} -n 50");
    match (unit.get("ActiveState"), unit.get("SubState")) {
        ("active" | "reloading", _) => Finding::ok(format!("{name} is active")),
        ("failed", _) => broken(format!("{name} has failed ({})", unit.get("Result")))
            .because(why)
            .mend(format!("{log}; systemctl reset-failed {name} && systemctl start {name}")),
        ("activating", "auto-restart") => {
            broken(format!("{name} ends again and again ({})", unit.get("Result"))).because(why).mend(log)
        }
        ("activating" | "deactivating", sub) => Finding::note(format!("{name} is changing: {sub}"))
            .because("it starts or stops in this moment")
            .mend(format!("systemctl status {name}")),
        (other, _) => Finding::warning(format!("{name} is {other}"))
            .because(why)
            .mend(format!("systemctl start {name}")),
    }
}

#[cfg(test)]
mod tests;

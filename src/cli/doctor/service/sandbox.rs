//! Whether the properties in effect are those of the packages' units. A drop-in of the admin may undo them.

use super::Unit;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::subject::Subject;
use crate::config::settings::Settings;

/// The properties of the sandbox, and the value that the packages set.
const EXPECTED: &[(&str, &str)] = &[
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectControlGroups", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictRealtime", "yes"),
];

/// What a service without root needs to listen on a port of `LOW_PORTS`.
const LOW_PORT_CAPABILITY: &str = "cap_net_bind_service";
/// Ports that need a privilege (ip(7), `ip_unprivileged_port_start`).
pub(in crate::cli::doctor) const LOW_PORTS: std::ops::Range<u16> = 1..1024;

pub(super) const PROPERTIES: &[&str] = &[
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "ProtectSystem",
    "ProtectHome",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectControlGroups",
    "MemoryDenyWriteExecute",
    "LockPersonality",
    "RestrictSUIDSGID",
    "RestrictRealtime",
];

pub(super) fn evaluate(subject: &Subject, unit: &Unit) -> Vec<Finding> {
    let is_needed = |name: &str, found: &str| {
        name == "CapabilityBoundingSet"
            && found.eq_ignore_ascii_case(LOW_PORT_CAPABILITY)
            && has_low_port(&subject.config.settings)
    };
    // An older systemd does not know every property.
    let is_undone = |(name, value): &&(&str, &str)| {
        unit.0.get(*name).is_some_and(|found| found != value && !is_needed(name, found))
    };
    let names: Vec<_> = EXPECTED.iter().filter(is_undone).map(|(name, _)| *name).collect();
    let undone: Vec<_> = names.iter().map(|name| format!("{name}={}", shown(unit.get(name)))).collect();
    let mut findings = Vec::new();
    if undone.is_empty() {
        findings.push(Finding::ok(format!("the sandbox of {} is in effect", unit.name())));
    } else {
        let own = unit.own_drop_ins();
        let by = if own.is_empty() { String::new() } else { format!(" ({})", own.join(", ")) };
        findings.push(
            Finding::warning(format!(
                "the sandbox of {} is not whole: {}{by}",
                unit.name(),
                undone.join(", ")
            ))
            .because("if a flaw of nodegate is used, more of this machine can be reached than necessary")
            .mend(mend(unit, &names, &own)),
        );
    }
    if matches!(unit.get("User"), "" | "root") {
        findings.push(
            Finding::note(format!("{} starts as root; nodegate becomes its user by itself", unit.name()))
                .because("the packages' units start it as the serving user")
                .mend(format!("systemctl cat {}", unit.name())),
        );
    }
    findings
}

/// Whether a listener of the settings has a port that needs the capability.
fn has_low_port(settings: &Settings) -> bool {
    settings.listeners.iter().any(|listener| LOW_PORTS.contains(&listener.listen.port))
}

/// Removes the lines from the drop-ins of the admin.
fn mend(unit: &Unit, names: &[&str], own: &[&str]) -> String {
    if own.is_empty() {
        return format!("systemctl cat {}", unit.name());
    }
    let lines = names.join("|");
    format!(
        "sed -i -E '/^({lines})=/d' {} && systemctl daemon-reload && systemctl restart {}",
        own.join(" "),
        unit.name()
    )
}

/// A set of many capabilities would fill the line.
fn shown(value: &str) -> String {
    let mut words = value.split_whitespace();
    match (words.next(), words.count()) {
        (Some(first), more @ 1..) => format!("{first} and {more} more"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

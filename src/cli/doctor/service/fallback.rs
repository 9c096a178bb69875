//! The unit that runs the original after nodegate has failed.

use super::Unit;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::subject::Subject;
use crate::config::ConfigSources;
use crate::config::command_line::command_line;

/// `None` if nodegate did not fail.
pub(super) fn evaluate(subject: &Subject, fallback: &Unit, daemon: &Unit) -> Option<Finding> {
    if fallback.is_active() {
        Some(original_runs(subject, fallback))
    } else if fallback.get("ActiveState") == "failed" && !daemon.is_active() {
        Some(nothing_runs(subject, fallback))
    } else {
        None
    }
}

fn original_runs(subject: &Subject, fallback: &Unit) -> Finding {
    let daemon = &subject.config.product.daemon;
    Finding::error(format!("nodegate or a page of it failed, and the original {daemon} runs in its place"))
        .because("clients reach the original until you stop the fall-back or reboot")
        .mend(format!(
            "journalctl -u {daemon} -u nodegate-fallback@{daemon} -n 50 # when it is repaired: systemctl stop {}",
            fallback.name()
        ))
}

/// nodegate failed, and so did the original in its place.
fn nothing_runs(subject: &Subject, fallback: &Unit) -> Finding {
    let daemon = &subject.config.product.daemon;
    let takeover = command_line("takeover", &subject.profile, &ConfigSources::default());
    Finding::error(format!("nodegate failed, and so did the original {daemon} in its place: nothing serves"))
        .because("both use the same certificates and keys; the unit starts only the original until you take over again")
        .mend(format!(
            "journalctl -u {daemon} -u {} -n 50 # when it is repaired: systemctl start {daemon} && {takeover}",
            fallback.name()
        ))
}

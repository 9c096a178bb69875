//! The running nodegate: whether it answers, its version, its last reload, and the failures that it counted.

use procfs::process::Process;

use super::finding::Finding;
use super::subject::{StatusAnswer, Subject};
use crate::cli::absence;
use crate::cli::port_owner::Owner;
use crate::metrics::report::{StatusReport, seconds_since_1970};
use crate::metrics::upstreams::UpstreamReport;
use crate::os::log_file::{self, NOT_LOGGED};

/// An older failure of a daemon or a node explains nothing now.
const RECENT_SECONDS: u64 = 600;
/// The kernel writes it behind the path of a program whose file is gone.
const DELETED: &str = " (deleted)";

/// The inputs of the evaluation besides the status.
struct Facts {
    /// the process of the pid file
    pid: Option<u32>,
    /// whether the program file of the running process was replaced
    is_replaced: bool,
    now: u64,
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    if let Some(original) = subject.original() {
        return vec![original_serves(subject, original)];
    }
    let status = subject.status();
    let is_replaced = status.report().is_some_and(|report| is_replaced(report.pid));
    let facts = Facts { pid: subject.pid_file_process(), is_replaced, now: seconds_since_1970() };
    evaluate(subject, status, &facts)
}

fn original_serves(subject: &Subject, original: &Owner) -> Finding {
    let daemon = &subject.config.product.daemon;
    Finding::note(absence::serves_instead(&subject.config, original))
        .because(
            "so it is before a takeover, after `nodegate giveback`, after a trial that failed, and while a \
             fall-back is active; the settings of nodegate have no effect",
        )
        .mend(format!(
            "{} # if nodegate served before: journalctl -n 50 -u nodegate-trial@{daemon} -u nodegate-fallback@{daemon}",
            subject.takeover()
        ))
}

fn is_replaced(pid: u32) -> bool {
    let program = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()?.exe().ok());
    program.is_some_and(|path| path.to_string_lossy().ends_with(DELETED))
}

fn evaluate(subject: &Subject, status: &StatusAnswer, facts: &Facts) -> Vec<Finding> {
    match status {
        StatusAnswer::Running(report) => running(subject, report, facts),
        StatusAnswer::Silent(reason) => vec![
            Finding::error(format!("the control socket accepts a connection, but nothing answers: {reason}"))
                .because("the main thread of nodegate hangs, so it reloads no settings and no certificate")
                .mend(format!("journalctl -u {0} -n 100; systemctl restart {0}", subject.unit())),
        ],
        StatusAnswer::Forbidden(reason) => vec![
            Finding::note(format!("the running nodegate was not asked: {reason}"))
                .because("only root and the serving user may ask it")
                .mend(format!("sudo {}", subject.command("doctor"))),
        ],
        StatusAnswer::Absent(reason) => vec![absent(subject, reason, facts)],
    }
}

fn absent(subject: &Subject, reason: &str, facts: &Facts) -> Finding {
    let name = &subject.config.product.name;
    let (what, mend) = match facts.pid {
        Some(pid) => (
            format!("nodegate runs for {name} as pid {pid}, but its control socket is gone ({reason})"),
            format!("{} # opens it again", subject.command("reload")),
        ),
        None => (
            format!("nodegate does not run for {name} ({reason})"),
            format!("systemctl start {}", subject.unit()),
        ),
    };
    Finding::warning(what)
        .because(
            "the doctor sees nothing of its counters, reloads and certificates; for a trial give it the same --set \
             listen.port=PORT",
        )
        .mend(mend)
}

fn running(subject: &Subject, report: &StatusReport, facts: &Facts) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![Finding::ok(format!(
        "nodegate {} runs, pid {}, {} requests, {} connections open",
        report.version, report.pid, report.requests.total, report.connections.open
    ))];
    let reload = subject.command("reload");
    if report.version != own {
        findings.push(
            Finding::warning(format!("nodegate {} runs, and this program is {own}", report.version))
                .because("a process keeps its version until a reload starts the new program")
                .mend(&*reload),
        );
    } else if facts.is_replaced {
        findings.push(
            Finding::warning("the program file of the running nodegate was replaced")
                .because("the old program serves until a reload")
                .mend(&*reload),
        );
    }
    findings.extend(of_reloads(subject, report));
    findings.extend(report.certificate_problems.iter().map(|problem| {
        Finding::warning(format!("a certificate of the running nodegate: {problem}"))
            .because("clients get the certificate that was loaded before, or none")
            .mend(format!("{} && {reload}", subject.command("check")))
    }));
    // A missing directory is among the settings' findings.
    let is_found = log_file::missing_directory(&subject.config).is_some();
    let not_logged = report.problems.iter().filter(|problem| !is_found && problem.contains(NOT_LOGGED));
    findings.extend(not_logged.map(|problem| {
        Finding::error(problem).because("fail2ban sees no failed login").mend(format!(
            "systemctl edit {0} # add ReadWritePaths= with the directory of log.access, then: systemctl restart {0}",
            subject.unit()
        ))
    }));
    findings.extend(report.limits.iter().filter(|limit| limit.recent > 0).map(|limit| {
        Finding::note(format!(
            "the limit '{}' was exceeded {} times within 15 minutes",
            limit.limit, limit.recent
        ))
        .because("these clients were rejected")
        .mend(subject.command("status"))
    }));
    if report.draining {
        findings.push(
            Finding::warning("the running nodegate drains: it accepts no more connections")
                .because("another process serves, or the service is about to stop")
                .mend(format!("systemctl status {}", subject.unit())),
        );
    }
    findings.extend(report.upstreams.iter().filter_map(|upstream| of_failures(subject, upstream, facts.now)));
    findings
}

fn of_reloads(subject: &Subject, report: &StatusReport) -> Vec<Finding> {
    let (check, reload) = (subject.command("check"), subject.command("reload"));
    let mut findings = Vec::new();
    if let Some(last) = &report.last_reload {
        if let Some(until) = last.unconfirmed_until {
            let left = until.saturating_sub(seconds_since_1970());
            findings.push(
                Finding::note(format!("the last reload is reverted in {left} s unless it is confirmed"))
                    .mend(subject.command("confirm")),
            );
        } else if !last.problems.is_empty() && report.reverted.is_empty() {
            findings.push(
                Finding::error(format!("the last reload was refused: {}", last.problems.join("; ")))
                    .because("the settings and certificates from before are in effect")
                    .mend(format!("{check} && {reload}")),
            );
        }
    }
    if !report.reverted.is_empty() {
        findings.push(
            Finding::warning(format!(
                "a reload was reverted, and the files still hold: {}",
                report.reverted.join("; ")
            ))
            .because("a restart puts these settings in effect")
            .mend(format!("correct the files, then: {check} && {reload}")),
        );
    }
    findings
}

fn of_failures(subject: &Subject, upstream: &UpstreamReport, now: u64) -> Option<Finding> {
    let last = upstream.health.last_failure.as_ref()?;
    let age = now.saturating_sub(last.at);
    let number = last.request.as_ref().map(|request| format!("journalctl REQUEST={request}"));
    (age <= RECENT_SECONDS).then(|| {
        Finding::note(format!(
            "{}: {} requests failed, the last {age} s ago: {}",
            upstream.name, upstream.health.failed, last.cause
        ))
        .because("its users got an error with a number")
        .mend(number.unwrap_or_else(|| subject.command("status")))
    })
}

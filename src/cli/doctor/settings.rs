//! Everything that `nodegate check` finds.

use super::finding::{Finding, Level};
use super::subject::Subject;
use crate::cli::check::Checked;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    match subject.check() {
        Ok(checked) => evaluate(subject, checked),
        Err(problems) => unusable(&subject.profile, problems),
    }
}

/// The profile itself cannot be used.
pub(super) fn unusable(profile: &str, problems: &[Diagnostic]) -> Vec<Finding> {
    let finding = |problem: &Diagnostic| {
        Finding::error(problem.to_string())
            .because("without a profile nodegate cannot start, and the doctor can look at nothing more")
            .mend(format!("correct it, then: nodegate check {profile}"))
    };
    problems.iter().map(finding).collect()
}

fn evaluate(subject: &Subject, checked: &Checked) -> Vec<Finding> {
    let mut findings: Vec<_> =
        checked.errors.iter().chain(&checked.warnings).map(|problem| of_problem(subject, problem)).collect();
    if findings.iter().all(|finding| finding.level != Level::Error) {
        findings.push(Finding::ok(format!("{} settings are good", checked.lines.len())));
    }
    findings.extend(
        checked
            .certificates
            .iter()
            .map(|certificate| Finding::ok(format!("certificate {}", certificate.file))),
    );
    findings
}

/// The message of `check` has file, line and key.
fn of_problem(subject: &Subject, problem: &Diagnostic) -> Finding {
    let (check, reload) = (subject.command("check"), subject.command("reload"));
    let mend = match &problem.origin {
        ValueOrigin::File { path, line: Some(line) } => {
            format!("edit {} line {line}, then: {check} && {reload}", path.display())
        }
        ValueOrigin::File { path, line: None } => {
            format!("look at {}, then: {check} && {reload}", path.display())
        }
        ValueOrigin::Environment(name) => {
            format!("correct the variable {name} of the service, then restart it")
        }
        ValueOrigin::CommandLine => "correct the --set option".to_owned(),
        ValueOrigin::Profile => format!("correct it, then: {check}"),
    };
    if problem.is_error() {
        Finding::error(problem.to_string())
            .because("users feel it: nodegate does not start or reload with it, or answers some requests with an error")
            .mend(mend)
    } else {
        Finding::warning(problem.to_string()).because("nodegate serves in spite of it").mend(mend)
    }
}

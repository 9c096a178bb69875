//! Everything that `nodegate check` finds.

use super::finding::{Finding, Level};
use super::subject::Subject;
use crate::cli::check::{Checked, MISSING_DIRECTORY_KEY};
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
    let is_directory = |problem: &&Diagnostic| problem.key == MISSING_DIRECTORY_KEY;
    let (directories, others): (Vec<_>, Vec<_>) = checked.warnings.iter().partition(is_directory);
    let problems = checked.errors.iter().chain(others);
    let mut findings: Vec<_> = problems.map(|problem| of_problem(subject, problem)).collect();
    findings.extend(missing_directories(subject, &directories));
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

/// One finding for all: a package that is not installed lacks several.
fn missing_directories(subject: &Subject, warnings: &[&Diagnostic]) -> Option<Finding> {
    let (first, more) = warnings.split_first()?;
    let what = match more.len() {
        0 => first.message.clone(),
        count => format!("{}; so are {count} more of the profile's directories", first.message),
    };
    let mend =
        format!("install the packages of the product that have them; the list: {}", subject.command("check"));
    Some(Finding::warning(what).because("clients get 404 for the files in them").mend(mend))
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
        Finding::warning(problem.to_string())
            .because("nodegate serves, or can start, in spite of it")
            .mend(mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_one_finding() {
        let subject = Subject::of_test("pve");
        let warning = |url: &str| {
            let message = format!("{url} is served from /srv{url}, which is missing");
            Diagnostic::warning(ValueOrigin::Profile, MISSING_DIRECTORY_KEY, message)
        };
        let warnings = ["/a/", "/b/", "/c/"].map(warning);
        let warnings: Vec<_> = warnings.iter().collect();
        let what = |warnings| missing_directories(&subject, warnings).map(|finding| finding.what);
        assert_eq!(what(&[]), None);
        let one = "/a/ is served from /srv/a/, which is missing";
        assert_eq!(what(&warnings[..1]).as_deref(), Some(one));
        let expected = format!("{one}; so are 2 more of the profile's directories");
        assert_eq!(what(&warnings), Some(expected));
    }
}

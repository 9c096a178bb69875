//! The installed product's version, against the one that the profile was made from.

use std::process::Command;
use std::time::Duration;

use super::deadline::{self, ProgramError};
use super::finding::Finding;
use super::subject::Subject;

const PROGRAM_TIMEOUT: Duration = Duration::from_secs(4);

/// The state of one package.
#[derive(Debug, Eq, PartialEq)]
enum Installed {
    Version(String),
    No,
    Unknown(String),
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let packages = &subject.config.product.doctor.packages;
    if packages.is_empty() {
        return vec![Finding::ok("the profile names no package of the product")];
    }
    packages
        .iter()
        .map(|(package, made_from)| evaluate(package, made_from, &installed(subject, package)))
        .collect()
}

pub(super) fn query(subject: &Subject, package: &str) -> Result<String, ProgramError> {
    let mut command = Command::new("dpkg-query");
    command.arg("--root").arg(subject.config.root.path("/"));
    command.args(["--show", "--showformat", "${db:Status-Status} ${Version}", "--", package]);
    deadline::output(&mut command, PROGRAM_TIMEOUT)
}

fn installed(subject: &Subject, package: &str) -> Installed {
    match query(subject, package) {
        Ok(text) => match text.split_once(' ') {
            Some(("installed", version)) => Installed::Version(version.to_owned()),
            Some(_) | None => Installed::No,
        },
        Err(ProgramError::Failed(_)) => Installed::No,
        Err(ProgramError::Missing) => Installed::Unknown("dpkg-query is not installed".to_owned()),
        Err(ProgramError::TooSlow) => Installed::Unknown("dpkg-query does not answer".to_owned()),
    }
}

fn evaluate(package: &str, made_from: &str, installed: &Installed) -> Finding {
    match installed {
        Installed::Unknown(reason) => {
            Finding::note(format!("the version of {package} is not known: {reason}"))
        }
        Installed::No => Finding::note(format!("{package} is not installed")).because(
            "without the product there are no pages, and the daemon of the settings answers the API",
        ),
        Installed::Version(version) => compare(package, made_from, version),
    }
}

fn compare(package: &str, made_from: &str, version: &str) -> Finding {
    let (ours, theirs) = (numbers(made_from), numbers(version));
    let what = format!("{package} {version} is installed, and the route table is that of {made_from}");
    let mend = "apt list --upgradable nodegate; nodegate route PROFILE METHOD PATH shows where a call goes";
    if ours.first() != theirs.first() {
        return Finding::warning(what)
            .because("calls may have moved, and a call that is not in the table follows the rule for unknown paths")
            .mend(mend);
    }
    if theirs > ours {
        return Finding::note(what)
            .because("a call that is new since then follows the rule for unknown paths")
            .mend(mend);
    }
    Finding::ok(format!("{package} {version} (route table of {made_from})"))
}

/// `9.2.11-1~bpo` without epoch: 9, 2, 11.
fn numbers(version: &str) -> Vec<u32> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let digits = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    digits.split('.').map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let level = |version: &str| compare("p", "9.2.11", version).level;
        for (version, expected) in [
            ("9.2.11", Level::Ok),
            ("9.2.9", Level::Ok),
            ("9.2.12", Level::Note),
            ("9.10.0-1", Level::Note),
            ("8.4.1", Level::Warning),
            ("1:9.2.11-1~bpo12", Level::Ok),
            ("10.0.0", Level::Warning),
        ] {
            assert_eq!(level(version), expected, "{version}");
        }
        assert_eq!(evaluate("p", "9.2.11", &Installed::No).level, Level::Note);
    }
}

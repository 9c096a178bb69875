//! The installed product's version, against the one that the profile was made from.

use super::finding::Finding;
use super::subject::Subject;
use crate::cli::package::{self, PackageState};
use crate::config::loaded_routes::RouteSource;

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let product = &subject.config.product;
    let mut findings: Vec<_> = product
        .doctor
        .packages
        .keys()
        .map(|package| {
            evaluate(&Table::new(subject, package), &package::state(&subject.config.root, package))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("the profile names no package of the product"));
    }
    if subject.config.routes.source != RouteSource::Absent {
        findings.push(Finding::ok(format!("the route table: {}", subject.config.routes.describe(product))));
    }
    findings
}

/// The route table in use, for one package.
struct Table<'a> {
    package: &'a str,
    /// the version of the package that it was made from
    made_from: Option<&'a str>,
    /// the version of the table of the profile, if a file replaces it
    replaced: Option<&'a str>,
    /// the command that shows the differences
    diff: String,
}

impl<'a> Table<'a> {
    fn new(subject: &'a Subject, package: &'a str) -> Self {
        let (config, product) = (&subject.config, &subject.config.product);
        let made_from = config.routes.made_from(product).get(package).map(String::as_str);
        let replaced = match &config.routes.source {
            RouteSource::Setting(_) => product.doctor.packages.get(package).map(String::as_str),
            RouteSource::Absent | RouteSource::BuiltIn | RouteSource::Profile(_) => None,
        };
        Self { package, made_from, replaced, diff: subject.command("profile-diff") }
    }
}

fn evaluate(table: &Table<'_>, installed: &PackageState) -> Finding {
    let package = table.package;
    match installed {
        PackageState::Unknown(reason) => {
            Finding::note(format!("the version of {package} is not known: {reason}"))
        }
        PackageState::Absent => Finding::note(format!("{package} is not installed")).because(
            "without the product there are no pages, and the daemon of the settings answers the API",
        ),
        PackageState::Installed(version) => compare(table, version),
    }
}

fn compare(table: &Table<'_>, version: &str) -> Finding {
    let (package, diff) = (table.package, &table.diff);
    let Some(made_from) = table.made_from else {
        let what = format!(
            "{package} {version} is installed, and the file of routes.file does not name its version"
        );
        return Finding::note(what).because("only a comparison shows whether it fits").mend(diff);
    };
    if let Some(replaced) = table.replaced.filter(|replaced| numbers(replaced) > numbers(made_from)) {
        let what =
            format!("routes.file is made from {package} {made_from}, and the built-in table from {replaced}");
        return Finding::note(what)
            .because("the file was made for an older version, and it replaces the newer table")
            .mend(format!("{diff} --set routes.file= # if nothing differs, remove the setting"));
    }
    let (ours, theirs) = (numbers(made_from), numbers(version));
    let what = format!("{package} {version} is installed, and the route table is that of {made_from}");
    if ours.first() != theirs.first() {
        return Finding::warning(what)
            .because("calls may have moved, and a call that is not in the table follows the rule for unknown paths")
            .mend(diff);
    }
    if theirs > ours {
        return Finding::note(what)
            .because("a call that is new since then follows the rule for unknown paths")
            .mend(diff);
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

    fn table(made_from: Option<&'static str>, replaced: Option<&'static str>) -> Table<'static> {
        Table { package: "p", made_from, replaced, diff: "diff".to_owned() }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let level = |version: &str| compare(&table(Some("9.2.11"), None), version).level;
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
        assert_eq!(evaluate(&table(Some("9.2.11"), None), &PackageState::Absent).level, Level::Note);
    }

    #[test]
    fn a_file_of_routes_has_its_own_version() {
        for (made_from, replaced, expected) in [
            (Some("9.2.12"), "9.2.11", Level::Ok),
            (Some("9.2.12"), "9.2.13", Level::Note),
            (Some("9.2.11"), "9.2.11", Level::Note),
            (None, "9.2.11", Level::Note),
        ] {
            assert_eq!(compare(&table(made_from, Some(replaced)), "9.2.12").level, expected, "{made_from:?}");
        }
    }
}

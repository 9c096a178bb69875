//! Everything that `nodegate check` finds.

use super::finding::{Finding, Level};
use super::subject::Subject;
use crate::cli::check::{Checked, LEFT_OUT, MISSING_DIRECTORY_KEY, NO_LOGIN};
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::handler::page::{NOT_INSTALLED, RENDERED_BY_WORKER};
use crate::os::log_file::NOT_LOGGED;

/// In the message about a file that the serving user cannot read.
const UNREADABLE: &str = "' cannot read it (mode ";

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
    let (certificates, errors): (Vec<_>, Vec<_>) =
        checked.errors.iter().partition(|problem| is_missing_certificate(subject, problem));
    let mut findings: Vec<_> = missing_certificates(subject, &certificates).into_iter().collect();
    findings.extend(errors.into_iter().chain(others).map(|problem| of_problem(subject, problem)));
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

/// A file of the profile's own certificates is not there, and no other pair is served.
fn is_missing_certificate(subject: &Subject, problem: &Diagnostic) -> bool {
    let ValueOrigin::File { path, line: None } = &problem.origin else { return false };
    let config = &subject.config;
    let mut files = config.product.certificate.iter().flat_map(|pair| [Some(&pair.file), pair.key.as_ref()]);
    problem.message.starts_with("is missing")
        && files.any(|file| file.is_some_and(|file| config.root.path(file) == *path))
}

/// One finding for all pairs: the node needs only one of them.
fn missing_certificates(subject: &Subject, errors: &[&Diagnostic]) -> Option<Finding> {
    let files: Vec<_> = errors.iter().map(|problem| problem.origin.to_string()).collect();
    let what = match &files[..] {
        [] => return None,
        [file] => format!("there is no certificate to serve: {file} is missing"),
        files => {
            format!("there is no certificate to serve: {} are missing; one is enough", files.join(" and "))
        }
    };
    let renew = &subject.config.product.doctor.renew_certificate;
    let mend = renew.clone().unwrap_or_else(|| format!("put it there, then: {}", subject.command("check")));
    Some(Finding::error(what).because("nodegate does not start without a certificate").mend(mend))
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

/// The commands that put a change into effect. While the original serves, there is nothing to reload.
fn apply(subject: &Subject) -> String {
    let check = subject.command("check");
    if subject.original().is_some() { check } else { format!("{check} && {}", subject.command("reload")) }
}

/// The programs that write and publish the keys of tickets.
fn restore_keys(subject: &Subject) -> String {
    let doctor = &subject.config.product.doctor;
    let restarts = [&doctor.restart_cluster, &doctor.restart_daemon].into_iter().flatten().cloned();
    let commands: Vec<_> = restarts.chain([subject.command("check")]).collect();
    format!("put the file back, or let the product make it: {}", commands.join("; "))
}

/// The message of `check` has file, line and key.
fn of_problem(subject: &Subject, problem: &Diagnostic) -> Finding {
    let check = subject.command("check");
    let apply = apply(subject);
    let mend = match &problem.origin {
        _ if problem.message.contains(LEFT_OUT) => {
            "nothing, or try it on another port: --set or another settings file".to_owned()
        }
        ValueOrigin::File { path, line: Some(line) } => {
            format!("edit {} line {line}, then: {apply}", path.display())
        }
        ValueOrigin::File { path, line: None } if problem.message.contains(UNREADABLE) => {
            let (user, path) = (&subject.config.settings.user, path.display());
            format!("chgrp \"$(id -gn {user})\" {path} && chmod g+r {path} && {apply}")
        }
        ValueOrigin::File { path, line: None } if !path.exists() => {
            format!("put {} in its place, then: {apply}", path.display())
        }
        ValueOrigin::File { path, line: None } => {
            format!("look at {}, then: {apply}", path.display())
        }
        ValueOrigin::Environment(name) => {
            format!("correct the variable {name} of the service, then restart it")
        }
        ValueOrigin::CommandLine => "correct the --set option".to_owned(),
        ValueOrigin::Profile if problem.message.ends_with(NOT_INSTALLED) => {
            "install the package that has this file; without it only this page is missing".to_owned()
        }
        ValueOrigin::Profile if problem.message.ends_with(RENDERED_BY_WORKER) => {
            "nothing is broken: browsers get this page; report its template".to_owned()
        }
        ValueOrigin::Profile if problem.message.starts_with(NO_LOGIN) => restore_keys(subject),
        ValueOrigin::Profile => format!("correct it, then: {check}"),
    };
    if problem.message.starts_with(NO_LOGIN) {
        Finding::error(problem.text())
            .because("users feel it: every login and every request with a ticket gets an error")
            .mend(mend)
    } else if problem.message.starts_with(NOT_LOGGED) {
        Finding::error(problem.text()).because("fail2ban sees no failed login").mend(mend)
    } else if problem.is_error() {
        Finding::error(problem.text())
            .because("users feel it: nodegate does not start or reload with it, or answers some requests with an error")
            .mend(mend)
    } else {
        Finding::warning(problem.text()).because("nodegate serves, or can start, in spite of it").mend(mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_certificates_are_one_finding() {
        let subject = Subject::of_test("pve");
        let missing = |file: &str| Diagnostic::file_error(file, "is missing");
        let own = ["/etc/pve/local/pveproxy-ssl.pem", "/etc/pve/local/pve-ssl.pem"].map(missing);
        assert!(own.iter().all(|problem| is_missing_certificate(&subject, problem)));
        assert!(!is_missing_certificate(&subject, &missing("/etc/pve/authkey.pub")));
        assert!(!is_missing_certificate(
            &subject,
            &Diagnostic::file_error("/etc/pve/local/pve-ssl.pem", "is empty")
        ));
        assert!(missing_certificates(&subject, &[]).is_none());
        let finding = missing_certificates(&subject, &own.iter().collect::<Vec<_>>()).unwrap();
        let expected = "there is no certificate to serve: /etc/pve/local/pveproxy-ssl.pem and \
                        /etc/pve/local/pve-ssl.pem are missing; one is enough";
        assert_eq!((finding.what.as_str(), finding.level), (expected, Level::Error));
        assert_eq!(finding.mend.as_deref(), Some("pvecm updatecerts --force"));
    }

    #[test]
    fn files_and_packages_have_their_own_mend() {
        let subject = Subject::of_test("pve");
        let mend = |problem: &Diagnostic| of_problem(&subject, problem).mend.unwrap_or_default();
        let key =
            Diagnostic::file_error("/k", "user 'www-data' cannot read it (mode 0600): a reload is refused");
        assert!(
            mend(&key).starts_with("chgrp \"$(id -gn www-data)\" /k && chmod g+r /k && nodegate check pve")
        );
        let message = "page / cannot be rendered: /t: No such file; its package is not installed";
        let page = Diagnostic::warning(ValueOrigin::Profile, "product.page", message);
        assert!(mend(&page).starts_with("install the package that has this file"));
        let message =
            format!("page / cannot be rendered: x; the worker at 127.0.0.1:86 {RENDERED_BY_WORKER}");
        let rendered = Diagnostic::warning(ValueOrigin::Profile, "product.page", message);
        assert!(mend(&rendered).starts_with("nothing is broken"));
        let there = Diagnostic::file_error("/proc/version", "is no certificate");
        assert_eq!(mend(&there).split(',').next(), Some("look at /proc/version"));
        let missing = Diagnostic::file_error("/no/such/file", "is missing");
        assert_eq!(mend(&missing).split(',').next(), Some("put /no/such/file in its place"));
        assert!(!of_problem(&subject, &page).what.contains("warning"));
    }

    #[test]
    fn what_users_feel_is_an_error() {
        let subject = Subject::of_test("pve");
        let key = Diagnostic::warning(ValueOrigin::Profile, "product", format!("{NO_LOGIN}/k: missing"));
        let finding = of_problem(&subject, &key);
        assert_eq!((finding.level, finding.what.contains("warning")), (Level::Error, false));
        let mend = finding.mend.unwrap();
        assert!(
            mend.contains("systemctl restart pve-cluster; systemctl restart pvedaemon; nodegate check"),
            "{mend}"
        );
        let origin = ValueOrigin::File { path: "/s.toml".into(), line: Some(2) };
        let log =
            Diagnostic::warning(origin, "log.access", format!("{NOT_LOGGED}the directory /x does not exist"));
        let finding = of_problem(&subject, &log);
        assert_eq!(finding.level, Level::Error);
        assert!(finding.mend.unwrap().starts_with("edit /s.toml line 2, then: "));
    }

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

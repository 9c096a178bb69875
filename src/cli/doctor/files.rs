//! Whether the serving user can write where it has to. `check` tries what it has to read.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, User, access, geteuid};

use super::finding::Finding;
use super::subject::Subject;
use crate::os::other_user::OtherUser;

/// The user that serves, as far as this process can act for it.
enum ServingUser {
    /// this process is the user, or will be: with `--root`
    Own,
    Other(OtherUser),
    /// root writes everywhere
    Root,
    Missing,
}

/// A place to write to, and the consequence if that fails.
struct WrittenPlace {
    path: PathBuf,
    consequence: &'static str,
    /// whether users feel it now; otherwise it is felt later
    is_error: bool,
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let name = subject.config.settings.user.as_str();
    let user = serving_user(subject, name);
    if matches!(user, ServingUser::Missing) {
        return vec![
            Finding::error(format!("there is no user '{name}' on this machine"))
                .because("nodegate becomes this user, and cannot start")
                .mend(format!("adduser --system --group {name}, or set user")),
        ];
    }
    let mut findings: Vec<_> = places(subject)
        .iter()
        .filter(|place| place.path.exists())
        .map(|place| evaluate(place, name, may_write(&user, &place.path)))
        .collect();
    if matches!(&user, ServingUser::Other(_)) && !geteuid().is_root() {
        findings.push(
            Finding::note(format!("permissions were read from owner and mode, not tried as '{name}'"))
                .because("access lists, mount options and security modules may deny more")
                .mend(format!("sudo {}", subject.command("doctor"))),
        );
    }
    findings
}

fn serving_user(subject: &Subject, name: &str) -> ServingUser {
    if !subject.is_system()
        || User::from_name(name).ok().flatten().is_some_and(|user| user.uid == Uid::effective())
    {
        return ServingUser::Own;
    }
    match OtherUser::find(name) {
        Some(user) => ServingUser::Other(user),
        None if name == "root" => ServingUser::Root,
        None => ServingUser::Missing,
    }
}

fn may_write(user: &ServingUser, path: &Path) -> bool {
    match user {
        ServingUser::Own => access(path, AccessFlags::W_OK).is_ok(),
        ServingUser::Other(user) => user.may_write(path),
        ServingUser::Root | ServingUser::Missing => true,
    }
}

fn places(subject: &Subject) -> Vec<WrittenPlace> {
    let config = &subject.config;
    let log = config.settings.access_log.clone();
    let log_directory = log.as_ref().and_then(|log| Some(log.parent()?.to_owned()));
    let spool = config.product.upload.as_ref();
    let spool = spool.and_then(|upload| Some(config.root.path(&upload.spool).parent()?.to_owned()));
    let run = config.product.pid_file.as_ref().map(|path| config.root.path(path));
    let run = run.and_then(|path| Some(path.parent()?.to_owned()));
    let place = |path: Option<PathBuf>, consequence, is_error| {
        path.map(|path| WrittenPlace { path, consequence, is_error })
    };
    let all = [
        place(log, "no request is logged, and fail2ban sees no failed login", true),
        place(log_directory, "after a rotation no new log can be opened", false),
        place(spool, "uploads fail with 500", true),
        place(run, "there is no control socket: `nodegate status` and `reload` do not work", false),
    ];
    all.into_iter().flatten().collect()
}

fn evaluate(place: &WrittenPlace, user: &str, may_write: bool) -> Finding {
    let path = place.path.display();
    if may_write {
        return Finding::ok(format!("'{user}' may write to {path}"));
    }
    let what = format!("user '{user}' cannot write to {path}");
    let finding = if place.is_error { Finding::error(what) } else { Finding::warning(what) };
    finding.because(place.consequence).mend(format!("ls -ld {path}; chown {user}: {path}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_closed_place_has_its_consequence() {
        let place = |is_error| WrittenPlace { path: "/log".into(), consequence: "no log", is_error };
        assert_eq!(evaluate(&place(true), "u", true).level, Level::Ok);
        let (now, later) = (evaluate(&place(true), "u", false), evaluate(&place(false), "u", false));
        assert_eq!((now.level, later.level), (Level::Error, Level::Warning));
        assert_eq!(now.why.as_deref(), Some("no log"));
        assert_eq!(now.mend.as_deref(), Some("ls -ld /log; chown u: /log"));
    }
}

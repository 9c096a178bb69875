//! The clock: key files that were written in the future, a jump since the start of the process, and synchronisation.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use procfs::process::Process;

use super::deadline::{self, ProgramError};
use super::finding::Finding;
use super::subject::Subject;
use crate::os::unix_time::unix_time;

/// The granularity of file systems, and the clocks of other nodes.
const TOLERANCE_SECONDS: i64 = 60;
/// Its bit in a set of capabilities (capabilities(7)).
const CAP_SYS_TIME: u32 = 25;
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(4);

/// A file whose time decides about tickets.
struct DatedFile {
    path: PathBuf,
    /// seconds since it was written; negative for the future
    age: i64,
    /// seconds after which the product writes a new one
    lifetime: Option<i64>,
}

/// The state of the clock by systemd.
#[derive(Debug, Eq, PartialEq)]
enum Synchronisation {
    Yes,
    No,
    Unknown(String),
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let now = unix_time(SystemTime::now());
    let mut findings: Vec<_> = files(subject, now).iter().map(|file| evaluate_file(subject, file)).collect();
    findings.extend(jump(subject).map(evaluate_jump));
    findings.push(evaluate_synchronisation(&synchronisation(), may_be_set()));
    findings
}

fn files(subject: &Subject, now: i64) -> Vec<DatedFile> {
    let product = &subject.config.product;
    let keys = product.auth.iter().flat_map(|auth| {
        let tickets = auth
            .ticket
            .iter()
            .flat_map(|kind| [(Some(&kind.key), kind.key_lifetime), (kind.old_key.as_ref(), None)]);
        tickets.chain([(Some(&auth.csrf.secret), None)])
    });
    let connect = product.connect.iter().map(|connect| (Some(&connect.secret), None));
    let mut files: Vec<DatedFile> = Vec::new();
    for (path, lifetime) in keys.chain(connect).filter_map(|(path, lifetime)| Some((path?, lifetime))) {
        let path = subject.config.root.path(path);
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        if let Ok(modified) = modified
            && files.iter().all(|known| known.path != path)
        {
            files.push(DatedFile { path, age: now.saturating_sub(unix_time(modified)), lifetime });
        }
    }
    files
}

fn evaluate_file(subject: &Subject, file: &DatedFile) -> Finding {
    let path = file.path.display();
    let restart = subject.config.product.doctor.restart_cluster.as_deref();
    if file.age < -TOLERANCE_SECONDS {
        return Finding::error(format!("{path} was written {} in the future", duration(-file.age)))
            .because(
                "this clock is behind, or was ahead when the file was written: tickets from the future are rejected \
                 (401), and the key is not renewed until then",
            )
            .mend(format!("touch {path} # when `timedatectl` shows the right time"));
    }
    match file.lifetime.filter(|lifetime| file.age > lifetime.saturating_mul(2)) {
        Some(lifetime) => Finding::warning(format!(
            "{path} is {} old, and the product writes a new one every {}",
            duration(file.age),
            duration(lifetime)
        ))
        .because("tickets that are older than the key's lifetime are rejected, so the daemon that renews it hangs or has no quorum")
        .mend(restart.map_or_else(|| "start the product's daemon again".to_owned(), str::to_owned)),
        None => Finding::ok(format!("{path} is {} old", duration(file.age.max(0)))),
    }
}

/// Seconds by which the clock moved since the running process wrote its pid file: positive for forwards.
fn jump(subject: &Subject) -> Option<i64> {
    let pid = subject.pid_file_process()?;
    let pid_file = subject.config.root.path(subject.config.product.pid_file.as_ref()?);
    let written = unix_time(std::fs::metadata(pid_file).ok()?.modified().ok()?);
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    let ticks = stat.starttime.checked_div(procfs::ticks_per_second())?;
    let started = i64::try_from(procfs::boot_time_secs().ok()?.saturating_add(ticks)).ok()?;
    // The kernel counts the start from the boot, by the clock of today. A pid file of a successor is younger than its
    // process only by the time of an upgrade.
    Some(started.saturating_sub(written))
}

fn evaluate_jump(jump: i64) -> Finding {
    if jump > TOLERANCE_SECONDS {
        return Finding::warning(format!(
            "the clock moved forwards by {} since nodegate started",
            duration(jump)
        ))
        .because("tickets that were given before the jump may have expired at once")
        .mend("timedatectl # users log in again");
    }
    if jump < -TOLERANCE_SECONDS {
        // The pid file may also be written again long after the start.
        return Finding::note(format!(
            "the pid file is {} younger than its process: the clock moved backwards, or the file was written again",
            duration(-jump)
        ));
    }
    Finding::ok("the clock has not jumped since the daemon started")
}

/// `timedatectl` knows about every program that sets the clock, because the kernel does.
fn synchronisation() -> Synchronisation {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    match deadline::output(&mut command, PROGRAM_TIMEOUT).map(|text| text.trim().to_owned()) {
        Ok(text) if text == "yes" => Synchronisation::Yes,
        Ok(text) if text == "no" => Synchronisation::No,
        Ok(_) => Synchronisation::Unknown("timedatectl does not say it".to_owned()),
        Err(ProgramError::Missing) => Synchronisation::Unknown("timedatectl is not installed".to_owned()),
        Err(ProgramError::TooSlow) => Synchronisation::Unknown("timedatectl does not answer".to_owned()),
        Err(ProgramError::Failed(reason)) => Synchronisation::Unknown(format!("timedatectl: {reason}")),
    }
}

/// Whether a program of this machine may set the clock; most containers have no such program. The first process has the
/// capabilities of the container.
fn may_be_set() -> bool {
    let status = Process::new(1).and_then(|first| first.status());
    let capabilities = status.ok().and_then(|status| status.capbnd);
    capabilities.is_none_or(|set| set & (1 << CAP_SYS_TIME) != 0)
}

fn evaluate_synchronisation(state: &Synchronisation, may_be_set: bool) -> Finding {
    match state {
        Synchronisation::Yes => Finding::ok("the clock is synchronised"),
        Synchronisation::No => Finding::warning("the clock is not synchronised")
            .because("a node whose clock is more than five minutes away rejects the tickets of the others")
            .mend(if may_be_set {
                "apt install chrony && systemctl enable --now chrony && chronyc waitsync 10"
            } else {
                "synchronise the clock of the host; this container may not set it"
            }),
        Synchronisation::Unknown(reason) => {
            Finding::note(format!("whether the clock is synchronised is not known: {reason}"))
        }
    }
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn subject() -> Subject {
        Subject::of_test("pve")
    }

    #[test]
    fn times_of_files_are_compared_with_the_clock() {
        let found =
            |age, lifetime| evaluate_file(&subject(), &DatedFile { path: "/k".into(), age, lifetime });
        let future = found(-3600, None);
        assert!(future.level == Level::Error && future.what.contains("60 min in the future"), "{future:?}");
        assert!(future.mend.is_some_and(|mend| mend.contains("touch /k")));
        assert_eq!(found(-TOLERANCE_SECONDS, None).level, Level::Ok);
        assert_eq!(found(3 * 86_400, Some(86_400)).level, Level::Warning);
        assert_eq!(found(86_401, Some(86_400)).level, Level::Ok, "a rotation may be a little late");
    }

    #[test]
    fn jumps_are_told_apart() {
        let level = |jump| evaluate_jump(jump).level;
        assert_eq!((level(3), level(7200), level(-7200)), (Level::Ok, Level::Warning, Level::Note));
    }

    #[test]
    fn an_unsynchronised_clock_is_a_warning() {
        let mend = |may_be_set| evaluate_synchronisation(&Synchronisation::No, may_be_set).mend.unwrap();
        assert!(mend(true).starts_with("apt install chrony") && mend(false).contains("of the host"));
        let level = |state| evaluate_synchronisation(&state, true).level;
        assert_eq!(level(Synchronisation::Yes), Level::Ok);
        assert_eq!(level(Synchronisation::No), Level::Warning);
        assert_eq!(level(Synchronisation::Unknown("no".to_owned())), Level::Note);
    }
}

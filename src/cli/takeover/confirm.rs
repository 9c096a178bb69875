//! `nodegate takeover PROFILE --confirm`: the guard compares once more, then nodegate keeps the port.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::comparison::ComparisonReport;
use super::sample::ROUND_TIMEOUT;
use super::subject::Subject;
use super::switch;
use super::unit_files::Placement;
use super::{end_guard, fail, say};

/// Longer than a comparison that has just begun, and the one after it.
const MARGIN: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn after_comparison(subject: &Subject) -> ExitCode {
    match compare(subject) {
        Ok(()) => keep(subject),
        Err(message) => fail(&message),
    }
}

/// Makes the trial permanent.
pub(super) fn keep(subject: &Subject) -> ExitCode {
    let (unit, profile) = (&subject.unit.name, &subject.profile);
    let kept = || -> Result<Placement, String> {
        let _switch = subject.trial.lock_switch().map_err(|error| error.to_string())?;
        let before = subject.files.placement();
        if before == Placement::Trial {
            switch::keep(subject)?;
        }
        Ok(before)
    };
    let before = match kept() {
        Ok(before) => before,
        Err(message) => return fail(&message),
    };
    match before {
        Placement::Trial => {
            if let Err(code) = end_guard(subject) {
                return code;
            }
            say(&format!("{unit} is nodegate's; go back with: nodegate giveback {profile}"));
            ExitCode::SUCCESS
        }
        Placement::Nodegate => {
            say(&format!("{unit} is nodegate's already; nothing waits for a confirmation"));
            ExitCode::SUCCESS
        }
        Placement::Original | Placement::Fallback => {
            let last = subject.trial.end().map(|end| format!("; the last one: {end}")).unwrap_or_default();
            fail(&format!("no trial of {unit} runs{last}"))
        }
    }
}

/// The last comparison of the trial. A guard of an older version compares nothing, and one that has ended neither.
///
/// # Errors
/// The difference for which the guard gives the port back.
fn compare(subject: &Subject) -> Result<(), String> {
    if !subject.files.is_trial() || !subject.guard.is_up() {
        return Ok(());
    }
    let Ok(record) = subject.trial.read() else { return Ok(()) };
    let Some(before) = record.comparison else { return Ok(()) };
    let Some(report) = next_report(subject, &before)? else { return Ok(()) };
    say(&report.to_string());
    match report.serious.filter(|_| !record.accept_differences) {
        None => Ok(()),
        Some(difference) => Err(format!(
            "not confirmed: nodegate does not answer as the original did: {difference}\nthe guard gives the port back: \
             journalctl -u {}",
            subject.guard.name
        )),
    }
}

/// `None` if the trial ends before.
fn next_report(subject: &Subject, before: &ComparisonReport) -> Result<Option<ComparisonReport>, String> {
    if before.sampled == 0 {
        return Ok(Some(before.clone()));
    }
    subject.trial.request_comparison().map_err(|error| error.to_string())?;
    let limit = 2 * ROUND_TIMEOUT + MARGIN;
    let until = Instant::now() + limit;
    loop {
        // The guard records its report before it ends the trial.
        let has_ended = !subject.files.is_trial() || !subject.guard.is_up();
        if let Some(report) = subject.comparison().filter(|report| report.round > before.round) {
            return Ok(Some(report));
        }
        if has_ended {
            return Ok(None);
        }
        if Instant::now() > until {
            return Err(format!(
                "not confirmed: the guard did not end its comparison within {} s; try again, or look into journalctl -u \
                 {}",
                limit.as_secs(),
                subject.guard.name
            ));
        }
        sleep(POLL_INTERVAL);
    }
}

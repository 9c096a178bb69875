//! `nodegate takeover PROFILE` and `nodegate giveback PROFILE`: who serves the product's port, the original or nodegate.
//! A trial has a guard that gives the port back (`guard.rs`). Files decide what the unit runs (`unit_files.rs`).

mod access_log;
mod comparison;
mod confirm;
mod drop_ins;
mod gate;
mod guard;
mod health;
mod record;
mod rehearsal;
mod sample;
mod subject;
mod switch;
mod systemctl;
mod unit_files;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::gate::OriginalState;
use self::record::TrialRecord;
use self::subject::Subject;
use self::unit_files::Placement;
use super::compare::client::RequestHeader;
use super::compare::credential;
use super::{CommandResult, fail, say};
use crate::config::ConfigSources;

/// Without `--trial`, the command confirms its own trial. If the command is killed before, the guard gives back.
const OWN_TRIAL: Duration = Duration::from_mins(2);
const MAX_TRIAL: Duration = Duration::from_hours(24);

/// How to take over.
#[derive(Args, Debug)]
pub struct TakeoverOptions {
    /// Give the port back after TIME, such as 10m, unless you confirm
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "confirm")]
    trial: Option<Duration>,
    /// Keep nodegate: end the trial that runs
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    compare: CompareOptions,
}

/// The comparison before the switch and during the trial.
#[derive(Args, Debug)]
pub struct CompareOptions {
    /// File with a header to log in, to compare answers
    #[arg(long, value_name = "FILE", conflicts_with_all = ["credential_variable", "confirm"])]
    credential_file: Option<PathBuf>,
    /// Environment variable with the same
    #[arg(long, value_name = "NAME", conflicts_with = "confirm")]
    credential_variable: Option<String>,
    /// Switch, and stay, although answers differ
    #[arg(long)]
    accept_differences: bool,
}

impl CompareOptions {
    fn is_wanted(&self) -> bool {
        self.credential_file.is_some() || self.credential_variable.is_some()
    }

    fn credential(&self) -> Result<Option<RequestHeader>, String> {
        credential::read(self.credential_file.as_deref(), self.credential_variable.as_deref())
    }
}

pub fn take_over(profile: &str, options: &ConfigSources, wanted: &TakeoverOptions) -> CommandResult {
    let subject = Subject::new(profile, options)?;
    let _lock = subject.lock()?;
    if wanted.confirm {
        return Ok(confirm::after_comparison(&subject));
    }
    let unit = &subject.unit.name;
    match subject.files.placement() {
        Placement::Trial => Err(fail(&running_trial(&subject))),
        Placement::Nodegate if wanted.trial.is_some() => Err(fail(&format!(
            "{unit} is nodegate's already: a trial begins with the original (nodegate giveback {profile})"
        ))),
        Placement::Nodegate if !subject.unit.is_up() => {
            let state = subject.unit.state();
            Err(fail(&format!("{unit} is nodegate's, and does not run ({state}): systemctl start {unit}")))
        }
        Placement::Nodegate => {
            say(&format!("{unit} is nodegate's already; go back with: nodegate giveback {profile}"));
            Ok(ExitCode::SUCCESS)
        }
        Placement::Original | Placement::Fallback => {
            let state = begin_checks(&subject, wanted)?;
            start(&subject, &state, wanted)?;
            say_comparison(&subject);
            Ok(if wanted.trial.is_some() { announce(&subject) } else { confirm::keep(&subject) })
        }
    }
}

pub fn give_back(profile: &str, options: &ConfigSources) -> CommandResult {
    let subject = Subject::new(profile, options)?;
    let _lock = subject.lock()?;
    let switched = {
        let _switch = subject.trial.lock_switch().map_err(|error| fail(&error.to_string()))?;
        switch::to_original(&subject)
    };
    let outcome = switched.map_err(|failure| fail(&failure))?;
    end_guard(&subject)?;
    subject.files.remove_unused_fallback().map_err(|error| fail(&error.to_string()))?;
    say(&outcome);
    Ok(ExitCode::SUCCESS)
}

/// The process of a trial's unit.
pub fn guard(profile: &str, options: &ConfigSources) -> CommandResult {
    guard::run(profile, options)
}

fn begin_checks(subject: &Subject, wanted: &TakeoverOptions) -> Result<OriginalState, ExitCode> {
    subject.check_program()?;
    gate::check(subject, &wanted.compare)
}

/// Starts the guard, which switches. The command may end at any time from here on.
fn start(subject: &Subject, state: &OriginalState, wanted: &TakeoverOptions) -> Result<(), ExitCode> {
    let length = wanted.trial.unwrap_or(OWN_TRIAL);
    let credential = wanted.compare.credential().map_err(|message| fail(&message))?;
    let record = TrialRecord {
        milliseconds: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        ends_at: 0,
        baseline: state.baseline,
        targets: state.targets.clone(),
        accept_differences: wanted.compare.accept_differences,
        comparison: None,
    };
    let prepare = || -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        subject.trial.prepare().map_err(text)?;
        subject.trial.forget_end();
        subject.trial.write(&record).map_err(text)?;
        subject.trial.forget_credential();
        credential.iter().try_for_each(|header| subject.trial.write_credential(header)).map_err(text)?;
        let script = subject.trial.write_script().map_err(text)?;
        let unit = drop_ins::guard(&subject.config, &subject.command(), &script);
        subject.files.place_runtime_unit(&subject.guard.name, &unit).map_err(text)?;
        switch::keep_original(subject)
    };
    let prepared = prepare();
    if prepared.is_ok() {
        say("the guard takes a sample of the original's answers, and switches");
    }
    let started = prepared.and_then(|()| subject.guard.start());
    subject.trial.forget_credential();
    started.map_err(|error| {
        let reason = subject.trial.end().unwrap_or(error);
        fail(&format!("{reason}\nthe log of nodegate: journalctl -u {}", subject.unit.name))
    })
}

fn announce(subject: &Subject) -> ExitCode {
    let profile = &subject.profile;
    say(&format!(
        "nodegate serves port {} on trial until {}\n  keep it:  nodegate takeover {profile} --confirm\n  go back:  \
         nodegate giveback {profile}\n  the guard: journalctl -u {}",
        subject.config.settings.listen.port,
        subject.deadline(),
        subject.guard.name
    ));
    ExitCode::SUCCESS
}

/// What the guard has found so far.
fn say_comparison(subject: &Subject) {
    if let Some(report) = subject.comparison() {
        say(&report.to_string());
    }
}

/// Stops the guard and removes its unit.
fn end_guard(subject: &Subject) -> Result<(), ExitCode> {
    let ended = || -> Result<(), String> {
        if subject.guard.is_up() {
            subject.guard.stop()?;
        }
        subject.files.remove_runtime_unit(&subject.guard.name).map_err(|error| error.to_string())?;
        systemctl::daemon_reload()
    };
    ended().map_err(|message| fail(&message))
}

fn running_trial(subject: &Subject) -> String {
    let (unit, profile) = (&subject.unit.name, &subject.profile);
    if !subject.guard.is_up() {
        let end = subject.trial.end().unwrap_or_else(|| "its guard has ended".to_owned());
        return format!(
            "nodegate serves as {unit} without a guard ({end}): keep it with nodegate takeover {profile} --confirm, or \
             try the original again with nodegate giveback {profile}"
        );
    }
    let compared = subject.comparison().map(|report| format!("\n{report}")).unwrap_or_default();
    format!(
        "a trial of {unit} runs until {}: nodegate takeover {profile} --confirm keeps nodegate, nodegate giveback \
         {profile} goes back{compared}",
        subject.deadline()
    )
}

/// Seconds, or a number with `s`, `m` or `h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let seconds: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write seconds, or 30s, 10m, 1h".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write seconds, or 30s, 10m, 1h".to_owned())?;
    let time = Duration::from_secs(number.saturating_mul(seconds));
    if time.is_zero() || time > MAX_TRIAL { Err("a trial takes 1s to 24h".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_seconds() {
        for (text, seconds) in [("5", 5), ("5s", 5), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0", "0m", "25h", "m", "-1", "1.5h", "10 m", "1d", "10ms", "99999999999999999999h"]
        {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}

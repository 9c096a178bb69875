//! The guard of a trial, a process of its own unit: it switches to nodegate, watches it, and gives the port back.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::access_log::{LineFilter, LogFollower};
use super::health::{self, HealthTargets};
use super::record::TrialRecord;
use super::subject::Subject;
use super::switch;
use super::verdict::{Observation, TrialEnd, TrialRules};
use crate::cli::compare::client::ComparedServer;
use crate::cli::{CommandResult, fail};
use crate::config::ConfigSources;
use crate::metrics::report::seconds_since_1970;
use crate::os::systemd;

/// nodegate answers within this time after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_millis(200);
/// The interval of health checks is a tenth of the trial within these limits.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// Levels of the journal (`sd-daemon(3)`).
const CRITICAL: &str = "<2>";
const NOTICE: &str = "<5>";

struct Guard {
    subject: Subject,
    rules: TrialRules,
    targets: HealthTargets,
    /// `None` if this machine cannot connect to it
    server: Option<ComparedServer>,
    log: Option<LogFollower>,
}

pub(super) fn run(profile: &str, options: &ConfigSources) -> CommandResult {
    if !systemd::is_present() {
        return Err(fail("systemd runs this command for `nodegate takeover`, which you want"));
    }
    let subject = Subject::new(profile, options)?;
    let mut record = subject.trial.read().map_err(|error| fail(&format!("no trial is prepared: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&error.to_string()))?;
    let mut guard = Guard::new(subject, &record).map_err(|message| fail(&message))?;
    if let Err(reason) = runtime.block_on(guard.begin()) {
        guard.give_back(&TrialEnd::NotStarted(reason));
        return Err(ExitCode::FAILURE);
    }
    let began = Instant::now();
    record.ends_at = seconds_since_1970() + guard.rules.length.as_secs();
    if let Err(error) = guard.subject.trial.write(&record) {
        log(NOTICE, &format!("the deadline is not recorded: {error}"));
    }
    let (name, length) = (&guard.subject.unit.name, guard.rules.length.as_secs());
    log(
        NOTICE,
        &format!("nodegate serves as {name}, on trial for {length} s; baseline: {}", guard.rules.baseline),
    );
    systemd::ready();
    let Some(end) = runtime.block_on(guard.watch(began)) else { return Ok(ExitCode::SUCCESS) };
    guard.give_back(&end);
    if matches!(end, TrialEnd::Unconfirmed(_)) { Ok(ExitCode::SUCCESS) } else { Err(ExitCode::FAILURE) }
}

impl Guard {
    fn new(subject: Subject, record: &TrialRecord) -> Result<Self, String> {
        let config = &subject.config;
        let address = subject.address().ok();
        let port = config.settings.listen.port;
        let server = address.map(|address| health::server(&config.product, address, port)).transpose()?;
        let targets = record.targets.clone();
        let filter = LineFilter {
            protocol: config.product.protocol,
            guard: address.map(|address| (address, targets.clone())),
        };
        let log = config.settings.access_log.clone().map(|path| LogFollower::new(path, filter));
        let rules =
            TrialRules { length: Duration::from_millis(record.milliseconds), baseline: record.baseline };
        Ok(Self { subject, rules, targets, server, log })
    }

    /// Switches to nodegate and waits until it answers.
    async fn begin(&self) -> Result<(), String> {
        {
            let _lock = self.subject.trial.lock_switch().map_err(|error| error.to_string())?;
            switch::to_trial(&self.subject)?;
        }
        let until = Instant::now() + START_TIMEOUT;
        loop {
            let Err(reason) = self.check_health().await else { return Ok(()) };
            if Instant::now() > until || !self.subject.unit.is_up() {
                return Err(reason);
            }
            tokio::time::sleep(START_INTERVAL).await;
        }
    }

    /// `None` if a command has ended the trial.
    async fn watch(&mut self, began: Instant) -> Option<TrialEnd> {
        let interval = (self.rules.length / 10).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let mut seen = Observation::default();
        loop {
            let left = self.rules.length.saturating_sub(began.elapsed());
            tokio::time::sleep(interval.min(left)).await;
            if !self.subject.files.is_trial() {
                return None;
            }
            match self.check_health().await {
                Ok(()) => seen.failures.clear(),
                Err(reason) => {
                    log(NOTICE, &format!("a health check failed: {reason}"));
                    seen.failures.push(reason);
                }
            }
            seen.unit_ended =
                Some(self.subject.unit.state()).filter(|state| state == "failed" || state == "inactive");
            seen.answers = self.log.as_mut().map(LogFollower::counts).unwrap_or_default();
            seen.elapsed = began.elapsed();
            systemd::status(&format!("errors: {}; before: {}", seen.answers, self.rules.baseline));
            if let Some(end) = self.rules.verdict(&seen) {
                return Some(end);
            }
        }
    }

    async fn check_health(&self) -> Result<(), String> {
        match &self.server {
            Some(server) => self.targets.check(server).await,
            None => Ok(()),
        }
    }

    fn give_back(&self, end: &TrialEnd) {
        let (subject, daemon) = (&self.subject, self.subject.daemon());
        let _lock = subject.trial.lock_switch();
        if !subject.files.is_trial() {
            return;
        }
        log(CRITICAL, &format!("the trial of nodegate in place of {daemon} ends: {end}"));
        let (Ok(outcome) | Err(outcome)) = switch::to_original(subject);
        log(CRITICAL, &outcome);
        if let Err(error) = subject.trial.write_end(&format!("{end}; {outcome}")) {
            log(NOTICE, &format!("the end of the trial is not recorded: {error}"));
        }
    }
}

/// The journal is at the other end of stderr.
fn log(level: &str, text: &str) {
    for line in text.lines() {
        let _ = writeln!(io::stderr(), "{level}{line}");
    }
}

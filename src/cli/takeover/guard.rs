//! The guard of a trial, a process of its own unit: it switches to nodegate, watches it, and gives the port back.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::sync::watch::{self, Receiver};

use super::access_log::{LineFilter, LogFollower};
use super::comparison::ComparisonReport;
use super::health::{self, HealthTargets};
use super::record::TrialRecord;
use super::sample::Sample;
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
/// That of the comparisons as well.
const MIN_COMPARISON_INTERVAL: Duration = Duration::from_secs(1);
const MAX_COMPARISON_INTERVAL: Duration = Duration::from_mins(1);
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
    record: TrialRecord,
}

pub(super) fn run(profile: &str, options: &ConfigSources) -> CommandResult {
    if !systemd::is_present() {
        return Err(fail("systemd runs this command for `nodegate takeover`, which you want"));
    }
    let subject = Subject::new(profile, options)?;
    let record = subject.trial.read().map_err(|error| fail(&format!("no trial is prepared: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&error.to_string()))?;
    let mut guard = Guard::new(subject, record).map_err(|message| fail(&message))?;
    let sample = match runtime.block_on(guard.begin()) {
        Ok(sample) => sample,
        Err(end) => {
            guard.give_back(&end);
            return Err(ExitCode::FAILURE);
        }
    };
    let began = Instant::now();
    guard.record.ends_at = seconds_since_1970() + guard.rules.length.as_secs();
    guard.write_record();
    let (name, length) = (&guard.subject.unit.name, guard.rules.length.as_secs());
    log(
        NOTICE,
        &format!("nodegate serves as {name}, on trial for {length} s; baseline: {}", guard.rules.baseline),
    );
    systemd::ready();
    let Some(end) = runtime.block_on(guard.watch(began, sample)) else { return Ok(ExitCode::SUCCESS) };
    guard.give_back(&end);
    if matches!(end, TrialEnd::Unconfirmed(_)) { Ok(ExitCode::SUCCESS) } else { Err(ExitCode::FAILURE) }
}

impl Guard {
    fn new(subject: Subject, record: TrialRecord) -> Result<Self, String> {
        let config = &subject.config;
        let address = subject.address().ok();
        let port = config.settings.listen.port;
        let server = address.map(|address| health::server(&config.product, address, port)).transpose()?;
        let targets = record.targets.clone();
        let rules =
            TrialRules { length: Duration::from_millis(record.milliseconds), baseline: record.baseline };
        Ok(Self { subject, rules, targets, server, log: None, record })
    }

    /// Takes the sample, switches to nodegate, waits until it answers, and compares for the first time.
    async fn begin(&mut self) -> Result<Option<Sample>, TrialEnd> {
        let mut sample = self.take_sample().await;
        self.follow_log(sample.as_ref());
        self.switch().await.map_err(TrialEnd::NotStarted)?;
        if let Some(sample) = &mut sample {
            sample.compare().await;
            if let Some(difference) = self.note_report(sample.report.clone()) {
                return Err(TrialEnd::Differs(difference));
            }
        }
        Ok(sample)
    }

    async fn take_sample(&mut self) -> Option<Sample> {
        let trial = &self.subject.trial;
        // Left behind by an earlier trial.
        trial.take_comparison_request();
        let sample = match trial.take_credential() {
            Ok(credential) => Sample::take(&self.subject, &self.targets, credential).await,
            Err(reason) => Err(reason),
        };
        let empty = match sample {
            Ok(sample) if sample.report.sampled > 0 => return Some(sample),
            Ok(sample) => sample.report,
            Err(reason) => ComparisonReport::of_sample(0, vec![reason]),
        };
        self.note_report(empty);
        None
    }

    /// From the switch on. The requests of the guard do not count.
    fn follow_log(&mut self, sample: Option<&Sample>) {
        let config = &self.subject.config;
        let targets = self.targets.iter().cloned().chain(sample.into_iter().flat_map(Sample::targets));
        let targets: HashSet<_> = targets.collect();
        let guard = self.subject.address().ok().map(|address| (address, targets));
        let filter = LineFilter { protocol: config.product.protocol, guard };
        self.log = config.settings.access_log.clone().map(|path| LogFollower::new(path, filter));
    }

    async fn switch(&self) -> Result<(), String> {
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
    async fn watch(&mut self, began: Instant, sample: Option<Sample>) -> Option<TrialEnd> {
        let interval = (self.rules.length / 10).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let mut reports = self.compare_again(sample);
        let mut seen = Observation::default();
        self.show_status(&seen);
        loop {
            let left = self.rules.length.saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(interval.min(left)) => (),
                Ok(()) = reports.changed() => {
                    let report = reports.borrow_and_update().clone();
                    seen.difference = self.note_report(report);
                }
            }
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
            self.show_status(&seen);
            if let Some(end) = self.rules.verdict(&seen) {
                return Some(end);
            }
        }
    }

    /// Compares beside the health checks, which do not wait for it.
    fn compare_again(&self, sample: Option<Sample>) -> Receiver<ComparisonReport> {
        let (sender, reports) = watch::channel(ComparisonReport::default());
        if let Some(sample) = sample {
            let interval = (self.rules.length / 10).clamp(MIN_COMPARISON_INTERVAL, MAX_COMPARISON_INTERVAL);
            tokio::spawn(sample.compare_again(self.subject.trial.clone(), interval, sender));
        }
        reports
    }

    /// Logs and records a comparison. The result is the difference that ends the trial.
    fn note_report(&mut self, report: ComparisonReport) -> Option<String> {
        if self.record.comparison.as_ref().is_none_or(|before| report.is_news_after(before)) {
            log(NOTICE, &report.to_string());
        }
        let difference = report.serious.clone().filter(|_| !self.record.accept_differences);
        self.record.comparison = Some(report);
        self.write_record();
        difference
    }

    fn write_record(&self) {
        if let Err(error) = self.subject.trial.write(&self.record) {
            log(NOTICE, &format!("the state of the trial is not recorded: {error}"));
        }
    }

    fn show_status(&self, seen: &Observation) {
        let compared = self.record.comparison.as_ref().map(ComparisonReport::counts).unwrap_or_default();
        let before = &self.rules.baseline;
        systemd::status(&format!("errors: {}; before: {before}; {compared}", seen.answers));
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

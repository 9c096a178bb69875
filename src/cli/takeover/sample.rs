//! A sample of the original's answers, taken before the switch. It is kept in the memory of the guard, and nodegate is
//! asked for the same answers during the trial.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::comparison::{self, AnswerResult, ComparisonReport, ComparisonRound, SampledState};
use super::health::{self, HealthTargets};
use super::record::TrialFiles;
use super::subject::Subject;
use crate::cli::compare::client::{ComparedResponse, ComparedServer, RequestHeader};
use crate::cli::compare::difference::CallRules;
use crate::cli::compare::requests::{self, RepeatRules};
use crate::cli::compare::secrets::SecretMask;
use crate::config::product::Protocol;
use crate::upstream::client::io_message;

/// Limits of the sample: answers, bytes of one answer, and bytes of all.
const MAX_ANSWERS: usize = 100;
const MAX_ANSWER_BYTES: u64 = 256 << 10;
const MAX_SAMPLE_BYTES: u64 = 4 << 20;
/// Of a file only the digest is kept, but each comparison reads it.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Time for the whole sample, and for one round of the trial. One request runs at a time.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const ROUND_TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that takes longer is not repeated every minute.
const SLOW_ANSWER: Duration = Duration::from_secs(2);
/// A failure counts if the second request fails as well.
const RETRY_INTERVAL: Duration = Duration::from_millis(1100);
/// The interval at which the guard looks for a command that wants a comparison.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The original's answers, and what it takes to ask for them again.
pub(super) struct Sample {
    asker: Asker,
    answers: Vec<SampledAnswer>,
    pub(super) report: ComparisonReport,
}

struct SampledAnswer {
    target: String,
    response: ComparedResponse,
    state: SampledState,
}

struct Asker {
    original: ComparedServer,
    ours: ComparedServer,
    credential: Option<RequestHeader>,
    login_page: Option<String>,
    rules: RepeatRules,
    secrets: SecretMask,
}

/// Why answers are missing in the sample.
#[derive(Default)]
struct LeftOut {
    refused: usize,
    failed: usize,
    slow: usize,
    long: usize,
    not_reached: usize,
}

impl Sample {
    /// Asks the original. Without a credential only pages, files and calls without login are asked for.
    ///
    /// # Errors
    /// The reason why there can be no sample.
    pub(super) async fn take(
        subject: &Subject,
        targets: &HealthTargets,
        credential: Option<RequestHeader>,
    ) -> Result<Self, String> {
        let config = &subject.config;
        let product = &config.product;
        if product.protocol == Protocol::Connect {
            return Err("this port has only tunnels".to_owned());
        }
        let address = subject.address()?;
        let asker = Asker {
            original: health::server(product, address, config.own_port)?,
            ours: health::server(product, address, config.settings.listen.port)?,
            credential,
            login_page: product.auth.as_ref().and_then(|auth| auth.login_page.clone()),
            rules: RepeatRules::new(config)?,
            secrets: SecretMask::new()?,
        };
        let wanted = asker.wanted(subject, targets);
        let (answers, left_out) = asker.sample(wanted).await;
        let missing = left_out.text(asker.credential.is_some());
        let report = ComparisonReport::of_sample(answers.len(), missing);
        Ok(Self { asker, answers, report })
    }

    /// The targets, which the guard requests itself.
    pub(super) fn targets(&self) -> impl Iterator<Item = String> {
        self.answers.iter().map(|answer| answer.target.clone())
    }

    /// Asks nodegate for each answer.
    pub(super) async fn compare(&mut self) {
        let until = Instant::now() + ROUND_TIMEOUT;
        let mut round = ComparisonRound::default();
        for answer in &mut self.answers {
            if round.is_decided() || Instant::now() > until {
                break;
            }
            let mut result = self.asker.compare(answer).await;
            if matches!(result, AnswerResult::Fails { .. } | AnswerResult::Unanswered(_)) {
                sleep(RETRY_INTERVAL).await;
                result = self.asker.compare(answer).await;
            }
            round.add(&self.asker.secrets.mask(&answer.target), answer.state, &result);
            answer.state.was_good |= matches!(result, AnswerResult::Agrees | AnswerResult::Differs(_));
        }
        self.report = round.report(std::mem::take(&mut self.report));
    }

    /// Compares again at each interval, and when a command wants it. Ends with the receiver of the reports.
    pub(super) async fn compare_again(
        mut self,
        trial: TrialFiles,
        interval: Duration,
        reports: Sender<ComparisonReport>,
    ) {
        let mut last = Instant::now();
        while !reports.is_closed() {
            sleep(POLL_INTERVAL).await;
            if trial.take_comparison_request() || last.elapsed() >= interval {
                self.compare().await;
                last = Instant::now();
                reports.send_replace(self.report.clone());
            }
        }
    }
}

impl Asker {
    /// What the health check requests, then the newest requests of the log.
    fn wanted(&self, subject: &Subject, targets: &HealthTargets) -> Vec<String> {
        let log = subject.config.settings.access_log.as_deref();
        let logged = log.and_then(|log| requests::read_log(log, &self.rules).ok());
        let logged = logged.map(|logged| logged.targets).unwrap_or_default().into_iter();
        let is_allowed = |target: &String| self.credential.is_some() || !self.rules.is_call(target);
        let mut seen = HashSet::new();
        let wanted = targets.iter().cloned().chain(logged.filter(is_allowed));
        wanted.filter(|target| seen.insert(target.clone())).take(MAX_ANSWERS).collect()
    }

    async fn sample(&self, wanted: Vec<String>) -> (Vec<SampledAnswer>, LeftOut) {
        let until = Instant::now() + SAMPLE_TIMEOUT;
        let (mut answers, mut left_out, mut bytes) = (Vec::new(), LeftOut::default(), 0);
        for target in wanted {
            let started = Instant::now();
            if started > until || bytes > MAX_SAMPLE_BYTES {
                left_out.not_reached += 1;
                continue;
            }
            let Ok(response) = self.get(&self.original, &target).await else {
                left_out.failed += 1;
                continue;
            };
            let rules = self.call_rules(&target);
            let is_file = response.content.is_opaque();
            let limit = if is_file { MAX_FILE_BYTES } else { MAX_ANSWER_BYTES };
            if !comparison::is_good(&rules, &response) {
                let is_refused = matches!(rules.effective_status(&response), 401 | 403);
                *(if is_refused { &mut left_out.refused } else { &mut left_out.failed }) += 1;
            } else if started.elapsed() > SLOW_ANSWER {
                left_out.slow += 1;
            } else if response.length > limit {
                left_out.long += 1;
            } else {
                bytes += if is_file { 0 } else { response.length };
                let state = SampledState { is_call: self.rules.is_call(&target), was_good: false };
                answers.push(SampledAnswer { target, response, state });
            }
        }
        (answers, left_out)
    }

    async fn compare(&self, answer: &SampledAnswer) -> AnswerResult {
        match self.get(&self.ours, &answer.target).await {
            Ok(ours) => comparison::compare(&self.call_rules(&answer.target), &answer.response, &ours),
            Err(reason) => AnswerResult::Unanswered(reason),
        }
    }

    fn call_rules(&self, target: &str) -> CallRules<'_> {
        let unordered = self.rules.unordered(target);
        CallRules { unordered, login_page: self.login_page.as_deref(), secrets: &self.secrets }
    }

    /// Both get the original's name, which the answer may contain.
    async fn get(&self, server: &ComparedServer, target: &str) -> Result<ComparedResponse, String> {
        let authority = self.original.authority();
        let asking = timeout(ANSWER_TIMEOUT, server.get(target, &authority, self.credential.as_ref()));
        let answer = asking.await.map_err(|_| format!("none within {} s", ANSWER_TIMEOUT.as_secs()))?;
        answer.map_err(|error| io_message(&error))
    }
}

impl LeftOut {
    fn text(&self, has_credential: bool) -> Vec<String> {
        let login = (!has_credential).then(|| {
            "calls that need a login, because no credential was given (--credential-file)".to_owned()
        });
        let counts = [
            (self.refused, "requests that the original refused (401, 403)"),
            (self.failed, "requests that the original did not answer well"),
            (self.slow, "requests that took the original more than 2 s"),
            (self.long, "answers of more than 256 KiB, or files of more than 16 MiB"),
            (self.not_reached, "requests beyond 30 s or 4 MiB"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        login.into_iter().chain(counts.map(|(count, what)| format!("{count} {what}"))).collect()
    }
}

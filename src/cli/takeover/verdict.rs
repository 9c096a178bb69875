//! The decision to end a trial, from the observations of the guard.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Health probes in a row that have to fail.
const FAILED_PROBES: u32 = 3;
/// The smallest number of requests, and of errors among them, that an error rate is computed from.
const MIN_REQUESTS: u32 = 20;
const MIN_ERRORS: u32 = 5;
/// The smallest rise of the error rate that counts, and the standard deviations of a rise that counts.
const MIN_RISE: f64 = 0.02;
const DEVIATIONS: f64 = 3.0;

/// Answers in an access log, and the errors among them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct AnswerCounts {
    pub(super) requests: u32,
    pub(super) errors: u32,
}

impl AnswerCounts {
    /// A status of 500 or more is an error: 5xx, and 59x for an upstream that gives no answer.
    pub(super) fn from_statuses(statuses: impl IntoIterator<Item = u16>) -> Self {
        statuses.into_iter().fold(Self::default(), |counts, status| Self {
            requests: counts.requests + 1,
            errors: counts.errors + u32::from((500..600).contains(&status)),
        })
    }

    fn share(self) -> f64 {
        if self.requests == 0 { 0.0 } else { f64::from(self.errors) / f64::from(self.requests) }
    }

    /// Whether these answers have more errors than answers with the shares of `baseline` have by chance. A baseline of
    /// few requests says little, so its share is estimated with one more error and one more good answer.
    fn rises_above(self, baseline: Self) -> bool {
        if self.requests < MIN_REQUESTS || self.errors < MIN_ERRORS {
            return false;
        }
        let estimate = f64::from(baseline.errors + 1) / f64::from(baseline.requests + 2);
        let deviation = (estimate * (1.0 - estimate) / f64::from(self.requests)).sqrt();
        self.share() > baseline.share() + MIN_RISE.max(DEVIATIONS * deviation)
    }
}

impl fmt::Display for AnswerCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} answers ({:.1} %)", self.errors, self.requests, self.share() * 100.0)
    }
}

/// The conditions of a trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialRules {
    pub(super) length: Duration,
    /// of the original
    pub(super) baseline: AnswerCounts,
}

/// The state of a trial.
#[derive(Debug, Default)]
pub(super) struct Observation {
    pub(super) elapsed: Duration,
    /// the state of a unit that runs no more
    pub(super) unit_ended: Option<String>,
    /// the reasons of the probes that failed since the last good one
    pub(super) failures: Vec<String>,
    pub(super) answers: AnswerCounts,
    /// of the comparison with the answers before the switch
    pub(super) difference: Option<String>,
}

/// The reason to give the port back.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum TrialEnd {
    /// nodegate has not begun to serve
    NotStarted(String),
    UnitEnded(String),
    Unhealthy(String),
    /// nodegate does not answer what the original answered
    Differs(String),
    ErrorRate {
        trial: AnswerCounts,
        baseline: AnswerCounts,
    },
    Unconfirmed(Duration),
}

impl TrialRules {
    pub(super) fn verdict(&self, seen: &Observation) -> Option<TrialEnd> {
        let is_unhealthy = u32::try_from(seen.failures.len()).is_ok_and(|failed| failed >= FAILED_PROBES);
        if let Some(state) = &seen.unit_ended {
            Some(TrialEnd::UnitEnded(state.clone()))
        } else if let Some(last) = seen.failures.last().filter(|_| is_unhealthy) {
            Some(TrialEnd::Unhealthy(last.clone()))
        } else if let Some(difference) = &seen.difference {
            Some(TrialEnd::Differs(difference.clone()))
        } else if seen.answers.rises_above(self.baseline) {
            Some(TrialEnd::ErrorRate { trial: seen.answers, baseline: self.baseline })
        } else if seen.elapsed >= self.length {
            Some(TrialEnd::Unconfirmed(self.length))
        } else {
            None
        }
    }
}

impl fmt::Display for TrialEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(reason) => write!(f, "nodegate does not serve: {reason}"),
            Self::UnitEnded(state) => write!(f, "nodegate has ended (the unit is {state})"),
            Self::Unhealthy(failure) => {
                write!(f, "{FAILED_PROBES} health checks in a row failed, the last: {failure}")
            }
            Self::Differs(difference) => {
                write!(f, "nodegate does not answer as the original did: {difference}")
            }
            Self::ErrorRate { trial, baseline } => {
                write!(f, "the error rate has risen: {trial} failed, and {baseline} before the trial")
            }
            Self::Unconfirmed(length) => {
                write!(f, "the trial was not confirmed within {} s", length.as_secs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: TrialRules =
        TrialRules { length: Duration::from_mins(10), baseline: AnswerCounts { requests: 2000, errors: 20 } };

    fn answers(requests: u32, errors: u32) -> AnswerCounts {
        AnswerCounts { requests, errors }
    }

    fn seen(seconds: u64) -> Observation {
        Observation { elapsed: Duration::from_secs(seconds), ..Observation::default() }
    }

    #[test]
    fn every_status_from_500_counts_as_an_error() {
        let counts = AnswerCounts::from_statuses([200, 304, 401, 404, 499, 500, 503, 595, 599]);
        assert_eq!(counts, answers(9, 4));
        assert_eq!(counts.to_string(), "4 of 9 answers (44.4 %)");
        assert_eq!(AnswerCounts::default().to_string(), "0 of 0 answers (0.0 %)");
    }

    #[test]
    fn a_rise_needs_requests_errors_and_a_distance() {
        let baseline = RULES.baseline;
        for quiet in [
            answers(0, 0),
            answers(1, 1),
            answers(19, 19),
            answers(20, 4),
            // The limit of 500 answers is 1 % and 2 points; that of 150 answers 1 % and three deviations, 2.5 points.
            answers(500, 15),
            answers(150, 5),
        ] {
            assert!(!quiet.rises_above(baseline), "{quiet}");
        }
        for rise in [answers(20, 5), answers(104, 5), answers(500, 16), answers(500, 500)] {
            assert!(rise.rises_above(baseline), "{rise}");
        }
    }

    #[test]
    fn a_short_or_bad_baseline_allows_more() {
        assert!(!answers(20, 6).rises_above(answers(0, 0)));
        assert!(answers(20, 7).rises_above(answers(0, 0)));
        assert!(answers(20, 5).rises_above(answers(200, 0)));
        assert!(!answers(500, 270).rises_above(answers(1000, 500)));
        assert!(answers(500, 290).rises_above(answers(1000, 500)));
        assert!(!answers(500, 500).rises_above(answers(1000, 1000)), "it cannot become worse");
    }

    #[test]
    fn a_trial_ends_for_the_first_reason() {
        assert_eq!(RULES.verdict(&seen(599)), None);
        assert_eq!(RULES.verdict(&seen(600)), Some(TrialEnd::Unconfirmed(RULES.length)));
        let mut many = seen(600);
        many.answers = answers(100, 50);
        let rate = TrialEnd::ErrorRate { trial: many.answers, baseline: RULES.baseline };
        assert_eq!(RULES.verdict(&many), Some(rate));
        many.failures = vec!["/: 500".to_owned(), "/: 500 x".to_owned()];
        assert!(matches!(RULES.verdict(&many), Some(TrialEnd::ErrorRate { .. })), "two probes are too few");
        many.difference = Some("GET /x".to_owned());
        assert_eq!(RULES.verdict(&many), Some(TrialEnd::Differs("GET /x".to_owned())));
        many.failures.push("/: 500 y".to_owned());
        assert_eq!(RULES.verdict(&many), Some(TrialEnd::Unhealthy("/: 500 y".to_owned())));
        many.unit_ended = Some("failed".to_owned());
        assert_eq!(RULES.verdict(&many), Some(TrialEnd::UnitEnded("failed".to_owned())));
    }

    #[test]
    fn a_reason_has_its_figures() {
        let end = TrialEnd::ErrorRate { trial: answers(50, 6), baseline: RULES.baseline };
        assert_eq!(
            end.to_string(),
            "the error rate has risen: 6 of 50 answers (12.0 %) failed, and 20 of 2000 answers (1.0 %) before the trial"
        );
        let end = TrialEnd::Unconfirmed(Duration::from_secs(5));
        assert_eq!(end.to_string(), "the trial was not confirmed within 5 s");
    }
}

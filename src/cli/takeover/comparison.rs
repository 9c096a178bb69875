//! The answers of nodegate during a trial beside those that the original gave before the switch: what agrees, what
//! differs, and which difference ends the trial.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::compare::client::ComparedResponse;
use crate::cli::compare::content::ComparedBody;
use crate::cli::compare::difference::{CallRules, STATUS};
use crate::cli::compare::structure::ValueDifference;
use crate::cli::compare::summary;

/// Differences that a report names.
const MAX_SHOWN: usize = 20;
/// The number of answers that have to fail, and of rounds in a row, if these answers were good earlier in the trial.
const MIN_FAILURES: usize = 3;
const FAILED_ROUNDS: u32 = 2;
/// Statuses that say nothing about an answer that was good before: a ticket may be too old.
const REFUSALS: [u16; 2] = [401, 429];
/// The headers whose values belong to the type of an answer.
const CONTENT_TYPE: &str = "HTTP header content-type";
const HEADER: &str = "HTTP header ";

/// The result of one answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum AnswerResult {
    Agrees,
    /// with the paths of the values
    Differs(String),
    /// nodegate answers an error, or nothing readable
    Fails {
        status: u16,
        text: String,
    },
    /// nodegate sends no answer
    Unanswered(String),
}

/// An answer of the sample, for the verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampledState {
    /// a call of the API; otherwise a page or a file
    pub(super) is_call: bool,
    /// nodegate has answered it well in this trial
    pub(super) was_good: bool,
}

/// The results of one request for each answer of the sample.
#[derive(Debug, Default)]
pub(super) struct ComparisonRound {
    compared: usize,
    agree: usize,
    different: Vec<String>,
    /// errors to requests that were answered well before
    failures: usize,
    serious: Option<String>,
}

/// The comparison, for the files that the commands and the guard share. It holds no secret.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ComparisonReport {
    /// answers of the original
    pub(super) sampled: usize,
    /// rounds so far
    pub(super) round: u32,
    compared: usize,
    agree: usize,
    /// a line each
    different: Vec<String>,
    /// the first difference that ends the trial
    pub(super) serious: Option<String>,
    /// rounds in a row in which many answers fail that were good before
    failed_rounds: u32,
    /// answers that the sample lacks, with the reasons
    pub(super) missing: Vec<String>,
}

/// Whether a response is one that the other server has to give as well.
pub(super) fn is_good(rules: &CallRules<'_>, answer: &ComparedResponse) -> bool {
    rules.effective_status(answer) < 400 && !answer.content.tells_of_failure()
}

/// The original's answer is older than that of nodegate, so values may have changed.
pub(super) fn compare(
    rules: &CallRules<'_>,
    original: &ComparedResponse,
    ours: &ComparedResponse,
) -> AnswerResult {
    let (before, now) = (text(rules, original), text(rules, ours));
    if !is_good(rules, ours) {
        return AnswerResult::Fails {
            status: rules.effective_status(ours),
            text: format!("the original answered {before}, nodegate answers {now}"),
        };
    }
    let is_json = |answer: &ComparedResponse| matches!(answer.content, ComparedBody::Json(_));
    if is_json(original) && !is_json(ours) {
        return AnswerResult::Fails {
            status: ours.status,
            text: format!(
                "the original answered JSON, nodegate answers {now} with {}",
                ours.content.summary()
            ),
        };
    }
    let found = rules.differences(original, ours);
    let found: Vec<_> = found.iter().filter(|it| is_of_structure(it, is_json(original))).collect();
    match found.split_first() {
        None => AnswerResult::Agrees,
        Some((first, rest)) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            AnswerResult::Differs(format!("{}{more}", summary::line(first, rules.secrets)))
        }
    }
}

/// A value of JSON may change while its name and its type stay. A list may become longer or shorter, and its items
/// others. A page and a file change only with the product.
fn is_of_structure(difference: &ValueDifference, is_json: bool) -> bool {
    let ValueDifference { path, original, ours } = difference;
    if path == STATUS || path == CONTENT_TYPE {
        return true;
    }
    let is_same_type = match (original, ours) {
        (Some(original), Some(ours)) => shape(original) == shape(ours),
        (_, _) => false,
    };
    if path.starts_with(HEADER) {
        return !is_same_type;
    }
    !is_json || !is_same_type && !path.contains('[')
}

#[derive(Eq, PartialEq)]
enum Shape {
    Null,
    /// Perl may write one value as a number or as a text.
    Scalar,
    List,
    Object,
}

fn shape(value: &Value) -> Shape {
    match value {
        Value::Null => Shape::Null,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Shape::Scalar,
        Value::Array(_) => Shape::List,
        Value::Object(_) => Shape::Object,
    }
}

/// The status of an answer.
fn text(rules: &CallRules<'_>, answer: &ComparedResponse) -> String {
    let status = rules.secrets.mask(&answer.status_text()).into_owned();
    if answer.content.tells_of_failure() { format!("{status} with a failure in its body") } else { status }
}

impl ComparisonRound {
    /// Adds the result of a request; `target` is its masked text.
    pub(super) fn add(&mut self, target: &str, state: SampledState, result: &AnswerResult) {
        self.compared += 1;
        let line = match result {
            AnswerResult::Agrees => {
                self.agree += 1;
                return;
            }
            AnswerResult::Differs(text) | AnswerResult::Fails { text, .. } => format!("GET {target}: {text}"),
            AnswerResult::Unanswered(reason) => format!("GET {target}: nodegate sends no answer: {reason}"),
        };
        if is_serious(state, result) {
            self.serious.get_or_insert_with(|| line.clone());
        } else if matches!(result, AnswerResult::Fails { status, .. } if !REFUSALS.contains(status)) {
            self.failures += 1;
        }
        self.different.push(line);
    }

    /// A round with a serious difference needs no more requests.
    pub(super) fn is_decided(&self) -> bool {
        self.serious.is_some()
    }

    /// The report of this round, after `before`.
    pub(super) fn report(self, before: ComparisonReport) -> ComparisonReport {
        let has_failed = self.failures >= MIN_FAILURES && self.failures * 2 >= self.compared;
        let failed_rounds = if has_failed { before.failed_rounds + 1 } else { 0 };
        let many = (failed_rounds >= FAILED_ROUNDS).then(|| {
            let first = self.different.first().cloned().unwrap_or_default();
            format!("{} of {} answers fail, such as {first}", self.failures, self.compared)
        });
        ComparisonReport {
            round: before.round + 1,
            compared: self.compared,
            agree: self.agree,
            different: self.different,
            serious: self.serious.or(many),
            failed_rounds,
            ..before
        }
    }
}

/// What nodegate has never answered well, and a page or a file that is missing. A call that was good before may fail
/// because its machine is gone, or its ticket is too old. Errors that come and go are those of the health check and of
/// the error rate.
fn is_serious(state: SampledState, result: &AnswerResult) -> bool {
    match result {
        AnswerResult::Fails { .. } | AnswerResult::Unanswered(_) if !state.was_good => true,
        AnswerResult::Fails { status, .. } => {
            !state.is_call && (400..500).contains(status) && !REFUSALS.contains(status)
        }
        AnswerResult::Agrees | AnswerResult::Differs(_) | AnswerResult::Unanswered(_) => false,
    }
}

impl ComparisonReport {
    /// Before the first round.
    pub(super) fn of_sample(sampled: usize, missing: Vec<String>) -> Self {
        Self { sampled, missing, ..Self::default() }
    }

    /// Whether another round found something else.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        self.agree != before.agree || self.different != before.different || self.serious != before.serious
    }

    /// One line.
    pub(super) fn counts(&self) -> String {
        match (self.sampled, self.round) {
            (0, _) => "no answers of the original are compared".to_owned(),
            (sampled, 0) => format!("{sampled} answers of the original were kept for comparison"),
            (_, _) => format!(
                "{} of {} answers agree with those of the original before the switch",
                self.agree, self.compared
            ),
        }
    }
}

impl fmt::Display for ComparisonReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "comparison: {}", self.counts())?;
        for line in self.different.iter().take(MAX_SHOWN) {
            write!(f, "\n  {line}")?;
        }
        if let Some(more @ 1..) = self.different.len().checked_sub(MAX_SHOWN) {
            write!(f, "\n  and {more} more")?;
        }
        if self.compared < self.sampled && self.round > 0 && self.serious.is_none() {
            write!(f, "\n  not reached in the time: {}", self.sampled - self.compared)?;
        }
        for line in &self.missing {
            write!(f, "\n  not compared: {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::cli::compare::content::BodyReader;
    use crate::cli::compare::secrets::SecretMask;
    use crate::cli::compare::structure::UnorderedLists;

    const JSON: &str = "application/json;charset=UTF-8";
    const HTML: &str = "text/html";
    const SCRIPT: &str = "application/javascript";

    fn answer(status: u16, kind: &str, body: &str) -> ComparedResponse {
        let name: HeaderName = "content-type".parse().unwrap();
        let headers: HeaderMap = [(name, kind.parse().unwrap())].into_iter().collect();
        let mut reader = BodyReader::new(&headers);
        reader.add(body.as_bytes());
        let length = reader.length();
        let reason = http::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
        ComparedResponse {
            status,
            reason: reason.unwrap_or("OK").to_owned(),
            headers,
            content: reader.finish(),
            length,
        }
    }

    fn result(original: &ComparedResponse, ours: &ComparedResponse) -> AnswerResult {
        let secrets = SecretMask::new().unwrap();
        let rules =
            CallRules { unordered: UnorderedLists::new(), login_page: Some("/login"), secrets: &secrets };
        assert!(is_good(&rules, original));
        compare(&rules, original, ours)
    }

    #[test]
    fn values_may_change_and_their_names_may_not() {
        let original = answer(200, JSON, r#"{"data":{"uptime":7,"tasks":[{"id":1}],"name":"a"}}"#);
        for agrees in [
            r#"{"data":{"uptime":9,"tasks":[{"id":1}],"name":"b"}}"#,
            r#"{"data":{"uptime":"9","tasks":[{"id":1}],"name":"b"}}"#,
            r#"{"data":{"uptime":7,"tasks":[],"name":"a"}}"#,
            r#"{"data":{"uptime":7,"tasks":[{"upid":"x"},{"id":1}],"name":"a"}}"#,
        ] {
            assert_eq!(result(&original, &answer(200, JSON, agrees)), AnswerResult::Agrees, "{agrees}");
        }
        for (differs, text) in [
            (r#"{"data":{"uptime":7,"tasks":[{"id":1}]}}"#, r#"data.name: "a" != (none)"#),
            (r#"{"data":{"uptime":[7],"tasks":[{"id":1}],"name":"a"}}"#, "data.uptime: 7 != [7]"),
            (r#"{"data":null}"#, "data: "),
        ] {
            let AnswerResult::Differs(found) = result(&original, &answer(200, JSON, differs)) else {
                panic!("{differs}");
            };
            assert!(found.starts_with(text), "{found}");
        }
    }

    #[test]
    fn pages_and_files_are_compared_whole() {
        let page = answer(200, HTML, "<p>a</p>");
        assert_eq!(result(&page, &answer(200, HTML, "<p>a</p>")), AnswerResult::Agrees);
        assert!(matches!(result(&page, &answer(200, HTML, "<p>b</p>")), AnswerResult::Differs(_)));
        let script = answer(200, SCRIPT, "a");
        assert_eq!(result(&script, &answer(200, SCRIPT, "a")), AnswerResult::Agrees);
        for other in [answer(200, SCRIPT, "b"), answer(200, "text/plain", "a"), answer(304, SCRIPT, "")] {
            assert!(matches!(result(&script, &other), AnswerResult::Differs(_)), "{other:?}");
        }
    }

    #[test]
    fn an_error_has_both_answers() {
        let good = answer(200, JSON, r#"{"data":[]}"#);
        let fails = |ours: &ComparedResponse| {
            let AnswerResult::Fails { status, text } = result(&good, ours) else { panic!("{ours:?}") };
            (status, text)
        };
        let text = "the original answered 200 OK, nodegate answers 404 Not Found".to_owned();
        assert_eq!(fails(&answer(404, HTML, "x")), (404, text));
        let (status, text) = fails(&answer(200, JSON, r#"{"success":0,"status":500,"message":"x"}"#));
        assert!(status == 500 && text.ends_with("200 OK with a failure in its body"), "{status} {text}");
        let (_, text) = fails(&answer(200, JSON, "{"));
        assert!(
            text.starts_with("the original answered JSON, nodegate answers 200 OK with 1 bytes"),
            "{text}"
        );
        let mut secret = answer(500, JSON, r#"{"data":null}"#);
        secret.reason = "password=c2VjcmV0".to_owned();
        let (_, text) = fails(&secret);
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }

    const CALL: SampledState = SampledState { is_call: true, was_good: false };
    const GOOD_CALL: SampledState = SampledState { is_call: true, was_good: true };
    const GOOD_FILE: SampledState = SampledState { is_call: false, was_good: true };

    fn fails(status: u16) -> AnswerResult {
        AnswerResult::Fails { status, text: status.to_string() }
    }

    #[test]
    fn new_failures_and_missing_files_end_a_trial() {
        let unanswered = || AnswerResult::Unanswered("x".to_owned());
        for (state, result, expected) in [
            (CALL, fails(500), true),
            (CALL, fails(401), true),
            (CALL, unanswered(), true),
            (CALL, AnswerResult::Differs("x".to_owned()), false),
            (GOOD_CALL, fails(500), false),
            (GOOD_CALL, fails(404), false),
            (GOOD_CALL, unanswered(), false),
            (GOOD_FILE, fails(404), true),
            (GOOD_FILE, fails(500), false),
            (GOOD_FILE, unanswered(), false),
        ] {
            let mut round = ComparisonRound::default();
            round.add("/x", state, &result);
            assert_eq!(round.is_decided(), expected, "{state:?} {result:?}");
            assert_eq!(round.different.len(), 1);
        }
    }

    #[test]
    fn many_failures_in_two_rounds_end_a_trial() {
        let round = |failures: usize, status: u16, before| {
            let mut round = ComparisonRound::default();
            for _ in 0..failures {
                round.add("/x", GOOD_CALL, &fails(status));
            }
            for _ in 0..4 {
                round.add("/y", GOOD_CALL, &AnswerResult::Agrees);
            }
            round.report(before)
        };
        let first = round(4, 500, ComparisonReport::of_sample(8, Vec::new()));
        assert_eq!(first.serious, None, "it may be a moment");
        let second = round(4, 500, first.clone());
        assert_eq!(second.serious.as_deref(), Some("4 of 8 answers fail, such as GET /x: 500"));
        assert_eq!(round(4, 401, first.clone()).serious, None, "a ticket may be too old");
        let good = round(3, 500, first);
        assert_eq!((good.serious.as_deref(), good.failed_rounds), (None, 0), "less than half");
        assert_eq!(round(4, 500, good).serious, None, "a good round begins a new count");
    }

    #[test]
    fn a_report_counts_and_names() {
        let missing = vec!["calls that need a login (--credential-file)".to_owned()];
        let before = ComparisonReport::of_sample(3, missing);
        assert!(before.to_string().starts_with("comparison: 3 answers of the original were kept"));
        let mut round = ComparisonRound::default();
        round.add("/a", CALL, &AnswerResult::Agrees);
        round.add("/b", CALL, &AnswerResult::Differs("data.x: 1 != (none)".to_owned()));
        let report = round.report(before.clone());
        assert_eq!(
            report.to_string(),
            "comparison: 1 of 2 answers agree with those of the original before the switch\n  GET /b: data.x: 1 != \
             (none)\n  not reached in the time: 1\n  not compared: calls that need a login (--credential-file)"
        );
        assert!(report.is_news_after(&before));
        assert_eq!(ComparisonReport::default().counts(), "no answers of the original are compared");
    }
}

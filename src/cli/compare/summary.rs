//! The output: a block for each call that differs, and the counts at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::requests::{LeftOut, LoggedRequests};
use super::secrets::SecretMask;
use super::structure::ValueDifference;

/// Limit of lines for one call.
const MAX_LINES: usize = 20;
/// Characters of a value that are shown, and how many of them come before the first that differs.
const MAX_VALUE_CHARS: usize = 80;
const CONTEXT_CHARS: usize = 20;
/// The exit code if nothing differs but most calls were not compared.
const TOO_LITTLE: u8 = 2;

#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// with this number of values that change by themselves
    Equal(usize),
    Differs(Vec<ValueDifference>),
    /// the whole of it changes by itself
    Changes,
    Refused,
    Unserved,
    /// one of the two gave no answer
    Failed(String),
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct ComparisonSummary {
    equal: usize,
    differing: usize,
    changing: usize,
    refused: usize,
    unserved: usize,
    failed: usize,
    /// values within answers that are equal otherwise
    changing_values: usize,
}

impl ComparisonSummary {
    pub(crate) fn add(&mut self, outcome: &CallOutcome) {
        match outcome {
            CallOutcome::Equal(changing) => {
                self.equal += 1;
                self.changing_values += changing;
            }
            CallOutcome::Differs(_) => self.differing += 1,
            CallOutcome::Changes => self.changing += 1,
            CallOutcome::Refused => self.refused += 1,
            CallOutcome::Unserved => self.unserved += 1,
            CallOutcome::Failed(_) => self.failed += 1,
        }
    }

    fn compared(&self) -> usize {
        self.equal + self.differing
    }

    fn requested(&self) -> usize {
        self.compared() + self.changing + self.refused + self.unserved + self.failed
    }

    /// Whether less than half of the calls in the log were compared.
    fn is_too_little(&self, requests: &LoggedRequests) -> bool {
        self.compared() == 0 || self.compared() * 2 < requests.targets.len()
    }

    pub(crate) fn text(&self, requests: &LoggedRequests, took: Duration) -> String {
        let all = requests.targets.len();
        let mut text = format!(
            "{} of {all} calls compared in {:.1} s: {} equal, {} differ (original != nodegate)",
            self.compared(),
            took.as_secs_f64(),
            self.equal,
            self.differing
        );
        let mut line = |what: &str, counts: &[(usize, &str)]| {
            let shown: Vec<_> = counts
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, why)| format!("{count} {why}"))
                .collect();
            if !shown.is_empty() {
                let _ = write!(text, "\n{what}: {}", shown.join(", "));
            }
        };
        line(
            "not compared",
            &[
                (all - self.requested().min(all), "not reached in the time"),
                (self.refused, "refused by both (401, 403, 429)"),
                (self.unserved, "without service at both (502 to 504, 595 to 599)"),
                (self.changing, "change by themselves"),
                (self.failed, "answered by one server only"),
            ],
        );
        line("left out of answers", &[(self.changing_values, "values that change by themselves")]);
        let left_out: &BTreeMap<LeftOut, usize> = &requests.left_out;
        let left_out: Vec<_> = left_out.iter().map(|(why, count)| (*count, why.text())).collect();
        line("left out of the log", &left_out);
        text
    }

    /// A warning if too little was compared.
    pub(crate) fn warning(&self, requests: &LoggedRequests) -> Option<String> {
        self.is_too_little(requests).then(|| {
            format!(
                "too few calls were compared: {} of {} calls; the reasons for the others are above",
                self.compared(),
                requests.targets.len()
            )
        })
    }

    pub(crate) fn exit_code(&self, requests: &LoggedRequests) -> ExitCode {
        match () {
            () if self.differing + self.failed > 0 => ExitCode::FAILURE,
            () if self.is_too_little(requests) => ExitCode::from(TOO_LITTLE),
            () => ExitCode::SUCCESS,
        }
    }
}

/// The exit code of a command that could not begin to compare.
pub(crate) fn nothing_compared() -> ExitCode {
    ExitCode::from(TOO_LITTLE)
}

/// `GET /x`, and a line for each difference.
pub(crate) fn block(target: &str, found: &[ValueDifference], secrets: &SecretMask) -> String {
    let mut text = format!("GET {}", secrets.mask(target));
    for difference in found.iter().take(MAX_LINES) {
        let _ = write!(text, "\n    {}", line(difference, secrets));
    }
    if let Some(more @ 1..) = found.len().checked_sub(MAX_LINES) {
        let _ = write!(text, "\n    and {more} more");
    }
    text
}

/// `PATH: ORIGINAL != OURS`
pub(crate) fn line(difference: &ValueDifference, secrets: &SecretMask) -> String {
    let ValueDifference { path, original, ours } = difference;
    let is_secret = path.split(['.', '[', ']']).any(|name| secrets.is_secret_name(name));
    // HTTP's own texts have no type.
    let is_plain = path.starts_with("HTTP ");
    let show = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(_) if is_secret => "***".to_owned(),
        Some(Value::String(text)) if is_plain => secrets.mask(text).into_owned(),
        Some(value) => masked(value, secrets).to_string(),
    };
    let (original, ours) = excerpts(&show(original), &show(ours));
    let hint = if original == ours && difference.original.is_some() {
        " (the difference is in a secret)"
    } else {
        ""
    };
    format!("{}: {original} != {ours}{hint}", secrets.mask(path))
}

fn masked(value: &Value, secrets: &SecretMask) -> Value {
    match value {
        Value::String(text) => Value::from(secrets.mask(text)),
        Value::Array(items) => items.iter().map(|item| masked(item, secrets)).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let is_secret = secrets.is_secret_name(name);
                (name.clone(), if is_secret { Value::from("***") } else { masked(value, secrets) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The parts of two texts around the first character that differs.
fn excerpts(original: &str, ours: &str) -> (String, String) {
    let same = original.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
    let excerpt = |text: &str| {
        let length = text.chars().count();
        if length <= MAX_VALUE_CHARS {
            return text.to_owned();
        }
        let start = same.saturating_sub(CONTEXT_CHARS).min(length - MAX_VALUE_CHARS);
        let part: String = text.chars().skip(start).take(MAX_VALUE_CHARS).collect();
        let (before, after) =
            (if start > 0 { "…" } else { "" }, if start + MAX_VALUE_CHARS < length { "…" } else { "" });
        format!("{before}{part}{after}")
    };
    (excerpt(original), excerpt(ours))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(path: &str, original: Option<Value>, ours: Option<Value>) -> String {
        line(&ValueDifference { path: path.to_owned(), original, ours }, &SecretMask::new().unwrap())
    }

    #[test]
    fn a_difference_is_a_path_and_two_values() {
        let some = |value: Value| Some(value);
        let cases = [
            (
                shown("data[3].status", some(json!("running")), some(json!("stopped"))),
                "data[3].status: \"running\" != \"stopped\"",
            ),
            (shown("data.n", some(json!(1)), some(json!("1"))), "data.n: 1 != \"1\""),
            (shown("data[1]", some(json!({"a": [1]})), None), "data[1]: {\"a\":[1]} != (none)"),
            (
                shown("HTTP status", some(json!("200 OK")), some(json!("404 no"))),
                "HTTP status: 200 OK != 404 no",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(line, expected);
        }
        let (long, other) =
            ("x".repeat(100) + "a" + &"y".repeat(100), "x".repeat(100) + "b" + &"y".repeat(100));
        let line = shown("data", some(json!(long)), some(json!(other)));
        assert!(line.contains("xxxayyy") && line.contains("xxxbyyy") && line.len() < 200, "{line}");
    }

    #[test]
    fn no_secret_is_printed() {
        let ticket = "PVE:root@pam:65F0AAAA::c2VjcmV0";
        for line in [
            shown("data.ticket", Some(json!("c2VjcmV0")), Some(json!("c2VjcmV0x"))),
            shown("data.token.value", Some(json!("c2VjcmV0")), None),
            shown("data", Some(json!({"password": "c2VjcmV0", "x": [{"csrf": "c2VjcmV0"}]})), None),
            shown("data[0]", Some(json!(ticket)), Some(json!(format!("{ticket}x")))),
            shown("HTTP header set-cookie", Some(json!("PVEAuthCookie=c2VjcmV0; path=/")), None),
            block("/x?vncticket=c2VjcmV0&a=1", &[], &SecretMask::new().unwrap()),
        ] {
            assert!(line.contains("***") && !line.contains("c2VjcmV0"), "{line}");
        }
    }

    #[test]
    fn the_exit_code_depends_on_the_comparison() {
        let requests = LoggedRequests {
            targets: vec![String::new(); 4],
            left_out: BTreeMap::from([(LeftOut::Masked, 2)]),
        };
        let summary = |outcomes: &[CallOutcome]| {
            let mut summary = ComparisonSummary::default();
            for outcome in outcomes {
                summary.add(outcome);
            }
            summary
        };
        let code = |outcomes: &[CallOutcome]| format!("{:?}", summary(outcomes).exit_code(&requests));
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(&[CallOutcome::Equal(0), CallOutcome::Equal(1)]), expected(0));
        assert_eq!(
            code(&[CallOutcome::Equal(0), CallOutcome::Refused, CallOutcome::Refused, CallOutcome::Refused]),
            expected(2)
        );
        assert_eq!(code(&[]), expected(2));
        assert_eq!(code(&[CallOutcome::Differs(Vec::new())]), expected(1));
        assert_eq!(code(&[CallOutcome::Failed(String::new())]), expected(1));
        let text =
            summary(&[CallOutcome::Equal(3), CallOutcome::Refused]).text(&requests, Duration::from_secs(2));
        assert_eq!(
            text,
            "1 of 4 calls compared in 2.0 s: 1 equal, 0 differ (original != nodegate)\n\
             not compared: 2 not reached in the time, 1 refused by both (401, 403, 429)\n\
             left out of answers: 3 values that change by themselves\n\
             left out of the log: 2 with a secret that the log masks"
        );
    }
}

//! The two servers, and one call to both.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::client::{ComparedResponse, ComparedServer, RequestHeader};
use super::content::ComparedBody;
use super::difference::{self, CallRules, ComparisonResult};
use super::requests::RepeatRules;
use super::secrets::SecretMask;
use super::summary::CallOutcome;
use crate::cli::compare::rate::RequestRate;
use crate::cli::write_to_stderr;

/// Values that change by themselves may change once a second.
const CHANGE_INTERVAL: Duration = Duration::from_millis(1100);

pub(crate) struct ServerPair {
    pub(crate) original: ComparedServer,
    pub(crate) ours: ComparedServer,
    pub(crate) credential: Option<RequestHeader>,
    /// a target that needs a login
    pub(crate) login: Option<String>,
    pub(crate) login_page: Option<String>,
    pub(crate) rate: RequestRate,
    pub(crate) rules: RepeatRules,
    pub(crate) secrets: SecretMask,
}

/// Answers to the same request.
struct ResponsePair {
    original: ComparedResponse,
    ours: ComparedResponse,
}

impl ServerPair {
    /// Without a credential that both servers accept, a comparison is pointless.
    pub(crate) async fn try_credential(&self) -> Result<(), String> {
        let Some(target) = &self.login else { return Ok(()) };
        if self.credential.is_none() {
            let message =
                "no credential was given (--credential-file): calls that need a login are not compared";
            write_to_stderr(message);
            return Ok(());
        }
        let answers = self.both(target).await?;
        let refusals: Vec<_> =
            [("the original", &self.original, &answers.original), ("nodegate", &self.ours, &answers.ours)]
                .into_iter()
                .filter(|(_, _, answer)| answer.status != 200 || answer.content.tells_of_failure())
                .map(|(name, server, answer)| {
                    let status = answer.status_text();
                    format!(
                        "{name} ({}) rejects the credential: GET {target}: {}",
                        server.authority(),
                        self.secrets.mask(&status)
                    )
                })
                .collect();
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("\n")) }
    }

    pub(crate) async fn check(&self, target: &str) -> CallOutcome {
        match self.compare(target).await {
            Ok(outcome) => outcome,
            Err(cause) => CallOutcome::Failed(cause),
        }
    }

    async fn compare(&self, target: &str) -> Result<CallOutcome, String> {
        let rules = CallRules {
            unordered: self.rules.unordered(target),
            login_page: self.login_page.as_deref(),
            secrets: &self.secrets,
        };
        let first = self.both(target).await?;
        let found = match rules.compare(&first.original, &first.ours) {
            ComparisonResult::Equal => return Ok(CallOutcome::Equal(0)),
            ComparisonResult::Refused => return Ok(CallOutcome::Refused),
            ComparisonResult::Unserved => return Ok(CallOutcome::Unserved),
            ComparisonResult::Differ(found) => found,
        };
        if found.iter().any(|it| it.path == difference::STATUS) {
            return Ok(CallOutcome::Differs(with_message(found, &first)));
        }
        sleep(CHANGE_INTERVAL).await;
        let second = self.both(target).await?;
        let mut changed = rules.differences(&first.original, &second.original);
        changed.extend(rules.differences(&first.ours, &second.ours));
        let again = rules.differences(&second.original, &second.ours);
        let (count, is_opaque) = (found.len(), first.original.content.is_opaque());
        let lasting = difference::lasting(found, &again, &changed);
        Ok(match lasting.is_empty() {
            false => CallOutcome::Differs(lasting),
            true if is_opaque => CallOutcome::Changes,
            true => CallOutcome::Equal(count),
        })
    }

    /// Sends both requests at the same time, with the original's name, which the answer may contain.
    async fn both(&self, target: &str) -> Result<ResponsePair, String> {
        self.rate.turn().await;
        let authority = self.original.authority();
        let get = async |server: &ComparedServer, name: &str| {
            let answer = server.get(target, &authority, self.credential.as_ref()).await;
            answer.map_err(|error| format!("{name} ({}): {error}", server.authority()))
        };
        let (original, ours) = tokio::join!(get(&self.original, "the original"), get(&self.ours, "nodegate"));
        match (original, ours) {
            (Ok(original), Ok(ours)) => Ok(ResponsePair { original, ours }),
            (Err(one), Err(other)) => Err(format!("{one}; {other}")),
            (Err(cause), _) | (_, Err(cause)) => Err(cause),
        }
    }
}

/// nodegate's own errors have the whole message in the body: the reason phrase may be too short for it.
fn with_message(
    mut found: Vec<super::structure::ValueDifference>,
    answers: &ResponsePair,
) -> Vec<super::structure::ValueDifference> {
    let message = |answer: &ComparedResponse| match &answer.content {
        ComparedBody::Json(body) => body.get("message").cloned(),
        ComparedBody::Html(_) | ComparedBody::Opaque { .. } => None,
    };
    let (original, ours) = (message(&answers.original), message(&answers.ours));
    if original != ours {
        let trimmed =
            |value: Value| value.as_str().map_or(value.clone(), |text| Value::from(text.trim_end()));
        let (original, ours) = (original.map(trimmed), ours.map(trimmed));
        found.push(super::structure::ValueDifference { path: "message".to_owned(), original, ours });
    }
    found
}

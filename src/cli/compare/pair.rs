//! The two servers, and one call to both.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::client::{Answer, Header, Server};
use super::content::Content;
use super::difference::{self, CallRules, Verdict};
use super::requests::Rules;
use super::secrets::Secrets;
use super::summary::Outcome;
use crate::cli::compare::rate::Pace;

/// What changes by itself may do so once a second.
const CHANGE: Duration = Duration::from_millis(1100);

pub(crate) struct Pair {
    pub(crate) original: Server,
    pub(crate) ours: Server,
    pub(crate) credential: Option<Header>,
    /// what only users may ask
    pub(crate) login: Option<String>,
    pub(crate) login_page: Option<String>,
    pub(crate) pace: Pace,
    pub(crate) rules: Rules,
    pub(crate) secrets: Secrets,
}

/// Answers to the same request.
struct Answers {
    original: Answer,
    ours: Answer,
}

impl Pair {
    /// Nothing is worth asking by a credential that one of the two does not take.
    pub(crate) async fn try_credential(&self) -> Result<(), String> {
        let Some(target) = &self.login else { return Ok(()) };
        if self.credential.is_none() {
            let told =
                "no credential was given (--credential-file): calls that need a login are not compared";
            let _ = io::Write::write_all(&mut io::stderr(), format!("{told}\n").as_bytes());
            return Ok(());
        }
        let answers = self.both(target).await?;
        let refusals: Vec<_> =
            [("the original", &self.original, &answers.original), ("nodegate", &self.ours, &answers.ours)]
                .into_iter()
                .filter(|(_, _, answer)| answer.status != 200 || answer.content.tells_of_failure())
                .map(|(who, server, answer)| {
                    let told = answer.status_text();
                    format!(
                        "{who} ({}) does not take the credential: GET {target}: {}",
                        server.authority(),
                        self.secrets.mask(&told)
                    )
                })
                .collect();
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("\n")) }
    }

    pub(crate) async fn check(&self, target: &str) -> Outcome {
        match self.compare(target).await {
            Ok(outcome) => outcome,
            Err(cause) => Outcome::Failed(cause),
        }
    }

    async fn compare(&self, target: &str) -> Result<Outcome, String> {
        let rules = CallRules {
            unordered: self.rules.unordered(target),
            login_page: self.login_page.as_deref(),
            secrets: &self.secrets,
        };
        let first = self.both(target).await?;
        let found = match rules.compare(&first.original, &first.ours) {
            Verdict::Equal => return Ok(Outcome::Equal(0)),
            Verdict::Refused => return Ok(Outcome::Refused),
            Verdict::Unserved => return Ok(Outcome::Unserved),
            Verdict::Differ(found) => found,
        };
        if found.iter().any(|it| it.path == difference::STATUS) {
            return Ok(Outcome::Differs(with_message(found, &first)));
        }
        sleep(CHANGE).await;
        let second = self.both(target).await?;
        let mut changed = rules.differences(&first.original, &second.original);
        changed.extend(rules.differences(&first.ours, &second.ours));
        let again = rules.differences(&second.original, &second.ours);
        let (count, is_opaque) = (found.len(), first.original.content.is_opaque());
        let lasting = difference::lasting(found, &again, &changed);
        Ok(match lasting.is_empty() {
            false => Outcome::Differs(lasting),
            true if is_opaque => Outcome::Changes,
            true => Outcome::Equal(count),
        })
    }

    /// Both are asked at the same time, by the original's name, which may stand in the answer.
    async fn both(&self, target: &str) -> Result<Answers, String> {
        self.pace.turn().await;
        let authority = self.original.authority();
        let ask = async |server: &Server, who: &str| {
            let answer = server.get(target, &authority, self.credential.as_ref()).await;
            answer.map_err(|error| format!("{who} ({}): {error}", server.authority()))
        };
        let (original, ours) = tokio::join!(ask(&self.original, "the original"), ask(&self.ours, "nodegate"));
        match (original, ours) {
            (Ok(original), Ok(ours)) => Ok(Answers { original, ours }),
            (Err(one), Err(other)) => Err(format!("{one}; {other}")),
            (Err(cause), _) | (_, Err(cause)) => Err(cause),
        }
    }
}

/// An error of nodegate's own says in the body what its reason phrase may be too short for.
fn with_message(
    mut found: Vec<super::structure::Difference>,
    answers: &Answers,
) -> Vec<super::structure::Difference> {
    let message = |answer: &Answer| match &answer.content {
        Content::Json(body) => body.get("message").cloned(),
        Content::Html(_) | Content::Opaque { .. } => None,
    };
    let (original, ours) = (message(&answers.original), message(&answers.ours));
    if original != ours {
        let trimmed =
            |value: Value| value.as_str().map_or(value.clone(), |text| Value::from(text.trim_end()));
        let (original, ours) = (original.map(trimmed), ours.map(trimmed));
        found.push(super::structure::Difference { path: "message".to_owned(), original, ours });
    }
    found
}

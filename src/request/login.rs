//! Requests that may be guesses: at a password, a second factor, an API token, a ticket. Failures are counted for the
//! client's address; its answers come ever later, and at last nothing is judged any more.
//!
//! A wrong CSRF token guesses at nothing, for its client has shown a good ticket; and a ticket that was good once is
//! too old when a browser is opened in the morning.

use std::net::IpAddr;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use super::Asked;
use super::whole_body::{self, Sender};
use crate::engine::Engine;
use crate::gate::ticket::TicketError;
use crate::gate::{Denial, Identity};
use crate::incoming::RequestBody;
use crate::limits::{Excess, logins};
use crate::process::log_limit::{self, Topic};
use crate::response::body::Body;
use crate::response::refusal::Refusal;
use crate::target::{ApiPath, query_value};
use crate::verdict::login::Proof;
use crate::verdict::{AnswerView, Verdict, token};

/// Whether the daemon will judge a credential: that of a call without login, or an API token it has not seen yet.
pub(super) fn is_guess(engine: &Engine, method: &Method, path: &ApiPath, identity: &Identity) -> bool {
    match &identity.client {
        None => proof(engine, method, path, identity).is_some(),
        Some(known) => known.is_unproven(),
    }
}

fn proof<'e>(engine: &'e Engine, method: &Method, path: &ApiPath, identity: &Identity) -> Option<&'e Proof> {
    engine.gate.as_ref().and_then(|gate| gate.login_proof(identity, method, path))
}

/// The daemon has refused an API token that was good before.
pub(super) fn doubt(identity: &Identity) {
    if let Some(known) = &identity.client {
        known.prove(false);
    }
}

/// A guess from an address that is counted.
pub(super) struct Guess<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) path: &'a ApiPath,
    pub(super) identity: &'a Identity,
    pub(super) address: IpAddr,
}

impl<'a> Guess<'a> {
    /// Lets the daemon judge by `call`, unless the address is over its limit.
    pub(super) async fn judge(
        &self,
        body: &mut Option<RequestBody>,
        call: impl AsyncFnOnce(&mut Option<RequestBody>) -> Result<Response<Body>, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let began = Instant::now();
        let judged = match &self.identity.client {
            None => self.judge_login(body, call).await,
            Some(known) => {
                let logins = &self.engine().counts.logins;
                let answer = match logins.check(self.address, self.limit()) {
                    Ok(()) => call(body).await,
                    Err(excess) => Err(excess.into()),
                };
                let verdict = verdict(&answer, token::verdict);
                known.prove(verdict == Some(Verdict::Accepted));
                let failed = verdict.is_some_and(|verdict| verdict != Verdict::Accepted);
                let counted = failed && logins.failed(self.address, self.limit()).is_ok();
                answer.map(|answer| (answer, counted))
            }
        };
        match judged {
            Ok((answer, false)) => Ok(answer),
            Ok((answer, true)) => {
                if self.asked.client.peer.address() != self.address
                    && self.engine().backend_headers.client.is_none()
                {
                    // The daemon has named the proxy in its log, for it was not told the client.
                    let user = self.identity.user();
                    logins::tell(self.address, user.as_deref(), "refused by the daemon");
                }
                self.engine().counts.logins.hold_back(Some(self.address), began).await?;
                Ok(answer)
            }
            Err(Refusal::Excess(excess)) => {
                logins::tell(self.address, self.user(body).await.as_deref(), excess);
                Err(excess.into())
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The answer, and whether it says that the login failed.
    async fn judge_login(
        &self,
        body: &mut Option<RequestBody>,
        call: impl AsyncFnOnce(&mut Option<RequestBody>) -> Result<Response<Body>, Refusal>,
    ) -> Result<(Response<Body>, bool), Refusal> {
        let attempt = self.engine().counts.logins.begin(self.address, self.limit()).await?;
        let answer = call(body).await;
        let proof = proof(self.engine(), &self.asked.head.method, self.path, self.identity);
        let verdict = verdict(&answer, |view| proof.map_or(Verdict::Unclear, |proof| proof.verdict(view)));
        let failed = verdict.is_some_and(|verdict| verdict != Verdict::Accepted);
        if !failed {
            attempt.passed();
        }
        answer.map(|answer| (answer, failed))
    }

    fn engine(&self) -> &'a Engine {
        &self.asked.worker.engine
    }

    fn limit(&self) -> usize {
        self.engine().config.settings.limits.login_failures
    }

    /// Who the client says it is: nobody has judged that.
    async fn user(&self, body: &mut Option<RequestBody>) -> Option<String> {
        if let Some(user) = self.identity.user() {
            return Some(user.to_string());
        }
        let bytes = whole_body::read(self.asked, Sender::of(self.identity), body).await.ok()?;
        let kind = self.asked.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
            let told: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            return told.get("username")?.as_str().map(str::to_owned);
        }
        query_value(std::str::from_utf8(&bytes).ok()?, "username").map(std::borrow::Cow::into_owned)
    }
}

/// What came of a guess; `None` where no daemon has seen it. An answer that cannot be read, or never came, shows no success.
fn verdict(
    answer: &Result<Response<Body>, Refusal>,
    read: impl FnOnce(&AnswerView<'_>) -> Verdict,
) -> Option<Verdict> {
    match answer {
        Ok(answer) => {
            let body = match answer.body() {
                Body::Full(bytes) => Some(bytes.as_ref()),
                Body::Streamed(_) => None,
            };
            Some(read(&AnswerView { status: answer.status(), headers: answer.headers(), body }))
        }
        Err(Refusal::Upstream(error)) => error.phase.is_asked().then_some(Verdict::Unclear),
        Err(Refusal::ClientLeft) => Some(Verdict::Unclear),
        Err(_) => None,
    }
}

/// What the client of a denied request is told. A ticket that was forged counts as a failed login; `counted` is the
/// address it counts for.
pub(super) fn denied(engine: &Engine, denial: Denial, counted: impl FnOnce() -> Option<IpAddr>) -> Refusal {
    tracing::debug!(%denial, "refused at the gate");
    let is_guess = match denial {
        Denial::Ticket(TicketError::Age | TicketError::Half) => false,
        Denial::Ticket(TicketError::Form | TicketError::User | TicketError::Signature) | Denial::ApiToken => {
            true
        }
        Denial::KeyFile(error) => {
            log_limit::error(Topic::Fault, "tickets", &format_args!("tickets cannot be judged: {error}"));
            return Refusal::Denied(Denial::KeyFile(error));
        }
        Denial::NoCredential | Denial::Csrf | Denial::ForeignPage(_) => return Refusal::Denied(denial),
    };
    if is_guess && let Some(address) = counted() {
        let limit = engine.config.settings.limits.login_failures;
        let failed = engine.counts.logins.failed(address, limit);
        logins::tell(address, None, "invalid ticket");
        if let Err(excess) = failed {
            return excess.into();
        }
    }
    let reason = engine.gate.as_ref().map_or_else(String::new, |gate| gate.invalid_reason().to_owned());
    Refusal::InvalidTicket(reason)
}

/// Keeps a 401 waiting, whatever it is for; beyond what may wait, something else is answered at once.
pub(super) async fn hold_back(
    engine: &Engine,
    refusal: Refusal,
    counted: impl FnOnce() -> Option<IpAddr>,
    began: Instant,
) -> Refusal {
    if refusal.status() != StatusCode::UNAUTHORIZED {
        return refusal;
    }
    let held: Result<(), Excess> = engine.counts.logins.hold_back(counted(), began).await;
    held.map_or_else(Refusal::Excess, |()| refusal)
}

//! A call whose credential the daemon verifies. It runs in a task of its own and counts by the daemon's verdict, even
//! if the client disconnects. The daemon accepts a password at once and rejects one late, so an early disconnect must
//! neither free the permit nor count as a failure.

mod outcome;

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use outcome::run_at_once;
use outcome::{AttemptOutcome, token_check, verdict, watch_credential};

use crate::auth::authenticator::AuthenticatedUser;
use crate::auth::credential_cache::CachedCredential;
use crate::handler::HandlerAnswer;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::target::{ApiPath, query_value};
use crate::limits::LimitExceeded;
use crate::limits::failure_table::ClientKey;
use crate::limits::login_throttle::{self, LoginPermit};
use crate::os::request_context;
use crate::proxy::api_call::run_api;
use crate::proxy::buffered_body::{self, SenderTrust};
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::login_guard::{check_limit_before_body, set_token_verified};
use crate::proxy::router::Route;
use crate::verdict::CredentialVerdict;
use crate::verdict::login::LoginProof;
use crate::verdict::token;

/// How long nodegate waits for the verdict after the client disconnects. A daemon takes 3 s to reject a credential,
/// and more under load. Without a verdict the attempt counts as failed.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(30);

/// An attempt from an address that is counted, with everything that its task needs.
pub(super) struct LoginAttempt {
    request: IncomingRequest,
    identity: AuthenticatedUser,
    route: Route,
    path: ApiPath,
    /// the address that its failure counts for
    limit_key: IpAddr,
}

/// An attempt whose call has ended.
struct FinishedAttempt {
    answer: Result<HandlerAnswer, ResponseError>,
    /// the part of the request's body that nodegate has not read
    body: Option<RequestBody>,
    is_delayed: bool,
}

impl LoginAttempt {
    pub fn new(
        request: &IncomingRequest,
        identity: AuthenticatedUser,
        route: Route,
        path: &ApiPath,
        limit_key: IpAddr,
    ) -> Self {
        let request = IncomingRequest { outlives_client: true, ..request.clone() };
        Self { request, identity, route, path: path.clone(), limit_key }
    }

    /// Lets the daemon verify the credential, unless the address is over its limit. `began` is the start of the
    /// request.
    pub async fn verify(
        self,
        body: &mut Option<RequestBody>,
        began: Instant,
    ) -> Result<HandlerAnswer, ResponseError> {
        let (context, limit_key) = (Rc::clone(&self.request.context), self.limit_key);
        check_limit_before_body(&self.request, self.identity.user().as_deref(), body.as_ref())?;
        // A slow body must not hold a permit. An upload is verified before its body is read.
        if !matches!(self.route, Route::Upload) {
            buffered_body::peek(&self.request, SenderTrust::from_identity(&self.identity), body).await?;
        }
        let logins = &context.state.limiters.logins;
        let at = context.state.listener_share(&self.request.client.listener());
        let token = self.token().cloned();
        let is_known = || token.as_ref().is_some_and(|token| !token.is_unverified());
        let attempt = match logins.begin(&at, limit_key, self.limit(), is_known).await {
            Ok(attempt) => attempt,
            // It was not verified, so fail2ban must not read a line of it.
            Err(LimitExceeded::LoginQueueTimeout) => return Err(LimitExceeded::LoginQueueTimeout.into()),
            Err(exceeded) => {
                login_throttle::log_auth_failure(limit_key, self.user(body).await.as_deref(), exceeded);
                return Err(exceeded.into());
            }
        };
        let finished = self.run_in_task(attempt, body.take()).await?;
        *body = finished.body;
        let answer = finished.answer?;
        if finished.is_delayed {
            logins.hold_back(&at, Some(limit_key), began).await?;
        }
        Ok(answer)
    }

    /// Runs the call in a task that the worker waits for. Without a client it ends after `VERDICT_TIMEOUT` or when
    /// nodegate stops.
    async fn run_in_task(
        self,
        attempt: Option<LoginPermit>,
        body: Option<RequestBody>,
    ) -> Result<FinishedAttempt, ResponseError> {
        let (client, tasks) = (Rc::clone(&self.request.client), self.request.context.tasks.clone());
        let left = CancellationToken::new();
        let _gone = left.clone().drop_guard();
        let (sender, mut receiver) = oneshot::channel();
        let context = request_context::share();
        let has_left = left.clone();
        tasks.spawn_local(request_context::shared(context, async move {
            let finished = self.run(attempt, body, &has_left).await;
            let _ = sender.send(finished);
        }));
        let cut_off = |_| ResponseError::Internal("the login was cut off".to_owned());
        tokio::select! {
            biased;
            finished = &mut receiver => return finished.map_err(cut_off),
            () = client.timeouts.client_left() => left.cancel(),
        }
        // The access log needs the verdict.
        receiver.await.map_err(cut_off)
    }

    async fn run(
        self,
        mut attempt: Option<LoginPermit>,
        mut body: Option<RequestBody>,
        left: &CancellationToken,
    ) -> FinishedAttempt {
        let token = self.token().map(AsRef::as_ref);
        let no_verdict = async {
            left.cancelled().await;
            // The daemon has not seen the credential, and never will.
            let is_sent = !request_context::is_queued();
            if is_sent {
                let _ = timeout(VERDICT_TIMEOUT, self.request.context.stop.cancelled()).await;
            }
            is_sent
        };
        let (answer, is_sent) = {
            let (request, route) = (&self.request, self.route.clone());
            let call = pin!(run_api(request, &self.identity, route, &self.path, &mut body));
            tokio::select! {
                biased;
                answer = watch_credential(call, token, &mut attempt, &request.client.trust) => (answer, true),
                is_sent = no_verdict => (Err(ResponseError::ClientLeft), is_sent),
            }
        };
        let outcome = if is_sent { self.outcome(&answer) } else { AttemptOutcome::Passed };
        if outcome == AttemptOutcome::Failed {
            self.log_failure();
        } else if let Some(attempt) = attempt.take() {
            attempt.passed();
        }
        FinishedAttempt { answer, body, is_delayed: outcome != AttemptOutcome::Passed }
    }

    /// The API token that the daemon verifies. `None` if the call itself is the login.
    fn token(&self) -> Option<&Arc<CachedCredential>> {
        self.identity.client.as_ref().filter(|_| self.proof().is_none())
    }

    fn proof(&self) -> Option<&LoginProof> {
        self.request.context.state.login_proof(&self.request.head.method, &self.path)
    }

    fn outcome(&self, answer: &Result<HandlerAnswer, ResponseError>) -> AttemptOutcome {
        let state = &self.request.context.state;
        let Some(known) = self.token() else {
            let proof = self.proof();
            let found =
                verdict(answer, |view| proof.map_or(CredentialVerdict::Unclear, |proof| proof.verdict(view)));
            let has_failed = found.is_some_and(|found| found != CredentialVerdict::Accepted);
            return if has_failed { AttemptOutcome::Failed } else { AttemptOutcome::Passed };
        };
        let check = token_check(state, &self.request.head.method, &self.path, &self.route);
        let is_new = || {
            state.authenticator.as_ref().is_some_and(|authenticator| {
                authenticator.mark_unverified(known, ClientKey::from_address(self.limit_key))
            })
        };
        match verdict(answer, |view| token::verdict(view, check)) {
            Some(CredentialVerdict::Accepted) => {
                set_token_verified(state, known, true);
                self.request.client.trust.set_authenticated();
                AttemptOutcome::Passed
            }
            Some(CredentialVerdict::Refused) => {
                set_token_verified(state, known, false);
                if is_new() { AttemptOutcome::Failed } else { AttemptOutcome::Repeated }
            }
            // Another call may have verified the token by now. A client whose calls all fail for other reasons
            // repeats no guess.
            Some(CredentialVerdict::Unclear) if known.is_unverified() && is_new() => AttemptOutcome::Failed,
            Some(CredentialVerdict::Unclear) | None => AttemptOutcome::Passed,
        }
    }

    /// Logs a failure under the client's address if the daemon's log has only that of the proxy.
    fn log_failure(&self) {
        let state = &self.request.context.state;
        if self.request.client.client_ip.address() != self.limit_key && state.header_names.client.is_none() {
            login_throttle::log_auth_failure(
                self.limit_key,
                self.identity.user().as_deref(),
                "refused by the daemon",
            );
        }
    }

    fn limit(&self) -> usize {
        self.request.context.state.config.settings.limits.login_failures
    }

    /// The user that the client claims, unverified.
    async fn user(&self, body: &mut Option<RequestBody>) -> Option<String> {
        if let Some(user) = self.identity.user() {
            return Some(user.to_string());
        }
        let bytes = buffered_body::read(&self.request, SenderTrust::from_identity(&self.identity), body)
            .await
            .ok()?;
        let kind = self.request.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
            let claim: Value = serde_json::from_slice(&bytes).ok()?;
            return claim.get("username")?.as_str().map(str::to_owned);
        }
        query_value(std::str::from_utf8(&bytes).ok()?, "username").map(std::borrow::Cow::into_owned)
    }
}

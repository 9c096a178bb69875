//! The verdict on the credential of a call, from the answer to the call.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use http::Method;

use crate::auth::authenticator::AuthenticatedUser;
use crate::auth::credential_cache::CachedCredential;
use crate::handler::HandlerAnswer;
use crate::http::body::ResponseBody;
use crate::http::error::ResponseError;
use crate::http::request_body::RequestBody;
use crate::http::target::ApiPath;
use crate::limits::login_throttle::LoginPermit;
use crate::proxy::api_call::run_api;
use crate::proxy::incoming_request::IncomingRequest;
use crate::proxy::login_guard::set_token_verified;
use crate::proxy::router::Route;
use crate::state::connection_trust::ConnectionTrust;
use crate::state::shared::AppState;
use crate::verdict::token::{self, TokenCheck};
use crate::verdict::{AnswerView, CredentialVerdict};

/// The effect of an attempt on its client.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum AttemptOutcome {
    Passed,
    /// a rejected token that this client sent before: delayed, but not counted again
    Repeated,
    Failed,
}

/// The verdict on an attempt. `None` if no daemon verified it. An answer that is unreadable or missing is not a
/// success.
pub fn verdict(
    answer: &Result<HandlerAnswer, ResponseError>,
    read: impl FnOnce(&AnswerView<'_>) -> CredentialVerdict,
) -> Option<CredentialVerdict> {
    match answer {
        Ok(HandlerAnswer { response: answer, .. }) => {
            let body = match answer.body() {
                ResponseBody::Full(bytes) => Some(bytes.as_ref()),
                ResponseBody::Streamed(_) => None,
            };
            Some(read(&AnswerView { status: answer.status(), headers: answer.headers(), body }))
        }
        Err(ResponseError::Upstream(error)) => {
            error.phase.follows_request().then_some(CredentialVerdict::Unclear)
        }
        // An upload sends the same credential for its permission check first.
        Err(ResponseError::InvalidTicket(_)) => Some(CredentialVerdict::Refused),
        Err(ResponseError::ClientLeft | ResponseError::ForeignStream | ResponseError::StreamDenied) => {
            Some(CredentialVerdict::Unclear)
        }
        Err(ResponseError::Handler(error)) if error.is_after_upstream => Some(CredentialVerdict::Unclear),
        Err(_) => None,
    }
}

/// Runs a call without a permit: it has no unverified credential, or its client is not counted. Caches the verdict on
/// its API token.
pub async fn run_at_once(
    request: &IncomingRequest,
    identity: &AuthenticatedUser,
    route: Route,
    path: &ApiPath,
    body: &mut Option<RequestBody>,
) -> Result<HandlerAnswer, ResponseError> {
    let IncomingRequest { context, client, head, .. } = request;
    let state = &context.state;
    let known = identity.client.as_deref();
    let check = token_check(state, &head.method, path, &route);
    let call = pin!(run_api(request, identity, route, path, body));
    let answer = watch_credential(call, known, &mut None, &client.trust).await;
    if let Some(known) = known {
        // For a verified token the status is enough.
        let read = |view: &AnswerView<'_>| {
            let body = view.body.filter(|_| known.is_unverified());
            token::verdict(&AnswerView { body, ..*view }, check)
        };
        match verdict(&answer, read) {
            Some(CredentialVerdict::Accepted) => {
                set_token_verified(state, known, true);
                client.trust.set_authenticated();
            }
            Some(CredentialVerdict::Refused) => set_token_verified(state, known, false),
            Some(CredentialVerdict::Unclear) | None => (),
        }
    }
    answer
}

/// The output of `call`. As soon as an API token is verified, by this call or another one, the permit is released and
/// the client is trusted: an upload with the token may take long.
pub(super) async fn watch_credential<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    known: Option<&CachedCredential>,
    attempt: &mut Option<LoginPermit>,
    trust: &ConnectionTrust,
) -> T {
    poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        let is_proven = polled.is_pending() && known.is_some_and(|known| !known.is_unverified());
        if is_proven {
            trust.set_authenticated();
            attempt.take().into_iter().for_each(LoginPermit::passed);
        }
        polled
    })
    .await
}

/// How the answer to a call is read for its API token.
pub(super) fn token_check(state: &AppState, method: &Method, path: &ApiPath, route: &Route) -> TokenCheck {
    if state
        .authenticator
        .as_ref()
        .is_some_and(|authenticator| authenticator.is_unverified_by_daemon(method, path))
    {
        TokenCheck::Skipped
    } else if matches!(route, Route::Node(_) | Route::Master(_)) {
        TokenCheck::Peer
    } else {
        TokenCheck::Daemon
    }
}

//! The outcome of a login attempt, from the answer to its call.

use std::future::poll_fn;
use std::pin::pin;

use http::Method;

use crate::auth::credential_cache::CachedCredential;
use crate::handler::HandlerAnswer;
use crate::http::body::ResponseBody;
use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::limits::login_throttle::LoginPermit;
use crate::proxy::router::Route;
use crate::state::connection_trust::ConnectionTrust;
use crate::state::shared::AppState;
use crate::verdict::token::TokenCheck;
use crate::verdict::{AnswerView, CredentialVerdict};

/// The effect of an attempt on its client.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum AttemptOutcome {
    Passed,
    /// a rejected token that this client sent before: delayed, but not counted again
    Repeated,
    Failed,
}

/// The verdict on an attempt. `None` if no daemon verified it. An answer that is unreadable or missing is not a
/// success.
pub(crate) fn verdict(
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
        Err(ResponseError::Upstream(error)) => error.phase.is_asked().then_some(CredentialVerdict::Unclear),
        // An upload sends the same credential for its permission check first.
        Err(ResponseError::InvalidTicket(_)) => Some(CredentialVerdict::Refused),
        Err(ResponseError::ClientLeft | ResponseError::ForeignStream | ResponseError::StreamDenied) => {
            Some(CredentialVerdict::Unclear)
        }
        Err(ResponseError::Handler(error)) if error.is_after_upstream => Some(CredentialVerdict::Unclear),
        Err(_) => None,
    }
}

/// The output of `call`. As soon as an API token is verified, by this call or another one, the permit is released and
/// the client is trusted: an upload with the token may take long.
pub(crate) async fn watch_credential<T>(
    call: impl Future<Output = T>,
    known: Option<&CachedCredential>,
    attempt: &mut Option<LoginPermit>,
    trust: &ConnectionTrust,
) -> T {
    let mut call = pin!(call);
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
pub(crate) fn token_check(state: &AppState, method: &Method, path: &ApiPath, route: &Route) -> TokenCheck {
    if state.gate.as_ref().is_some_and(|gate| gate.is_unverified_by_daemon(method, path)) {
        TokenCheck::Skipped
    } else if matches!(route, Route::Node(_) | Route::Master(_)) {
        TokenCheck::Peer
    } else {
        TokenCheck::Daemon
    }
}

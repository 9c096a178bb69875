//! The outcome of a guess, from the answer to its call.

use std::future::poll_fn;
use std::pin::pin;

use http::Response;

use crate::auth::credential_cache::Known;
use crate::handler::console::ConsoleError;
use crate::handler::upload::UploadError;
use crate::http::body::Body;
use crate::http::error::Refusal;
use crate::limits::login_throttle::Attempt;
use crate::proxy::request::Trust;
use crate::verdict::{AnswerView, Verdict};

/// The effect of a guess on its client.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    /// a wrong token that this client has shown before: delayed, but not counted again
    Repeated,
    Failed,
}

/// The verdict on a guess; `None` if no daemon has seen it. An answer that cannot be read, or never came, shows no success.
pub(crate) fn verdict(
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
        // An upload asks with the same credential for the permission first.
        Err(Refusal::InvalidTicket(_)) => Some(Verdict::Refused),
        Err(
            Refusal::ClientLeft
            | Refusal::ForeignStream
            | Refusal::StreamDenied
            | Refusal::Console(ConsoleError::Place(_))
            | Refusal::Upload(UploadError::PermissionsUnknown { .. }),
        ) => Some(Verdict::Unclear),
        Err(_) => None,
    }
}

/// The outcome of `call`. As soon as an API token is found to be good, by this call or another one, the place is free and
/// the client is no stranger: an upload by the token may take long.
pub(crate) async fn until_proven<T>(
    call: impl Future<Output = T>,
    known: Option<&Known>,
    attempt: &mut Option<Attempt>,
    trust: &Trust,
) -> T {
    let mut call = pin!(call);
    poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        let is_proven = polled.is_pending() && known.is_some_and(|known| !known.is_unproven());
        if is_proven {
            trust.show();
            attempt.take().into_iter().for_each(Attempt::passed);
        }
        polled
    })
    .await
}

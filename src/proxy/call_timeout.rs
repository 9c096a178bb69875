//! The timeout of a call's answer.

use std::future::pending;
use std::time::Duration;

use http::Method;

use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::proxy::router::Route;
use crate::proxy::worker_context::WorkerContext;
use crate::time::client_timeouts::TimeoutTracker;

/// The timeout of an answer. The original proxies answer calls that need no root themselves, without a limit. Their
/// 30 s apply to calls that they forward to the privileged daemon or to another node.
pub(crate) fn answer_timeout(
    context: &WorkerContext,
    route: &Route,
    method: &Method,
    path: &ApiPath,
) -> Duration {
    let timeouts = context.state.config.settings.timeout;
    let needs_no_root = matches!(route, Route::Unprivileged | Route::Websocket)
        || (matches!(route, Route::Daemon) && !context.handlers.routes.needs_root(method, path));
    if needs_no_root { timeouts.answer_unprivileged } else { timeouts.answer }
}

/// The answer, unless the client disconnects before. Without a tracker the answer comes in any case.
pub(crate) async fn or_client_left<T>(
    clock: Option<&TimeoutTracker>,
    answer: impl Future<Output = Result<T, ResponseError>>,
) -> Result<T, ResponseError> {
    let left = async {
        match clock {
            Some(clock) => clock.client_left().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = left => Err(ResponseError::ClientLeft),
    }
}

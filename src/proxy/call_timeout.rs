//! How long a call waits for its answer.

use std::future::pending;
use std::time::Duration;

use http::Method;

use crate::http::error::ResponseError;
use crate::http::target::ApiPath;
use crate::proxy::router::Route;
use crate::proxy::worker_context::WorkerContext;
use crate::time::client_timeouts::TimeoutTracker;

/// The originals' proxies answer calls that need no root themselves, without a limit. The 30 s are theirs for what they
/// pass on, to the daemon with root or to another node.
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

/// The answer, unless its client leaves before it comes. Without a clock nobody can leave.
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

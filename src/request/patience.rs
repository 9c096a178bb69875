//! How long a call waits for its answer.

use std::time::Duration;

use http::{Method, Response};
use tokio::time::sleep;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::response::body::Body;
use crate::response::refusal::Refusal;
use crate::route::Route;
use crate::target::ApiPath;

/// A daemon takes 3 s to refuse a credential, and more when it is busy.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(10);

/// The originals' proxies answer calls that need no root themselves, without a limit. The 30 s are theirs for what they
/// pass on, to the daemon with root or to another node.
pub(super) fn answer_timeout(engine: &Engine, route: &Route, method: &Method, path: &ApiPath) -> Duration {
    let timeouts = engine.config.settings.timeout;
    let needs_no_root = matches!(route, Route::Unprivileged | Route::Websocket)
        || (matches!(route, Route::Daemon) && !engine.routes.needs_root(method, path));
    if needs_no_root { timeouts.answer_unprivileged } else { timeouts.answer }
}

/// The answer, unless its client leaves before it comes. The verdict on a credential is waited for nevertheless, up to a
/// limit; who leaves before it counts as refused.
pub(super) async fn or_client_left(
    clock: &Clock,
    is_guess: bool,
    answer: impl Future<Output = Result<Response<Body>, Refusal>>,
) -> Result<Response<Body>, Refusal> {
    let left = async {
        if is_guess {
            sleep(VERDICT_TIMEOUT).await;
        }
        clock.client_left().await;
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = left => Err(Refusal::ClientLeft),
    }
}

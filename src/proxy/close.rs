//! The close of a connection, so that the client can read why.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::malformed::{self, MalformedHead};
use crate::http::error::ResponseError;
use crate::metrics::labels::LimitLabel;
use crate::proxy::admission::log_without_request;
use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::ClientConnection;
use crate::time::client_timeouts::{TimedOut, UntimedStream};
use crate::time::lingering_close::lingering_close;
use crate::tls::ClientStream;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes a connection after an error of hyper. If the head was malformed, the client gets the reason.
pub(super) async fn close_after_error<S: ClientStream>(
    context: &WorkerContext,
    client: &ClientConnection,
    error: &hyper::Error,
    left: UntimedStream<S>,
    head: &[u8],
) {
    tracing::debug!(peer = %client.client_ip.address(), %error, "connection ended");
    let (mut stream, mut answer) = (left.stream, Vec::new());
    if error.is_parse() {
        let state = &context.state;
        let refused = MalformedHead { own_response: &left.own_response, error, head };
        let refusal = refused.refusal(&state.config.settings.limits);
        log_without_request(state, client.client_ip, refusal.status().as_u16());
        // hyper has sent its own answer if another one was still being sent.
        if !left.own_response.is_empty() {
            answer = malformed::answer(state, refusal, &left.target, client.tls.is_some());
        }
    }
    if is_body_broken(error) {
        cut(&stream, client);
    } else {
        lingering_close(&mut stream, &answer, CLOSE_TIMEOUT).await;
    }
}

/// Resets a connection without TLS. If the end of the connection marks the end of the body, a clean close would make
/// an incomplete body look complete. TLS shows an incomplete body by its missing `close_notify`.
fn cut<S: ClientStream>(stream: &S, client: &ClientConnection) {
    if client.tls.is_none()
        && let Err(error) = stream.socket().set_zero_linger()
    {
        tracing::debug!(%error, "a connection could not be reset");
    }
}

/// Closes a connection after a timeout.
pub(super) async fn close_after_timeout<S: ClientStream>(
    context: &WorkerContext,
    client: &ClientConnection,
    mut left: UntimedStream<S>,
    cause: TimedOut,
) {
    tracing::debug!(peer = %client.client_ip.address(), ?cause, "connection timed out");
    match cause {
        TimedOut::Head => {
            client.trust.count_rejection();
            let refusal = ResponseError::HeadTimeout;
            log_without_request(&context.state, client.client_ip, refusal.status().as_u16());
            let answer = malformed::answer(&context.state, refusal, &left.target, client.tls.is_some());
            write_and_close(&mut left.stream, &answer).await;
        }
        // No answer: a client that reads nothing would keep the memory that the close has to release.
        TimedOut::Evicted => {
            client.trust.count_rejection();
            context.state.metrics.count_limit(LimitLabel::Strangers);
        }
        TimedOut::Idle | TimedOut::Hibernate => write_and_close(&mut left.stream, b"").await,
        TimedOut::Write => cut(&left.stream, client),
    }
}

/// Whether a body ended early.
fn is_body_broken(error: &hyper::Error) -> bool {
    error.is_user() && error.source().is_some_and(<dyn Error>::is::<io::Error>)
}

/// Writes and closes within `CLOSE_TIMEOUT`.
pub(super) async fn write_and_close<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        stream.write_all(words).await?;
        stream.shutdown().await
    })
    .await;
}

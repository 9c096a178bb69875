//! How a connection is closed so that its client hears why.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::malformed::{self, MalformedHead};
use crate::http::error::ResponseError;
use crate::metrics::counters;
use crate::metrics::labels::LimitLabel;
use crate::proxy::admission::log_without_request;
use crate::proxy::worker_context::WorkerContext;
use crate::state::client_connection::ClientConnection;
use crate::time::client_timeouts::{TimedOut, UntimedStream};
use crate::tls::ClientStream;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that hyper has given up. Where a head was malformed, the client is told why.
pub(crate) async fn close_after_error<S: ClientStream>(
    context: &WorkerContext,
    client: &ClientConnection,
    error: &hyper::Error,
    left: UntimedStream<S>,
    head: &[u8],
) {
    tracing::debug!(peer = %client.peer.address(), %error, "connection ended");
    let mut stream = left.stream;
    if error.is_parse() {
        let state = &context.state;
        let refused = MalformedHead { own_answer: &left.own_answer, error, head };
        let refusal = refused.refusal(&state.config.settings.limits);
        log_without_request(state, client.peer, refusal.status().as_u16());
        // Behind an answer that was still going out, the library's own has gone out as well.
        if !left.own_answer.is_empty() {
            let answer = malformed::answer(state, refusal, &left.target, client.tls.is_some());
            write_briefly(&mut stream, &answer).await;
        }
    }
    if is_body_broken(error) {
        cut(&stream, client);
    } else {
        lingering_close(stream).await;
    }
}

/// Where the end of the connection is the end of the body, an answer that breaks off must not look complete. TLS shows it
/// by itself: nothing says there that the end is meant.
fn cut<S: ClientStream>(stream: &S, client: &ClientConnection) {
    if client.tls.is_none()
        && let Err(error) = stream.socket().set_zero_linger()
    {
        tracing::debug!(%error, "a connection could not be reset");
    }
}

/// A client that kept us waiting.
pub(crate) async fn close_after_timeout<S: ClientStream>(
    context: &WorkerContext,
    client: &ClientConnection,
    mut left: UntimedStream<S>,
    cause: TimedOut,
) {
    tracing::debug!(peer = %client.peer.address(), ?cause, "connection timed out");
    match cause {
        TimedOut::Head => {
            let refusal = ResponseError::HeadTimeout;
            log_without_request(&context.state, client.peer, refusal.status().as_u16());
            let answer = malformed::answer(&context.state, refusal, &left.target, client.tls.is_some());
            write_and_close(&mut left.stream, &answer).await;
        }
        // A client that takes nothing would keep what it is turned out for.
        TimedOut::TurnedOut => counters::limited(LimitLabel::Strangers),
        TimedOut::Idle | TimedOut::Quiet => write_and_close(&mut left.stream, b"").await,
        TimedOut::Write => cut(&left.stream, client),
    }
}

/// Whether a body broke off. Where the end of the connection is the end of the body, a clean close would make what
/// was sent look complete.
fn is_body_broken(error: &hyper::Error) -> bool {
    error.is_user() && error.source().is_some_and(<dyn Error>::is::<io::Error>)
}

/// Closes, but takes in what is still being sent: else the client's system would throw away the answer that says
/// what was wrong with it.
async fn lingering_close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    })
    .await;
}

/// Writes, for as long as that may take at most.
async fn write_briefly<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        stream.write_all(words).await?;
        stream.flush().await
    })
    .await;
}

/// Writes and closes, for as long as that may take at most.
pub(crate) async fn write_and_close<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        stream.write_all(words).await?;
        stream.shutdown().await
    })
    .await;
}

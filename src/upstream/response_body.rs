//! The body of a response, read on demand. A daemon that pauses too long ends it. Trailers are dropped.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::UpstreamConnection;
use super::pool::ConnectionPool;
use crate::metrics::upstreams::UpstreamHealth;
use crate::os::log_limit::{self, LogTopic};
use crate::os::request_context::{self, RequestId};
use crate::upstream::body_decoder::{BodyDecoder, DecodedPiece};
use crate::upstream::response_head::BodyFraming;

/// Bytes of one read of a streamed body.
pub const READ_BYTES: usize = 64 << 10;

/// The unread body of a response.
pub struct UpstreamBody {
    connection: Option<UpstreamConnection>,
    rest: BodyDecoder,
    /// takes the connection after the last byte
    pool: Option<Rc<ConnectionPool>>,
    timeout: Duration,
    /// bytes of one read
    read_bytes: usize,
    /// start of the current wait, and its timer
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// the upstream and the request
    source: Option<(Arc<UpstreamHealth>, Option<RequestId>)>,
}

impl UpstreamBody {
    pub(super) fn new(
        connection: UpstreamConnection,
        framing: BodyFraming,
        pool: Option<Rc<ConnectionPool>>,
        timeout: Duration,
    ) -> Self {
        Self {
            connection: Some(connection),
            rest: framing.into(),
            pool,
            timeout,
            read_bytes: READ_BYTES,
            waiting: None,
            source: None,
        }
    }

    /// Counts a body that breaks off as a failure of this upstream.
    #[must_use]
    pub(super) fn reporting_to(self, health: Arc<UpstreamHealth>) -> Self {
        Self { source: Some((health, request_context::current_id())), ..self }
    }

    /// Sets the bytes of one read.
    #[must_use]
    pub fn with_read_bytes(self, read_bytes: usize) -> Self {
        Self { read_bytes, ..self }
    }

    /// Longest pause of the daemon.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Bytes that follow, if known.
    pub fn length(&self) -> Option<u64> {
        if let BodyDecoder::Length(length) = self.rest { Some(length) } else { None }
    }

    pub fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    /// Reads the whole body.
    ///
    /// # Errors
    ///
    /// The body is longer than `limit` bytes, or breaks off.
    pub(super) async fn read_whole(&mut self, limit: usize) -> io::Result<Bytes> {
        let mut next = async || poll_fn(|context| self.poll_piece(context)).await.transpose();
        let Some(first) = next().await? else { return Ok(Bytes::new()) };
        let mut whole = BytesMut::new();
        let mut last = first;
        loop {
            if whole.len() + last.len() > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let next = next().await?;
            match next {
                // Most bodies arrive in one read and need no copy.
                None if whole.is_empty() => return Ok(last),
                None | Some(_) => whole.extend_from_slice(&last),
            }
            let Some(piece) = next else { return Ok(whole.freeze()) };
            last = piece;
        }
    }

    /// The next bytes; `None` at the end.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match self.take() {
                Ok(DecodedPiece::Piece(piece)) => {
                    self.waiting = self.waiting.take().map(|(_, sleep)| (Instant::now(), sleep));
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(DecodedPiece::End) => return Poll::Ready(None),
                Ok(DecodedPiece::Nothing) => (),
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match connection.poll_fill(context, self.read_bytes) {
                Poll::Ready(Ok(0)) if self.rest == BodyDecoder::UntilClose => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    let error = self.fail(io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Ok(_)) => (),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                Poll::Pending => {
                    ready!(self.poll_timeout(context));
                    let error = self.fail(io::ErrorKind::TimedOut.into());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Ready when the daemon has paused too long. The timer is set once and moved only when it expires.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let (since, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(timeout))));
        loop {
            ready!(timer.as_mut().poll(context));
            let until = *since + timeout;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }

    /// Logs an error after the head was sent: the client only sees the connection end.
    pub fn report(&self, error: &io::Error) {
        let Some((health, request)) = &self.source else { return };
        let request = request.map(|id| id.to_string());
        let suffix = request.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
        let message = format!("the response body of {} broke off: {error}{suffix}", health.name());
        health.count_failure(&message, request);
        log_limit::warn(LogTopic::Upstream, health.name(), &message);
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.connection = None;
        error
    }

    /// Decodes the next part of the buffer.
    fn take(&mut self) -> io::Result<DecodedPiece> {
        let Some(connection) = &mut self.connection else { return Ok(DecodedPiece::End) };
        let taken = self.rest.take(&mut connection.buffer)?;
        if matches!(taken, DecodedPiece::End) {
            self.end();
        }
        Ok(taken)
    }

    /// Returns the connection to its pool after the last byte.
    fn end(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take()) {
            pool.put(connection);
        }
    }
}

//! The body of an answer, read as it is asked for, given up when the daemon pauses for too long. Trailers end here.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::UpstreamConnection;
use super::pool::ConnectionPool;
use crate::metrics::upstreams::UpstreamHealth;
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;
use crate::os::request_context;
use crate::os::request_context::RequestId;
use crate::upstream::body_decoder::{BodyDecoder, DecodedPiece};
use crate::upstream::response_head::BodyFraming;

/// Bytes read at once of a body that is passed on.
pub const PIECE: usize = 64 << 10;

/// What is left of an answer.
pub struct AnswerBody {
    connection: Option<UpstreamConnection>,
    rest: BodyDecoder,
    /// where the connection goes when the body is out
    pool: Option<Rc<ConnectionPool>>,
    patience: Duration,
    /// bytes read at once
    piece: usize,
    /// since when the daemon is waited for, once it is
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// whose answer it is, and to which request
    source: Option<(&'static UpstreamHealth, Option<RequestId>)>,
}

impl AnswerBody {
    pub(super) fn new(
        connection: UpstreamConnection,
        framing: BodyFraming,
        pool: Option<Rc<ConnectionPool>>,
        patience: Duration,
    ) -> Self {
        Self {
            connection: Some(connection),
            rest: framing.into(),
            pool,
            patience,
            piece: PIECE,
            waiting: None,
            source: None,
        }
    }

    /// A body that breaks off under way counts as a failure of this upstream.
    #[must_use]
    pub(super) fn reporting_to(self, health: &'static UpstreamHealth) -> Self {
        Self { source: Some((health, request_context::current_id())), ..self }
    }

    /// The same, read by smaller pieces.
    #[must_use]
    pub fn in_pieces_of(self, piece: usize) -> Self {
        Self { piece, ..self }
    }

    /// How long the daemon may pause.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Bytes to come, where they are known.
    pub fn length(&self) -> Option<u64> {
        if let BodyDecoder::Length(length) = self.rest { Some(length) } else { None }
    }

    /// Everything, an error beyond `limit` bytes.
    pub(super) async fn whole(&mut self, limit: usize) -> io::Result<Bytes> {
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
                // Most come in one piece, which needs no copy.
                None if whole.is_empty() => return Ok(last),
                None | Some(_) => whole.extend_from_slice(&last),
            }
            let Some(piece) = next else { return Ok(whole.freeze()) };
            last = piece;
        }
    }

    /// The next piece, `None` at the end.
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
            match connection.poll_fill(context, self.piece) {
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
                    ready!(self.poll_patience(context));
                    let error = self.fail(io::ErrorKind::TimedOut.into());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Ready when nothing has come for too long. The timer is set once and moved on only when it rings.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let (since, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        loop {
            ready!(timer.as_mut().poll(context));
            let until = *since + patience;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }

    /// The head is out, so the client sees no more than the end of its connection.
    fn report(&self, error: &io::Error) {
        let Some((health, request)) = self.source else { return };
        let request = request.map(|id| id.to_string());
        let told = request.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
        let message = format!("the answer of {} broke off under way: {error}{told}", health.name());
        health.count_failure(&message, request);
        log_limit::warn(LogTopic::Upstream, health.name(), &message);
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.connection = None;
        error
    }

    /// What the buffer holds of the body.
    fn take(&mut self) -> io::Result<DecodedPiece> {
        let Some(connection) = &mut self.connection else { return Ok(DecodedPiece::End) };
        let taken = self.rest.take(&mut connection.buffer)?;
        if matches!(taken, DecodedPiece::End) {
            self.end();
        }
        Ok(taken)
    }

    /// Everything has been read: the connection may serve again.
    fn end(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take()) {
            pool.put(connection);
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = self.poll_piece(context);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.report(error);
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

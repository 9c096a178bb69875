//! One connection to a daemon. It sends a request, then reads the head of the response and its body. The connection
//! belongs to the task of the request, so no other task has to be woken.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tokio_util::either::Either;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::upstream::loopback::DaemonStream;
use crate::upstream::request::EncodedRequest;
use crate::upstream::response_head::{self, MalformedResponse, ResponseHead};

/// Enough for a head and most bodies.
const HEAD_READ_BYTES: usize = 8 << 10;

/// The stream of a connection: to a daemon of this machine, or TLS to another node.
pub(super) type UpstreamStream = Either<DaemonStream, Box<SslStream<TcpStream>>>;

/// A stream and the bytes that were read but not used.
pub(super) struct UpstreamConnection {
    stream: UpstreamStream,
    /// a request was sent, at least in part, and no head has arrived
    awaits_head: bool,
    pub(super) buffer: BytesMut,
}

/// Why no head was read.
#[derive(Debug)]
pub(super) enum ExchangeError {
    Malformed,
    /// the connection ended before a head
    Closed,
    Io(io::Error),
}

impl UpstreamConnection {
    pub(super) fn new(stream: UpstreamStream) -> Self {
        Self { stream, awaits_head: false, buffer: BytesMut::new() }
    }

    /// Sends a request and reads the head of its response. If the head arrives before the request is sent, the connection
    /// is not kept.
    pub(super) async fn exchange(
        &mut self,
        unsent: &mut EncodedRequest,
    ) -> Result<ResponseHead, ExchangeError> {
        let mut failed = None;
        self.buffer.reserve(HEAD_READ_BYTES);
        self.awaits_head = true;
        let head = poll_fn(|context| {
            while failed.is_none() && unsent.has_remaining() {
                match poll_send(&mut self.stream, context, unsent) {
                    Poll::Ready(Ok(_)) => (),
                    // The server may have sent a response before it closed.
                    Poll::Ready(Err(error)) => failed = Some(error),
                    Poll::Pending => break,
                }
            }
            if failed.is_none() && ready!(Pin::new(&mut self.stream).poll_flush(context)).is_err() {
                failed = Some(io::ErrorKind::BrokenPipe.into());
            }
            loop {
                match response_head::take(&mut self.buffer) {
                    Ok(Some(mut head)) => {
                        head.keeps_alive &= !unsent.has_remaining();
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => (),
                    Err(MalformedResponse) => return Poll::Ready(Err(ExchangeError::Malformed)),
                }
                let read = ready!(self.poll_fill(context, HEAD_READ_BYTES));
                match (read, failed.take()) {
                    (Ok(1..), write) => failed = write,
                    (Ok(0), None) => return Poll::Ready(Err(ExchangeError::Closed)),
                    (Err(error), None) | (_, Some(error)) => {
                        return Poll::Ready(Err(ExchangeError::Io(error)));
                    }
                }
            }
        })
        .await;
        self.awaits_head = false;
        head
    }

    /// Reads into the buffer, which gets room for at least `room` bytes; 0 at the end.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.buffer.reserve(room);
        poll_read_buf(Pin::new(&mut self.stream), context, &mut self.buffer)
    }

    /// Whether the connection is open and no byte has arrived since the last response.
    pub(super) fn is_idle(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.buffer.is_empty() && self.poll_fill(&mut context, 1).is_pending()
    }
}

/// Resets a TLS connection that awaits a head, so that the other node cancels the request. A clean close would look like
/// the end of a keep-alive connection.
impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        if self.awaits_head
            && let Either::Right(stream) = &self.stream
            && let Err(error) = stream.get_ref().set_zero_linger()
        {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }
}

/// A request without a body is one slice and needs no vectored write.
fn poll_send(
    stream: &mut UpstreamStream,
    context: &mut Context<'_>,
    bytes: &mut EncodedRequest,
) -> Poll<io::Result<usize>> {
    let piece = bytes.chunk();
    if piece.len() < bytes.remaining() {
        return poll_write_buf(Pin::new(stream), context, bytes);
    }
    let written = ready!(Pin::new(stream).poll_write(context, piece))?;
    bytes.advance(written);
    Poll::Ready(Ok(written))
}

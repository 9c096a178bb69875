//! One connection to a daemon: a request out, the head of the answer in, its body piece by piece. The connection
//! belongs to whoever asks, so that no other task has to be woken on the way.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::upstream::request::EncodedRequest;
use crate::upstream::response_head;
use crate::upstream::response_head::{MalformedResponse, ResponseHead};

/// A head, and mostly the body with it.
const FIRST_READ: usize = 8 << 10;

/// The kinds of connection there are.
pub(super) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// A stream, and what was read of it beyond what was taken.
pub(super) struct UpstreamConnection {
    stream: UpstreamStream,
    /// a request is out, or on its way, and no head has come
    waits: bool,
    pub(super) buffer: BytesMut,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum ExchangeError {
    Malformed,
    /// the connection ended first
    Closed,
    Io(io::Error),
}

impl UpstreamConnection {
    pub(super) fn new(stream: UpstreamStream) -> Self {
        Self { stream, waits: false, buffer: BytesMut::new() }
    }

    /// Sends a request and reads the head of its answer, which may come before the request is out; the connection then
    /// is of no further use.
    pub(super) async fn exchange(
        &mut self,
        unsent: &mut EncodedRequest,
    ) -> Result<ResponseHead, ExchangeError> {
        let mut failed = None;
        self.buffer.reserve(FIRST_READ);
        self.waits = true;
        let head = poll_fn(|context| {
            while failed.is_none() && unsent.has_remaining() {
                match self.stream.poll_write(context, unsent) {
                    Poll::Ready(Ok(_)) => (),
                    // What the other side said before it closed is still to be read.
                    Poll::Ready(Err(error)) => failed = Some(error),
                    Poll::Pending => break,
                }
            }
            if failed.is_none() && ready!(self.stream.poll_flush(context)).is_err() {
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
                let read = ready!(self.poll_fill(context, FIRST_READ));
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
        self.waits = false;
        head
    }

    /// Reads more into the buffer, at least `room` bytes of which are made free; 0 at the end.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.buffer.reserve(room);
        let buffer = &mut self.buffer;
        match &mut self.stream {
            UpstreamStream::Tcp(stream) => poll_read_buf(Pin::new(stream), context, buffer),
            UpstreamStream::Unix(stream) => poll_read_buf(Pin::new(stream), context, buffer),
            UpstreamStream::Tls(stream) => poll_read_buf(Pin::new(stream.as_mut()), context, buffer),
        }
    }

    /// Whether nothing has come since the last answer, neither bytes nor an end.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.buffer.is_empty() && self.poll_fill(&mut context, 1).is_pending()
    }
}

/// Another node that is still at work on the request learns that nobody waits any more; a plain end would look as if only
/// nothing else was asked.
impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        if self.waits
            && let UpstreamStream::Tls(stream) = &self.stream
            && let Err(error) = stream.get_ref().set_zero_linger()
        {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }
}

/// A request without a body is one piece, for which the system needs no list of pieces.
fn poll_send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    bytes: &mut impl bytes::Buf,
) -> Poll<io::Result<usize>> {
    let piece = bytes.chunk();
    if piece.len() < bytes.remaining() {
        return poll_write_buf(Pin::new(stream), context, bytes);
    }
    let written = ready!(Pin::new(stream).poll_write(context, piece))?;
    bytes.advance(written);
    Poll::Ready(Ok(written))
}

impl UpstreamStream {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &mut impl bytes::Buf,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_send(stream, context, bytes),
            Self::Unix(stream) => poll_send(stream, context, bytes),
            Self::Tls(stream) => poll_send(stream.as_mut(), context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }
}

//! A stream whose frames are verified, counted and mended as they arrive. After a connection error, or if the frame
//! budget is empty, reads stop.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::proxy::http2::frame_budget::FrameBudget;
use crate::proxy::http2::malformed::HeaderBlockMender;

/// Verifies, counts and mends the frames of one connection. `failed` is cancelled when the client exceeds its budget or
/// makes a connection error.
#[derive(Clone)]
pub(super) struct FloodWatch {
    budget: Rc<RefCell<FrameBudget>>,
    mender: Rc<RefCell<HeaderBlockMender>>,
    began: Instant,
    reason: Rc<Cell<Reason>>,
    pub(super) failed: CancellationToken,
}

impl FloodWatch {
    /// A trusted proxy sends the frames of many clients.
    pub fn new(is_trusted_proxy: bool) -> Self {
        let budget = if is_trusted_proxy { FrameBudget::for_trusted_proxy() } else { FrameBudget::new() };
        Self {
            budget: Rc::new(RefCell::new(budget)),
            mender: Rc::new(RefCell::new(HeaderBlockMender::new(is_trusted_proxy))),
            began: Instant::now(),
            reason: Rc::new(Cell::new(Reason::NO_ERROR)),
            failed: CancellationToken::new(),
        }
    }

    /// Whether the request on this stream is malformed. Call it in the order of the streams.
    pub(super) fn is_malformed(&self, stream: u32) -> bool {
        self.mender.borrow_mut().is_malformed(stream)
    }

    /// The reason of `failed`.
    pub(super) fn reason(&self) -> Reason {
        self.reason.get()
    }

    /// Charges and mends bytes from the client. Returns whether the connection goes on.
    fn charge_and_mend(&self, read: &mut [u8]) -> bool {
        let mut budget = self.budget.borrow_mut();
        let charged = budget.received(read, self.began.elapsed());
        let outcome = charged.and_then(|()| budget.pay_for_malformed(self.mender.borrow_mut().mend(read)));
        if let Err(reason) = outcome {
            self.reason.set(reason);
            self.failed.cancel();
        }
        outcome.is_ok()
    }
}

pub(super) struct WatchedStream<S> {
    stream: S,
    watch: FloodWatch,
}

impl<S> WatchedStream<S> {
    pub fn new(stream: S, watch: FloodWatch) -> Self {
        Self { stream, watch }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.watch.budget.borrow_mut().sent(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.failed.is_cancelled() {
            return Poll::Pending; // the task that waits for the token closes the connection
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if !read.is_empty() && !self.watch.charge_and_mend(read) {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

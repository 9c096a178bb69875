//! A client's stream that reports each read and write to its timeouts.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::time::client_timeouts::TimeoutTracker;
use crate::time::request_heads::HeadTracker;
use crate::tls::ClientStream;

/// The longest response that the library writes by itself is shorter.
const MAX_OWN_RESPONSE_BYTES: usize = 1024;

/// A stream that reports to its timeout tracker.
pub struct TimedStream<S> {
    stream: S,
    timeouts: Rc<TimeoutTracker>,
    /// read before, returned first
    early: Bytes,
    /// ready to be returned, before `early`
    ready: Bytes,
    /// for HTTP/1 only
    heads: Option<HeadTracker>,
    /// the library's response to a head that it cannot parse
    own_response: Vec<u8>,
    /// bytes sent at the last progress of a response, and its time
    last_progress: Option<(u64, Instant)>,
}

/// The parts of a `TimedStream`.
pub struct UntimedStream<S> {
    pub stream: S,
    /// read, not yet returned
    pub early: Bytes,
    /// written by the library, not sent; see `TimedStream::http1`
    pub own_response: Vec<u8>,
    /// the first bytes of the last target
    pub target: Vec<u8>,
}

impl<S> TimedStream<S> {
    pub fn new(stream: S, early: Bytes, timeouts: Rc<TimeoutTracker>) -> Self {
        Self {
            stream,
            timeouts,
            early,
            ready: Bytes::new(),
            heads: None,
            own_response: Vec::new(),
            last_progress: None,
        }
    }

    /// For a library that serves HTTP/1. It reads one head at a time, with an encoded target. If a head is malformed, the
    /// response of the library is kept for `into_parts`, because it has no body that says why.
    pub fn http1(stream: S, early: Bytes, timeouts: Rc<TimeoutTracker>) -> Self {
        Self { heads: Some(HeadTracker::new()), ..Self::new(stream, early, timeouts) }
    }

    /// Ends the reports to the timeout tracker.
    pub fn into_parts(self) -> UntimedStream<S> {
        let early = if self.ready.is_empty() { self.early } else { [self.ready, self.early].concat().into() };
        let target = self.heads.as_ref().map_or_else(Vec::new, |heads| heads.target().to_vec());
        UntimedStream { stream: self.stream, early, own_response: self.own_response, target }
    }

    /// Limits the bytes of `buffer` after `before` to one head or body.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Some(heads) = &mut self.heads else { return };
        let read = buffer.filled().get(before..).unwrap_or_default();
        let taken = heads.take(read, || self.timeouts.take_body_length());
        if taken.bytes == read.len() && taken.mended.is_none() {
            return;
        }
        self.early = Bytes::copy_from_slice(read.get(taken.bytes..).unwrap_or_default());
        let Some(mended) = taken.mended else { return buffer.set_filled(before + taken.bytes) };
        buffer.set_filled(before);
        self.ready = mended.into();
        put(buffer, &mut self.ready);
    }

    /// The same for bytes that were read before.
    fn hand_over_early(&mut self, buffer: &mut ReadBuf<'_>) {
        let there = self.early.len().min(buffer.remaining());
        let Some(heads) = &mut self.heads else { return put(buffer, &mut self.early) };
        let read = self.early.get(..there).unwrap_or_default();
        let taken = heads.take(read, || self.timeouts.take_body_length());
        let plain = self.early.split_to(taken.bytes);
        self.ready = taken.mended.map_or(plain, Bytes::from);
        put(buffer, &mut self.ready);
    }

    /// Keeps a response that the library writes without a request. Returns whether it did.
    fn keep_own_response(&mut self, bytes: &[u8]) -> bool {
        let is_own = self.heads.is_some() && self.timeouts.settled.get();
        if !is_own || self.own_response.len() + bytes.len() > MAX_OWN_RESPONSE_BYTES {
            return false;
        }
        self.own_response.extend_from_slice(bytes);
        true
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(written) => self.timeouts.note_written(*written.as_ref().unwrap_or(&0)),
            Poll::Pending => self.timeouts.note_write_blocked(),
        }
    }
}

/// Moves as many bytes as the buffer has room for.
fn put(buffer: &mut ReadBuf<'_>, bytes: &mut Bytes) {
    let count = bytes.len().min(buffer.remaining());
    buffer.put_slice(&bytes.split_to(count));
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ready.is_empty() || !self.early.is_empty() {
            let this = self.get_mut();
            if this.ready.is_empty() {
                this.hand_over_early(buffer);
            } else {
                put(buffer, &mut this.ready);
            }
            this.timeouts.note_read();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.timeouts.note_read();
            self.hand_over(buffer, before);
        }
        polled
    }
}

impl<S: ClientStream> TimedStream<S> {
    /// Checks whether the client of a long request is still connected. An HTTP/1 client sends nothing in that time, so a
    /// read does not show it.
    fn check_client(&mut self, context: &Context<'_>) {
        if !self.timeouts.check_due.take() {
            return;
        }
        let (written, now) = (self.timeouts.response.get().bytes(), Instant::now());
        let (_, since) = *self.last_progress.insert(match self.last_progress {
            Some((before, since)) if before == written => (before, since),
            Some(_) | None => (written, now),
        });
        let waited = now.saturating_duration_since(since.max(self.timeouts.since.get()));
        if self.stream.has_left(waited) {
            self.timeouts.mark_client_left();
            context.waker().wake_by_ref();
        }
    }
}

impl<S: ClientStream> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keep_own_response(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.timeouts.note_flush();
        self.check_client(context);
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // A flush that waits neither now nor before has sent nothing.
        if polled.is_pending() {
            self.timeouts.note_write_blocked();
        } else if self.timeouts.write_waits.get().is_some() {
            self.timeouts.note_written(0);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.own_response.is_empty() {
            return Poll::Ready(Ok(())); // a response with a body follows
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.first().filter(|first| self.keep_own_response(first)) {
            return Poll::Ready(Ok(first.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

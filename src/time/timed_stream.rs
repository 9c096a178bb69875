//! A client's stream whose clock hears of every byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::time::client_timeouts::TimeoutTracker;
use crate::time::request_heads::HeadTracker;
use crate::tls::ClientStream;

/// No answer of the library's own is longer.
const MAX_OWN_ANSWER: usize = 1024;

/// A stream that tells its clock what happens on it.
pub struct TimedStream<S> {
    stream: S,
    clock: Arc<TimeoutTracker>,
    /// was read before, and comes first
    early: Bytes,
    /// may be handed over as it is, before that
    ready: Bytes,
    /// where heads begin, if it carries HTTP/1
    heads: Option<HeadTracker>,
    /// what was written without a request: the library's answer to a head that it does not understand
    own_answer: Vec<u8>,
    /// since when no more than so many bytes of an answer have gone out
    still: Option<(u64, Instant)>,
}

/// What is left of a stream.
pub struct UntimedStream<S> {
    pub stream: S,
    /// read and not handed over
    pub early: Bytes,
    /// written and not sent; see `TimedStream::http1`
    pub own_answer: Vec<u8>,
    /// the beginning of the last request's target
    pub target: Vec<u8>,
}

impl<S> TimedStream<S> {
    pub fn new(stream: S, early: Bytes, clock: Arc<TimeoutTracker>) -> Self {
        Self { stream, clock, early, ready: Bytes::new(), heads: None, own_answer: Vec::new(), still: None }
    }

    /// For a library that reads requests of HTTP/1 and answers them. It gets one head at a time, with an encoded target.
    /// What it writes by itself, when a head is malformed, is kept for `into_parts`: it has no body that says why.
    pub fn http1(stream: S, early: Bytes, clock: Arc<TimeoutTracker>) -> Self {
        Self { heads: Some(HeadTracker::new()), ..Self::new(stream, early, clock) }
    }

    /// The stream, no longer watched.
    pub fn into_parts(self) -> UntimedStream<S> {
        let early = if self.ready.is_empty() { self.early } else { [self.ready, self.early].concat().into() };
        let target = self.heads.as_ref().map_or_else(Vec::new, |heads| heads.target().to_vec());
        UntimedStream { stream: self.stream, early, own_answer: self.own_answer, target }
    }

    /// Hands over what belongs together of the bytes that `buffer` has from `before` on.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Some(heads) = &mut self.heads else { return };
        let read = buffer.filled().get(before..).unwrap_or_default();
        let taken = heads.take(read, || self.clock.take_body_length());
        if taken.bytes == read.len() && taken.mended.is_none() {
            return;
        }
        self.early = Bytes::copy_from_slice(read.get(taken.bytes..).unwrap_or_default());
        let Some(mended) = taken.mended else { return buffer.set_filled(before + taken.bytes) };
        buffer.set_filled(before);
        self.ready = mended.into();
        put(buffer, &mut self.ready);
    }

    /// The same of what was read before.
    fn hand_over_early(&mut self, buffer: &mut ReadBuf<'_>) {
        let there = self.early.len().min(buffer.remaining());
        let Some(heads) = &mut self.heads else { return put(buffer, &mut self.early) };
        let read = self.early.get(..there).unwrap_or_default();
        let taken = heads.take(read, || self.clock.take_body_length());
        let plain = self.early.split_to(taken.bytes);
        self.ready = taken.mended.map_or(plain, Bytes::from);
        put(buffer, &mut self.ready);
    }

    /// Keeps what the library answers by itself: nobody has been asked anything.
    fn keeps(&mut self, bytes: &[u8]) -> bool {
        let is_own = self.heads.is_some() && self.clock.settled.load(Ordering::Relaxed);
        if !is_own || self.own_answer.len() + bytes.len() > MAX_OWN_ANSWER {
            return false;
        }
        self.own_answer.extend_from_slice(bytes);
        true
    }

    fn note_write(&self, written: Poll<usize>) {
        if let Poll::Ready(bytes) = written {
            self.clock.progressed(bytes);
        } else if self.clock.write_waits.load(Ordering::Relaxed) == 0 {
            self.clock.stalled();
        }
    }
}

/// As much as there is room for.
fn put(buffer: &mut ReadBuf<'_>, bytes: &mut Bytes) {
    let count = bytes.len().min(buffer.remaining());
    buffer.put_slice(&bytes.split_to(count));
}

fn written(polled: &Poll<io::Result<usize>>) -> Poll<usize> {
    match polled {
        Poll::Ready(Ok(bytes)) => Poll::Ready(*bytes),
        Poll::Ready(Err(_)) => Poll::Ready(0),
        Poll::Pending => Poll::Pending,
    }
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
            this.clock.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.clock.received();
            self.hand_over(buffer, before);
        }
        polled
    }
}

impl<S: ClientStream> TimedStream<S> {
    /// Finds out whether a client that has waited for long is still there. HTTP/1 clients send nothing meanwhile, so no
    /// read tells.
    fn check_client(&mut self, context: &Context<'_>) {
        let due = &self.clock.check_due;
        if !(due.load(Ordering::Relaxed) && due.swap(false, Ordering::Relaxed)) {
            return;
        }
        let (written, now) = (self.clock.written.load(Ordering::Relaxed), Instant::now());
        let (_, since) = *self.still.insert(match self.still {
            Some((before, since)) if before == written => (before, since),
            Some(_) | None => (written, now),
        });
        let waited = now.saturating_duration_since(since).min(self.clock.busy_for());
        if self.stream.has_left(waited) {
            self.clock.left.store(true, Ordering::Relaxed);
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
        if self.keeps(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(written(&polled));
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.clock.flushed();
        self.check_client(context);
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // Without a wait before or now nothing went out.
        if polled.is_pending() || self.clock.write_waits.load(Ordering::Relaxed) > 0 {
            self.note_write(if polled.is_ready() { Poll::Ready(0) } else { Poll::Pending });
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.own_answer.is_empty() {
            return Poll::Ready(Ok(())); // a better answer follows
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.first().filter(|first| self.keeps(first)) {
            return Poll::Ready(Ok(first.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(written(&polled));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::limits::min_rate::MinRate;
    use crate::time::client_timeouts::{ClientTimeouts, HEAD};

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn what_was_read_before_comes_first() {
        let write = MinRate { grace: LONG, rate: 0 };
        let clock =
            Arc::new(TimeoutTracker::new(Arc::new(ClientTimeouts { header: LONG, idle: LONG, write })));
        clock.answered();
        let mut stream = TimedStream::new(&b"lo"[..], Bytes::from_static(b"hel"), Arc::clone(&clock));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut text = String::new();
        runtime.block_on(stream.read_to_string(&mut text)).unwrap();
        assert_eq!((text.as_str(), clock.state.load(Ordering::Relaxed)), ("hello", HEAD));
    }
}

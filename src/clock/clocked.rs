//! A client's stream whose clock hears of every byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Clock, recent};

/// A stream that tells its clock what happens on it.
pub struct Clocked<S> {
    stream: S,
    clock: Arc<Clock>,
    /// was read before, and comes first
    early: Bytes,
}

impl<S> Clocked<S> {
    pub fn new(stream: S, early: Bytes, clock: Arc<Clock>) -> Self {
        Self { stream, clock, early }
    }

    /// The stream, no longer watched.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn note_write(&self, written: Poll<usize>) {
        if let Poll::Ready(bytes) = written {
            self.clock.progressed(bytes);
        } else if self.clock.write_waits.load(Ordering::Relaxed) == 0 {
            recent::refresh();
            self.clock.write_waits.store(self.clock.now() + 1, Ordering::Relaxed);
        }
    }
}

fn written(polled: &Poll<io::Result<usize>>) -> Poll<usize> {
    match polled {
        Poll::Ready(Ok(bytes)) => Poll::Ready(*bytes),
        Poll::Ready(Err(_)) => Poll::Ready(0),
        Poll::Pending => Poll::Pending,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Clocked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early.split_to(count));
            recent::refresh();
            self.clock.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            recent::refresh();
            self.clock.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Clocked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(written(&polled));
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // Without a wait before or now nothing went out.
        if polled.is_pending() || self.clock.write_waits.load(Ordering::Relaxed) > 0 {
            self.note_write(if polled.is_ready() { Poll::Ready(0) } else { Poll::Pending });
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

    use super::super::{Deadlines, HEAD};
    use super::*;
    use crate::limits::pace::Pace;

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn what_was_read_before_comes_first() {
        let write = Pace { grace: LONG, rate: 0 };
        let clock = Arc::new(Clock::new(Arc::new(Deadlines { header: LONG, idle: LONG, write })));
        clock.answered();
        let mut stream = Clocked::new(&b"lo"[..], Bytes::from_static(b"hel"), Arc::clone(&clock));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut text = String::new();
        runtime.block_on(stream.read_to_string(&mut text)).unwrap();
        assert_eq!((text.as_str(), clock.state.load(Ordering::Relaxed)), ("hello", HEAD));
    }
}

//! A connection that keeps the first line of what comes: hyper gives no reason phrase that holds bytes beyond ASCII.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const MAX_BYTES: usize = 4096;

/// The line so far.
#[derive(Clone, Default)]
pub(crate) struct StatusLine(Arc<Mutex<Vec<u8>>>);

pub(crate) struct RecordedStream<S> {
    stream: S,
    line: StatusLine,
}

impl StatusLine {
    pub(crate) fn record<S>(&self, stream: S) -> RecordedStream<S> {
        RecordedStream { stream, line: self.clone() }
    }

    /// What stands behind `HTTP/1.1 200 `.
    pub(crate) fn reason(&self) -> String {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        text.splitn(3, ' ').nth(2).unwrap_or_default().trim().to_owned()
    }

    fn add(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.contains(&b'\n') && line.len() < MAX_BYTES {
            line.extend_from_slice(bytes.get(..MAX_BYTES).unwrap_or(bytes));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RecordedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.line.add(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RecordedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_kept_with_all_its_bytes() {
        let line = StatusLine::default();
        for piece in ["HTTP/1.1 500 no such us", "er ('müller')\r\nDate: x\r\n", "\r\nbody\n"] {
            line.add(piece.as_bytes());
        }
        assert_eq!(line.reason(), "no such user ('müller')");
        let empty = StatusLine::default();
        empty.add(b"HTTP/1.1 200\r\n");
        assert_eq!(empty.reason(), "");
    }
}

//! The body of a file too big to keep: read piece by piece, off the reactor, at the pace of the client.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes per read, and the most that one body holds in memory.
const PIECE: u64 = 256 << 10;

/// Yields exactly the bytes of `remaining`; ends in `UnexpectedEof` if the file has become shorter.
pub(in crate::handler) struct FileBody {
    file: Arc<File>,
    remaining: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(in crate::handler) fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, remaining: range, reading: None }
    }

    fn piece_end(&self) -> u64 {
        self.remaining.end.min(self.remaining.start.saturating_add(PIECE))
    }

    fn read(&self) -> JoinHandle<io::Result<Bytes>> {
        let piece = self.remaining.start..self.piece_end();
        let file = Arc::clone(&self.file);
        spawn_blocking(move || {
            let length = usize::try_from(piece.end - piece.start).map_err(io::Error::other)?;
            let mut contents = vec![0; length];
            file.read_exact_at(&mut contents, piece.start)?;
            Ok(Bytes::from(contents))
        })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None if self.remaining.is_empty() => return Poll::Ready(None),
            None => self.read(),
        };
        let Poll::Ready(outcome) = Pin::new(&mut reading).poll(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let piece = outcome.map_err(io::Error::other).flatten();
        let read_up_to = if piece.is_ok() { self.piece_end() } else { self.remaining.end };
        self.remaining.start = read_up_to;
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining.end.saturating_sub(self.remaining.start))
    }
}

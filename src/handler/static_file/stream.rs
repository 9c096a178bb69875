//! The body of a file that is too large to cache. It is read piece by piece, as fast as the client reads.
//!
//! Bytes in the page cache are read at once. Bytes on disk are read on the blocking pool.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::http::body::PieceStream;

/// Bytes of one read. They fit into the CPU's cache until they are encrypted, and a client that stops reading holds only
/// a few such pieces. ZFS and tmpfs have no reads without waiting, so it holds for reads on the blocking pool as well.
const PIECE_BYTES: u64 = 32 << 10;
/// Consecutive reads from the page cache before the task yields to other connections.
const MAX_CONSECUTIVE_READS: u8 = 16;

/// Yields exactly the bytes of `remaining`. The error is `UnexpectedEof` if the file has become shorter.
pub struct FileBody {
    file: Arc<File>,
    remaining: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    consecutive_reads: u8,
}

impl FileBody {
    pub fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, remaining: range, reading: None, consecutive_reads: 0 }
    }

    fn piece_end(&self) -> u64 {
        self.remaining.end.min(self.remaining.start.saturating_add(PIECE_BYTES))
    }

    /// Reads without waiting for a disk. `None` if nothing is cached, or the file system does not support it.
    fn read_cached(&self) -> Option<Bytes> {
        let left = self.remaining.end.saturating_sub(self.remaining.start);
        let mut contents = vec![0; usize::try_from(left.min(PIECE_BYTES)).ok()?];
        let mut slices = [IoSliceMut::new(&mut contents)];
        let length = preadv2(&self.file, &mut slices, self.remaining.start, ReadWriteFlags::NOWAIT).ok()?;
        contents.truncate(length);
        (length > 0).then(|| Bytes::from(contents))
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

impl PieceStream for FileBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.consecutive_reads >= MAX_CONSECUTIVE_READS {
            self.consecutive_reads = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None if self.remaining.is_empty() => return Poll::Ready(None),
            None => {
                if let Some(piece) = self.read_cached() {
                    self.consecutive_reads += 1;
                    self.remaining.start += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                    return Poll::Ready(Some(Ok(piece)));
                }
                self.read()
            }
        };
        let Poll::Ready(outcome) = Pin::new(&mut reading).poll(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let piece = outcome.map_err(io::Error::other).flatten();
        let read_up_to = if piece.is_ok() { self.piece_end() } else { self.remaining.end };
        self.remaining.start = read_up_to;
        Poll::Ready(Some(piece))
    }

    fn length(&self) -> Option<u64> {
        Some(self.remaining.end.saturating_sub(self.remaining.start))
    }
}

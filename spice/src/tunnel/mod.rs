//! Bytes both ways between two TCP connections, unread.
//!
//! Small messages are copied through a buffer that all tunnels of a thread share. Bulk data is moved through a pipe
//! within the kernel, without being copied. A tunnel in which nothing waits holds neither.

mod pipe;
mod relay;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

pub use self::pipe::PIECE_BYTES;
use self::pipe::Pipe;
pub use self::relay::relay;
use self::relay::write;

/// Of the buffer for copying.
const COPY_BYTES: usize = 64 * 1024;
/// So much at once is a flood.
const FLOOD_BYTES: usize = 16 * 1024;
/// A flood lets the other tunnels of its thread go on after so many pieces.
const PIECES: u32 = 8;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes written to each side, the early ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Towards the server.
    pub up: u64,
    /// Towards the client.
    pub down: u64,
}

/// Counts the moved bytes; other threads may read it during the transfer.
#[derive(Debug, Default)]
pub struct Meter {
    up: AtomicU64,
    down: AtomicU64,
}

impl Meter {
    pub fn moved(&self) -> Moved {
        Moved { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }

    pub fn add_up(&self, bytes: usize) {
        add(&self.up, bytes);
    }

    pub fn add_down(&self, bytes: usize) {
        add(&self.down, bytes);
    }
}

/// Moves bytes until both directions have ended, or one has failed: then the other is given up as well.
///
/// `early_up` and `early_down` were read before and go first. The end of one direction is passed on as the end of
/// that direction only. The other goes on for as long as its source likes, so the caller sets a deadline. tokio's
/// `copy_bidirectional` loses the counts on an error, hence this loop.
pub async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    early_up: &[u8],
    early_down: &[u8],
    meter: &Meter,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let ended = tokio::try_join!(
        pump(from_client, to_server, early_up, &meter.up),
        pump(from_server, to_client, early_down, &meter.down),
    );
    ended.map(|_| ())
}

async fn pump(
    mut source: ReadHalf<'_>,
    mut sink: WriteHalf<'_>,
    early: &[u8],
    moved: &AtomicU64,
) -> io::Result<()> {
    write(&mut sink, early, moved).await?;
    let (mut flood, mut pieces) = (false, 0);
    loop {
        let piped = if flood { pipe(&source, &sink, moved).await? } else { None };
        let length = match piped {
            Some(length) => length,
            None => copy(&mut source, &mut sink, moved).await?,
        };
        if length == 0 {
            return sink.shutdown().await;
        }
        flood = length >= FLOOD_BYTES;
        pieces = if flood { pieces + 1 } else { 0 };
        if pieces >= PIECES {
            pieces = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Moves one piece, of at most a pipe's bytes; 0 at the end. `None` when there is no pipe to be had.
async fn pipe(source: &ReadHalf<'_>, sink: &WriteHalf<'_>, moved: &AtomicU64) -> io::Result<Option<usize>> {
    let source: &TcpStream = source.as_ref();
    let sink: &TcpStream = sink.as_ref();
    let (mut pipe, length) = loop {
        source.readable().await?;
        let Some(mut pipe) = Pipe::take() else { return Ok(None) };
        match source.try_io(Interest::READABLE, || pipe.fill(source)) {
            Ok(length) => break (pipe, length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    };
    while !pipe.is_empty() {
        match sink.try_io(Interest::WRITABLE, || pipe.drain(sink)) {
            Ok(written) => add(moved, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sink.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(Some(length))
}

/// Reads once and writes that; 0 at the end.
async fn copy(source: &mut ReadHalf<'_>, sink: &mut WriteHalf<'_>, moved: &AtomicU64) -> io::Result<usize> {
    let (length, rest) = poll_fn(|context| poll_copy(source, sink, moved, context)).await?;
    write(sink, &rest, moved).await?;
    Ok(length)
}

/// How much was read, and what of it did not go out at once.
fn poll_copy(
    source: &mut ReadHalf<'_>,
    sink: &WriteHalf<'_>,
    moved: &AtomicU64,
    context: &mut Context<'_>,
) -> Poll<io::Result<(usize, Vec<u8>)>> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(COPY_BYTES, 0);
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(source).poll_read(context, &mut buffer))?;
        let bytes = buffer.filled();
        let written = match sink.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Poll::Ready(Err(error)),
        };
        add(moved, written);
        Poll::Ready(Ok((bytes.len(), bytes.get(written..).unwrap_or_default().to_vec())))
    })
}

fn add(moved: &AtomicU64, written: usize) {
    moved.fetch_add(u64::try_from(written).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;

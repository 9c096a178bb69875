//! Relays the bytes of two connections, unread, in both directions.
//!
//! Small messages are copied through a buffer that all tunnels of a worker share. Between two TCP connections bulk data
//! moves through a pipe within the kernel, without a copy. A tunnel without traffic holds neither.

mod pipe;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};
use tokio::net::TcpStream;

pub use self::pipe::PIECE_BYTES;
use self::pipe::SparePipes;

/// The most that a direction reads before the other end has taken it.
const COPY_BYTES: usize = 64 * 1024;
/// So many bytes at once are a flood.
const FLOOD_BYTES: usize = 16 * 1024;
/// A flood yields to the other tunnels of its worker after so many pieces.
const MAX_PIECES: u32 = 8;

/// Buffers that all tunnels of a worker share.
#[derive(Default)]
pub struct TunnelBuffers {
    /// its contents are used or copied within one poll
    copy: RefCell<Vec<u8>>,
    pipes: SparePipes,
}

/// The early bytes, the counter and the buffers of a tunnel.
#[derive(Clone, Copy)]
pub struct Transfer<'a> {
    /// bytes that the client has sent before; they go to the server first
    pub early_up: &'a [u8],
    /// those that the server has sent before
    pub early_down: &'a [u8],
    pub counter: &'a ByteCounter,
    pub buffers: &'a TunnelBuffers,
}

/// One direction of a transfer.
struct Direction<'a> {
    early: &'a [u8],
    moved: &'a AtomicU64,
    buffers: &'a TunnelBuffers,
}

impl<'a> Transfer<'a> {
    fn up(self) -> Direction<'a> {
        Direction { early: self.early_up, moved: &self.counter.up, buffers: self.buffers }
    }

    fn down(self) -> Direction<'a> {
        Direction { early: self.early_down, moved: &self.counter.down, buffers: self.buffers }
    }
}

/// Bytes written to each end, with the early ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// to the server
    pub up: u64,
    /// to the client
    pub down: u64,
}

/// Counts the moved bytes. Other threads may read it during the transfer.
#[derive(Debug, Default)]
pub struct ByteCounter {
    up: AtomicU64,
    down: AtomicU64,
}

impl ByteCounter {
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

fn add(moved: &AtomicU64, written: usize) {
    moved.fetch_add(u64::try_from(written).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Relays between two TCP connections until both directions have ended, or one has failed.
///
/// The end of one direction is passed on as the end of that direction only. The caller sets the deadline of the other
/// one. tokio's `copy_bidirectional` loses the counts on an error.
pub async fn run(client: &mut TcpStream, server: &mut TcpStream, transfer: Transfer<'_>) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let ended = tokio::try_join!(
        pump(from_client, to_server, transfer.up(), |from, to| Some((from.as_ref(), to.as_ref()))),
        pump(from_server, to_client, transfer.down(), |from, to| Some((from.as_ref(), to.as_ref()))),
    );
    ended.map(|_| ())
}

/// The same if an end is more than a TCP connection, such as TLS. A direction holds 64 KiB at most, in addition to what
/// the ends hold. Each piece is flushed before the next read.
pub async fn relay<C, S>(client: &mut C, server: &mut S, transfer: Transfer<'_>) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let ended = tokio::try_join!(
        pump(from_client, to_server, transfer.up(), |_, _| None),
        pump(from_server, to_client, transfer.down(), |_, _| None),
    );
    ended.map(|_| ())
}

/// The TCP connections of both ends, if there is nothing on top of them.
type Sockets<'a> = Option<(&'a TcpStream, &'a TcpStream)>;

/// Moves the bytes of one direction, during a flood within the kernel if the ends have `sockets`.
async fn pump<R, W>(
    mut source: R,
    mut sink: W,
    direction: Direction<'_>,
    sockets: for<'a> fn(&'a R, &'a W) -> Sockets<'a>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Direction { early, moved, buffers } = direction;
    write(&mut sink, early, moved).await?;
    let (mut flood, mut pieces) = (false, 0);
    loop {
        let spliced = match sockets(&source, &sink).filter(|_| flood) {
            Some((source, sink)) => pipe::splice(source, sink, moved, &buffers.pipes).await?,
            None => None,
        };
        let (length, end) = match spliced {
            Some(length) => (length, (length == 0).then_some(Ok(()))),
            None => copy(&mut source, &mut sink, moved, &buffers.copy).await?,
        };
        match end {
            Some(Ok(())) => return sink.shutdown().await,
            Some(Err(error)) => return Err(error),
            None => (),
        }
        flood = length >= FLOOD_BYTES;
        pieces = if flood { pieces + 1 } else { 0 };
        if pieces >= MAX_PIECES {
            pieces = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Reads what is available and writes it. Returns its length, and the end of the source if that followed.
async fn copy<R, W>(
    source: &mut R,
    sink: &mut W,
    moved: &AtomicU64,
    buffer: &RefCell<Vec<u8>>,
) -> io::Result<(usize, Option<io::Result<()>>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let read = poll_fn(|context| {
        let mut buffer = buffer.borrow_mut();
        buffer.resize(COPY_BYTES, 0);
        let mut buffer = ReadBuf::new(&mut buffer);
        let end = poll_fill(source, &mut buffer, context);
        let bytes = buffer.filled();
        if bytes.is_empty() && end.is_none() {
            return Poll::Pending;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut *sink).poll_write(context, rest) else { break };
            rest = advance(rest, written?, moved)?;
        }
        Poll::Ready(io::Result::Ok((bytes.len(), rest.to_vec(), end)))
    });
    let (length, rest, end) = read.await?;
    write(sink, &rest, moved).await?;
    Ok((length, end))
}

/// Reads all that is available, because TLS returns one record at a time. Returns the end of the source, if it came.
fn poll_fill<R>(source: &mut R, buffer: &mut ReadBuf<'_>, context: &mut Context<'_>) -> Option<io::Result<()>>
where
    R: AsyncRead + Unpin,
{
    while buffer.remaining() > 0 {
        let before = buffer.filled().len();
        match Pin::new(&mut *source).poll_read(context, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before => return Some(Ok(())),
            Poll::Ready(Ok(())) => (),
            Poll::Ready(Err(error)) => return Some(Err(error)),
            Poll::Pending => return None,
        }
    }
    None
}

/// Writes and flushes. Counts each write, so that the count is right wherever it fails.
async fn write<W: AsyncWrite + Unpin>(sink: &mut W, mut bytes: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = advance(bytes, sink.write(bytes).await?, moved)?;
    }
    sink.flush().await
}

fn advance<'a>(bytes: &'a [u8], written: usize, moved: &AtomicU64) -> io::Result<&'a [u8]> {
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    add(moved, written);
    Ok(bytes.get(written..).unwrap_or_default())
}

#[cfg(test)]
mod tests;

//! Bytes both ways where an end is more than a TCP connection, such as TLS: they are read and written, unchanged.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};

use super::{FLOOD_BYTES, Meter, PIECES, add};

/// Most that is read of an end before the other one has taken it.
const RELAY_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Moves bytes until both directions have ended, or one has failed: then the other is given up as well.
///
/// See [`run`](super::run) for early bytes and ends. A direction holds 64 KiB at most, and what the ends hold by
/// themselves; while nothing waits it holds nothing. Each piece is flushed before more is read.
pub async fn relay<C, S>(
    client: &mut C,
    server: &mut S,
    early_up: &[u8],
    early_down: &[u8],
    meter: &Meter,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let ended = tokio::try_join!(
        pump(from_client, to_server, early_up, &meter.up),
        pump(from_server, to_client, early_down, &meter.down),
    );
    ended.map(|_| ())
}

async fn pump<R, W>(mut source: R, mut sink: W, early: &[u8], moved: &AtomicU64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    write(&mut sink, early, moved).await?;
    sink.flush().await?;
    let mut pieces = 0;
    loop {
        let piece = poll_fn(|context| poll_piece(&mut source, &mut sink, moved, context)).await?;
        write(&mut sink, &piece.rest, moved).await?;
        sink.flush().await?;
        match piece.end {
            Some(Ok(())) => return sink.shutdown().await,
            Some(Err(error)) => return Err(error),
            None => (),
        }
        pieces = if piece.length >= FLOOD_BYTES { pieces + 1 } else { 0 };
        if pieces >= PIECES {
            pieces = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The bytes of one read.
struct Piece {
    length: usize,
    /// what of it did not go out at once
    rest: Vec<u8>,
    /// how the source has ended behind it
    end: Option<io::Result<()>>,
}

fn poll_piece<R, W>(
    source: &mut R,
    sink: &mut W,
    moved: &AtomicU64,
    context: &mut Context<'_>,
) -> Poll<io::Result<Piece>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(RELAY_BYTES, 0);
        let mut buffer = ReadBuf::new(buffer);
        let end = poll_fill(source, &mut buffer, context);
        let bytes = buffer.filled();
        if bytes.is_empty() && end.is_none() {
            return Poll::Pending;
        }
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *sink).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => {
                    written += length;
                    add(moved, length);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        let rest = bytes.get(written..).unwrap_or_default().to_vec();
        Poll::Ready(Ok(Piece { length: bytes.len(), rest, end }))
    })
}

/// Reads what there is: TLS gives no more than a record at once. How the source has ended, if it has.
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

/// Counts as it goes, so that the count is right wherever it is broken off.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    sink: &mut W,
    mut bytes: &[u8],
    moved: &AtomicU64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = sink.write(bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        add(moved, written);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

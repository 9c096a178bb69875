//! The first record of a TLS connection. nodegate waits for it before a handshake costs memory.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Type, version and length (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Larger than any valid record. OpenSSL rejects a larger one.
const MAX_RECORD_BYTES: usize = (16 << 10) + 256;

/// Returns once the whole first record has arrived. It stays in the socket.
pub(crate) async fn arrived(stream: &TcpStream) -> io::Result<()> {
    // `async_io` repeats the check when more bytes arrive.
    stream
        .async_io(Interest::READABLE, || {
            if is_complete(stream)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        })
        .await
}

fn is_complete(stream: &TcpStream) -> io::Result<bool> {
    let mut header = [0; RECORD_HEADER_BYTES];
    let (_, seen) = rustix::net::recv(stream, &mut header, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    if seen == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let [_, _, _, high, low] = header;
    let length = RECORD_HEADER_BYTES + (usize::from(high) << 8 | usize::from(low));
    let there = usize::try_from(rustix::io::ioctl_fionread(stream)?).unwrap_or(usize::MAX);
    if seen == RECORD_HEADER_BYTES && (length > RECORD_HEADER_BYTES + MAX_RECORD_BYTES || there >= length) {
        return Ok(true);
    }
    // A socket at its end stays readable, so the check would repeat for ever.
    if has_ended(stream)? { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) }
}

/// Whether the client sends no more.
fn has_ended(stream: &TcpStream) -> io::Result<bool> {
    let mut sockets = [PollFd::new(stream, PollFlags::RDHUP)];
    rustix::event::poll(&mut sockets, Some(&Timespec::default()))?;
    Ok(sockets.iter().any(|socket| !socket.revents().is_empty()))
}

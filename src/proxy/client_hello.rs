//! The first record of a TLS connection. nodegate waits for it before a handshake costs memory.

use std::io;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::tls::is_closed;

/// Type, version and length (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Larger than any valid record. OpenSSL rejects a larger one.
const MAX_RECORD_BYTES: usize = (16 << 10) + 256;

/// Returns once the whole first record has arrived. It stays in the socket.
pub async fn arrived(stream: &TcpStream) -> io::Result<()> {
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
    if is_closed(stream, PollFlags::RDHUP) { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) }
}

//! The client's connection, on which a long write leaves in full packets although TLS cuts it into records.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// The longest plain text of a TLS record (RFC 8446 section 5.1).
pub(super) const RECORD: usize = 16 << 10;

/// A connection with a socket below it.
pub trait OverTcp: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for SslStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// Holds packets back for the length of one write, never longer.
pub(super) struct Corked<S>(pub(super) S);

impl<S: OverTcp> Corked<S> {
    fn cork(&self, cork: bool) {
        // Without it the packets are shorter, and that is all.
        let _ = SockRef::from(self.0.socket()).set_tcp_cork(cork);
    }
}

impl<S: OverTcp> AsyncRead for Corked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: OverTcp> AsyncWrite for Corked<S> {
    /// As many records as go out at once. What stopped them comes again with the next write.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() <= RECORD {
            return Pin::new(&mut self.0).poll_write(context, bytes);
        }
        self.cork(true);
        let mut written = 0;
        let last = loop {
            let rest = bytes.get(written..).unwrap_or_default();
            let polled = Pin::new(&mut self.0).poll_write(context, rest);
            let Poll::Ready(Ok(count)) = polled else { break polled };
            written += count;
            if count == 0 || count == rest.len() {
                break polled;
            }
        };
        self.cork(false);
        if written > 0 { Poll::Ready(Ok(written)) } else { last }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

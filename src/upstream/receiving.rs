//! A connection whose request is out: the event loop watches for its answer alone. A stream that is watched for
//! writing as well is told at once that it can be written, and whoever waits for the answer is woken for nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::os::readable;

/// The reading end of a connection that may not be written to any more, but can be turned into one that may.
pub(super) struct Receiving(AsyncFd<OwnedFd>);

impl Receiving {
    /// Of a TCP socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        readable::watch(socket).map(Self)
    }

    /// The same connection for both directions.
    pub(super) fn both_ways(&self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.0.get_ref().try_clone()?.into())
    }
}

impl AsyncRead for Receiving {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            if let Ok(read) = ready.try_io(|socket| Ok(rustix::io::read(socket.get_ref(), &mut *room)?)) {
                return Poll::Ready(read.map(|count| buffer.advance(count)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_and_after_all_something_can_be_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut receiving = Receiving::new(stream.into_std().unwrap().into()).unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut answer = [0; 6];
        let (read, ()) = tokio::join!(receiving.read_exact(&mut answer), async {
            tokio::task::yield_now().await;
            far.write_all(b"answer").await.unwrap();
        });
        assert_eq!((read.unwrap(), &answer), (6, b"answer"));
        receiving.both_ways().unwrap().write_all(b"more").await.unwrap();
        let mut more = [0; 4];
        far.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
        drop(far);
        assert_eq!(receiving.read(&mut more).await.unwrap(), 0);
    }
}

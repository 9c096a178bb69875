//! A stream that sends the frames of one poll together. The library flushes after each DATA frame, so each answer would
//! be a TLS record and a system call.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait for the end of a poll: the plain text of a TLS record.
const MAX_WAITING_BYTES: usize = 16 << 10;

/// One connection's stream. Clones share it.
pub(super) struct GatheredWrites<S>(Rc<RefCell<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    /// written by the library, not sent
    waiting: BytesMut,
    /// whether a poll runs that `GatheredWrites::during` began
    is_within_poll: bool,
    /// an error after the last poll, for the next one
    error: Option<io::Error>,
}

impl<S> Clone for GatheredWrites<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> GatheredWrites<S> {
    pub(super) fn new(stream: S) -> Self {
        let gathering = Gathering { stream, waiting: BytesMut::new(), is_within_poll: false, error: None };
        Self(Rc::new(RefCell::new(gathering)))
    }

    /// Calls `poll`, then sends what it wrote. Bytes that the socket does not take go with the next call: the task is
    /// woken for them.
    pub(super) fn during<T>(&self, context: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.0.borrow_mut().is_within_poll = true;
        let polled = poll(context);
        let mut gathering = self.0.borrow_mut();
        gathering.is_within_poll = false;
        if let Poll::Ready(Err(error)) = gathering.poll_flush(context) {
            gathering.error = Some(error);
            context.waker().wake_by_ref();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
        }
        // A connection without requests keeps no memory for them.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.is_within_poll && self.waiting.len() + length <= MAX_WAITING_BYTES {
            for slice in slices {
                self.waiting.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatheredWrites<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        if let Some(error) = gathering.error.take() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut gathering.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatheredWrites<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        if gathering.is_within_poll { Poll::Ready(Ok(())) } else { gathering.poll_flush(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        ready!(gathering.poll_send(context))?;
        Pin::new(&mut gathering.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A socket with room for some bytes in all, that keeps each write.
    #[derive(Default)]
    struct Socket {
        writes: Rc<RefCell<Vec<Vec<u8>>>>,
        room: usize,
        is_broken: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = bytes.get(..bytes.len().min(self.room)).unwrap_or_default().to_vec();
            if taken.is_empty() {
                self.room = 1 << 20;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let length = taken.len();
            self.room -= length;
            self.writes.borrow_mut().push(taken);
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes and flushes each piece within one poll. Returns the first error.
    async fn write_within_poll(io: &GatheredWrites<Socket>, pieces: &[&[u8]]) -> io::Result<()> {
        let mut library = io.clone();
        poll_fn(|context| {
            io.during(context, |context| {
                for piece in pieces {
                    let mut rest = *piece;
                    while !rest.is_empty() {
                        let written = ready!(Pin::new(&mut library).poll_write(context, rest))?;
                        rest = rest.get(written..).unwrap_or_default();
                    }
                    ready!(Pin::new(&mut library).poll_flush(context))?;
                }
                Poll::Ready(Ok(()))
            })
        })
        .await
    }

    #[tokio::test]
    async fn frames_of_one_poll_are_one_write() {
        let writes = Rc::default();
        let socket = Socket { writes: Rc::clone(&writes), room: 1 << 20, is_broken: false };
        let io = GatheredWrites::new(socket);
        write_within_poll(&io, &[b"head", b"data", b"head", b"data"]).await.unwrap();
        write_within_poll(&io, &[b"more"]).await.unwrap();
        assert_eq!(*writes.borrow(), [b"headdataheaddata".to_vec(), b"more".to_vec()]);
        assert_eq!(io.0.borrow().waiting.capacity(), 0);
        io.clone().write_all(b"last").await.unwrap();
        assert_eq!(writes.borrow().last().unwrap(), b"last");
    }

    #[tokio::test]
    async fn a_full_socket_gets_every_byte_in_order() {
        let writes = Rc::default();
        let io = GatheredWrites::new(Socket { writes: Rc::clone(&writes), room: 5, is_broken: false });
        write_within_poll(&io, &[b"one", b"two", b"three"]).await.unwrap();
        assert_eq!(writes.borrow().concat(), b"onetw");
        let large = vec![b'x'; MAX_WAITING_BYTES + 1];
        io.clone().write_all(&large).await.unwrap();
        io.clone().flush().await.unwrap();
        assert_eq!(writes.borrow().concat(), [b"onetwothree".to_vec(), large].concat());
    }

    #[tokio::test]
    async fn the_next_poll_sees_a_socket_error() {
        let io = GatheredWrites::new(Socket { is_broken: true, ..Socket::default() });
        write_within_poll(&io, &[b"answer"]).await.unwrap();
        let error = write_within_poll(&io, &[b"next"]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

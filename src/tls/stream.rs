//! The client's end of a TLS connection. It sends many records in one write; OpenSSL makes a system call for each.
//!
//! Records are gathered in memory of the worker, and sent before `poll_write` returns. Only bytes that the socket
//! does not take stay with the connection: see `poll_flush`.

mod client_stream;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use openssl::ssl::Ssl;
use openssl::x509::X509;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

pub use client_stream::{ClientStream, is_closed};

use crate::tls::client_auth;
use crate::tls::connection_info::TlsSession;

/// Bytes of plain text in a full record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;
/// Most bytes of plain text that are gathered. As much is encrypted and kept for a client that does not read.
const BATCH_BYTES: usize = 4 * RECORD_BYTES;
/// `BATCH_BYTES` with the overhead of TLS.
const ENCRYPTED_BYTES: usize = BATCH_BYTES + 4096;

/// Scratch buffers that all connections of a worker share. One connection at a time writes, and `poll_write` leaves
/// nothing in them.
#[derive(Clone, Default)]
pub struct WriteBuffers(Rc<RefCell<ScratchBuffers>>);

#[derive(Default)]
struct ScratchBuffers {
    /// a record's worth of several slices
    plain: Vec<u8>,
    encrypted: Vec<u8>,
}

/// A TLS connection that a client opened.
pub struct TlsStream(SslStream<RecordBuffer>);

impl TlsStream {
    pub(super) fn new(
        ssl: Ssl,
        stream: TcpStream,
        buffers: WriteBuffers,
    ) -> Result<Self, openssl::error::ErrorStack> {
        SslStream::new(ssl, RecordBuffer::new(stream, buffers)).map(Self)
    }

    pub(super) async fn accept(&mut self) -> Result<(), openssl::ssl::Error> {
        Pin::new(&mut self.0).accept().await
    }

    /// Whether the client certificate of a resumed session has expired since its handshake.
    pub(super) fn is_outdated(&self) -> bool {
        self.resumed_certificate().is_some_and(|shown| client_auth::has_expired(&shown))
    }

    /// The client certificate of a resumed session.
    pub(super) fn resumed_certificate(&self) -> Option<X509> {
        let ssl = self.0.ssl();
        ssl.peer_certificate().filter(|_| ssl.session_reused())
    }

    /// Whether the client has chosen HTTP/2 (RFC 7301).
    pub fn speaks_http2(&self) -> bool {
        self.0.ssl().selected_alpn_protocol() == Some(b"h2")
    }

    pub fn session(&self) -> TlsSession {
        TlsSession::from_ssl(self.0.ssl())
    }

    /// Encrypts the beginning of `slices`, in full records if there are enough bytes.
    fn poll_encrypt_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        plain: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let mut left = slices.iter().map(|slice| &**slice);
        let mut slice: &[u8] = left.next().unwrap_or_default();
        let mut encrypted = 0;
        while encrypted < BATCH_BYTES {
            plain.clear();
            while slice.len() < RECORD_BYTES - plain.len()
                && let Some(next) = left.next()
            {
                plain.extend_from_slice(slice);
                slice = next;
            }
            let take = slice.len().min(RECORD_BYTES - plain.len());
            let (head, tail) = slice.split_at(take);
            slice = tail;
            let record = if plain.is_empty() {
                head
            } else {
                plain.extend_from_slice(head);
                plain.as_slice()
            };
            if record.is_empty() {
                break;
            }
            match self.poll_encrypt(context, record) {
                Poll::Ready(Ok(length)) => {
                    encrypted += length;
                    if length < record.len() {
                        break;
                    }
                }
                Poll::Ready(Err(_)) | Poll::Pending if encrypted > 0 => break,
                polled @ (Poll::Ready(Err(_)) | Poll::Pending) => return polled,
            }
        }
        Poll::Ready(Ok(encrypted))
    }

    /// Encrypts all of `record`, in smaller records if the client negotiated those.
    fn poll_encrypt(&mut self, context: &mut Context<'_>, record: &[u8]) -> Poll<io::Result<usize>> {
        let mut done = 0;
        while let Some(rest) = record.get(done..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.0).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(length)) => done += length,
                Poll::Ready(Err(_)) | Poll::Pending if done > 0 => break,
                polled @ (Poll::Ready(Err(_)) | Poll::Pending) => return polled,
            }
        }
        Poll::Ready(Ok(done))
    }

    /// Sends the bytes that are left. Their buffer goes back to the worker for the next write.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.0.get_mut();
        ready!(wire.poll_send(context))?;
        if wire.left.capacity() > 0 {
            let memory = mem::take(&mut wire.left);
            wire.shared.0.borrow_mut().encrypted = memory;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let wire = self.0.get_mut();
        let ScratchBuffers { mut plain, mut encrypted } = wire.shared.0.take();
        encrypted.reserve(ENCRYPTED_BYTES);
        wire.left = encrypted;
        wire.buffering = true;
        let written = self.poll_encrypt_slices(context, slices, &mut plain);
        let wire = self.0.get_mut();
        wire.buffering = false;
        wire.shared.0.borrow_mut().plain = plain;
        // Bytes that the socket does not take now go with the next write or flush.
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        if self.0.get_ref().ended {
            return Pin::new(&mut self.0.get_mut().stream).poll_shutdown(context);
        }
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The stream that OpenSSL reads and writes.
struct RecordBuffer {
    stream: TcpStream,
    shared: WriteBuffers,
    /// Whether OpenSSL's output is appended to `left`.
    buffering: bool,
    /// Records that are not sent yet, from `sent` on.
    left: Vec<u8>,
    sent: usize,
    /// The TCP stream ended without a `close_notify`, and nothing was sent since: a `close_notify` would be answered
    /// by a reset. A client that closes only its sending half after the response looks the same.
    ended: bool,
}

impl RecordBuffer {
    fn new(stream: TcpStream, shared: WriteBuffers) -> Self {
        Self { stream, shared, buffering: false, left: Vec::new(), sent: 0, ended: false }
    }

    /// Sends the bytes that are left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.sent += written;
                    self.ended = false;
                }
            }
        }
        self.sent = 0;
        self.left.clear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for RecordBuffer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.ended |= matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        polled
    }
}

impl AsyncWrite for RecordBuffer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.ended = false;
        if self.buffering {
            self.left.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        // Handshakes, alerts, responses to key updates.
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// OpenSSL calls it and takes a pending result for an error, so `TlsStream` sends what is left.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{SocketAddr, TcpListener};
    use std::thread;
    use std::time::Duration;

    use nodegate_standin::{Certificate, KeyKind};
    use openssl::pkey::PKey;
    use openssl::ssl::{SslConnector, SslContext, SslMethod, SslStream, SslVerifyMode};
    use openssl::x509::X509;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn context() -> SslContext {
        let pair = Certificate::ca().issue("n.example.com", &[], KeyKind::Rsa2048);
        let pem = pair.combined_pem();
        let mut builder = SslContext::builder(SslMethod::tls_server()).unwrap();
        builder.set_mode(crate::tls::STREAM_MODE);
        builder.set_private_key(&PKey::private_key_from_pem(pem.as_bytes()).unwrap()).unwrap();
        builder.set_certificate(&X509::from_pem(pem.as_bytes()).unwrap()).unwrap();
        builder.build()
    }

    fn connected(address: SocketAddr) -> SslStream<std::net::TcpStream> {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let stream = std::net::TcpStream::connect(address).unwrap();
        connector.build().connect("n.example.com", stream).unwrap()
    }

    async fn accepted(listener: &TcpListener) -> TlsStream {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let mut stream =
            TlsStream::new(Ssl::new(&context()).unwrap(), stream, WriteBuffers::default()).unwrap();
        stream.accept().await.unwrap();
        stream
    }

    /// A client that lets the socket fill before it reads.
    fn late_reader(listener: &TcpListener) -> thread::JoinHandle<Vec<u8>> {
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = connected(address);
            thread::sleep(Duration::from_millis(200));
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            read
        })
    }

    #[tokio::test]
    async fn slices_arrive_in_order_and_buffers_shrink() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reader = late_reader(&listener);
        let mut stream = accepted(&listener).await;

        let mut sent = Vec::new();
        for (round, length) in [1, 300, 16_383, 16_384, 16_385, 70_000, 1_000_000].into_iter().enumerate() {
            let head = vec![u8::try_from(round).unwrap(); 350];
            let body: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut slices = &mut [IoSlice::new(&head), IoSlice::new(&body), IoSlice::new(b"end")][..];
            while !slices.is_empty() {
                let written = stream.write_vectored(slices).await.unwrap();
                IoSlice::advance_slices(&mut slices, written);
            }
            sent.extend([&head[..], &body, b"end"].concat());
        }
        stream.flush().await.unwrap();
        assert_eq!(stream.0.get_ref().left.capacity(), 0);
        stream.shutdown().await.unwrap();
        assert!(reader.join().unwrap() == sent);
    }

    /// The bytes of records that reach a client which closes its half without `close_notify`.
    fn left_to_read(listener: &TcpListener) -> thread::JoinHandle<usize> {
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = connected(address);
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 2); // with the tickets before it
            stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
            let mut read = Vec::new();
            stream.get_mut().read_to_end(&mut read).unwrap();
            read.len()
        })
    }

    #[tokio::test]
    async fn gone_clients_get_no_unneeded_close_notify() {
        const OVERHEAD: usize = 5 + 1 + 16; // RFC 8446, section 5.2
        for (more, expected) in [("", 0), ("more", OVERHEAD + 4 + OVERHEAD + 2)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let reader = left_to_read(&listener);
            let mut stream = accepted(&listener).await;
            stream.write_all(b"ok").await.unwrap();
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await;
            stream.write_all(more.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
            assert_eq!(reader.join().unwrap(), expected);
        }
    }
}

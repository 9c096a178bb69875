//! The TLS client of the generators: TLS 1.3 without looking at the certificate, one request, one answer.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslSession, SslVerifyMode, SslVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_openssl::SslStream;

/// No step of a client takes longer unless something is broken: behind calls of 8 s, others wait for two turns.
const TIMEOUT: Duration = Duration::from_mins(1);
const LARGEST_HEAD: usize = 32 << 10;

pub(crate) type Stream = SslStream<TcpStream>;

/// For clients that share nothing but their settings.
pub(crate) fn context() -> Result<SslContext> {
    Ok(builder()?.build())
}

/// TLS 1.3 with the suite and the group that every row is measured with.
pub(crate) fn builder() -> Result<SslContextBuilder> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_ciphersuites("TLS_AES_256_GCM_SHA384")?;
    builder.set_groups_list("X25519")?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_mode(
        SslMode::RELEASE_BUFFERS | SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER,
    );
    builder.set_read_ahead(true);
    Ok(builder)
}

/// The runtime of a generator: one thread.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Fails when `step` does not end in time.
pub(crate) async fn within<T>(what: &'static str, step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(TIMEOUT, step).await.with_context(|| format!("{what}: nothing for {TIMEOUT:?}"))?.context(what)
}

/// Connects and shakes hands, with a session of before or without.
pub(crate) async fn connect(
    address: SocketAddr,
    context: &SslContext,
    session: Option<&SslSession>,
) -> Result<Stream> {
    let stream = within("connect", async { Ok(TcpStream::connect(address).await?) }).await?;
    secure(stream, context, session).await
}

/// The address of a stranger, which limits count: loopback they do not.
pub(crate) fn stranger(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, number.saturating_add(1))
}

/// Connects from one of the addresses of this machine.
pub(crate) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    within("connect", async { Ok(socket.connect(address).await?) }).await
}

/// Shakes hands on a connection.
pub(crate) async fn secure(
    stream: TcpStream,
    context: &SslContext,
    session: Option<&SslSession>,
) -> Result<Stream> {
    stream.set_nodelay(true)?;
    let mut ssl = Ssl::new(context)?;
    if let Some(session) = session {
        // SAFETY: the session was made by the context that this connection is made from.
        unsafe { ssl.set_session(session)? };
    }
    let mut stream = SslStream::new(ssl, stream)?;
    within("handshake", async { Ok(Pin::new(&mut stream).connect().await?) }).await?;
    Ok(stream)
}

/// An answer, and whether the connection may be used again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) keeps: bool,
}

/// Sends a request and takes in the whole answer; what comes back is its status.
pub(crate) async fn ask(stream: &mut Stream, request: &str) -> Result<u16> {
    Ok(ask_kept(stream, request).await?.status)
}

/// The same for a client that keeps its connection.
pub(crate) async fn ask_kept(stream: &mut Stream, request: &str) -> Result<Answered> {
    within("answer", async {
        stream.write_all(request.as_bytes()).await?;
        let (head, mut have) = read_head(stream).await?;
        let length = length(&head)?;
        let mut buffer = vec![0; length.saturating_sub(have).min(16 << 10)];
        while have < length {
            match stream.read(&mut buffer).await? {
                0 => bail!("the answer ends after {have} of {length} bytes"),
                read => have += read,
            }
        }
        let keeps = !head.to_ascii_lowercase().contains("\r\nconnection: close");
        Ok(Answered { status: status(&head)?, keeps })
    })
    .await
}

/// Sends a request and reads any response, with a length or in chunks.
pub(crate) async fn ask_anything(stream: &mut Stream, request: &str) -> Result<()> {
    within("answer", async {
        stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::with_capacity(4 << 10);
        loop {
            if stream.read_buf(&mut received).await? == 0 {
                bail!("closed within an answer");
            }
            let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let (head, body) = received.split_at(end + 4);
            let head = String::from_utf8_lossy(head);
            let is_whole = match length(&head) {
                Ok(length) => body.len() >= length,
                Err(_) => body.ends_with(b"0\r\n\r\n"),
            };
            if is_whole {
                return Ok(());
            }
        }
    })
    .await
}

/// Sends a request and reads no further than the head of the answer and what came with it.
pub(crate) async fn begin(stream: &mut Stream, request: &str) -> Result<u16> {
    within("answer's head", async {
        stream.write_all(request.as_bytes()).await?;
        status(&read_head(stream).await?.0)
    })
    .await
}

/// The head, and how many bytes of the body came with it.
async fn read_head(stream: &mut Stream) -> Result<(String, usize)> {
    let mut received = Vec::with_capacity(4 << 10);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            bail!("closed within the head of an answer");
        }
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = received.split_off(end + 4);
            return Ok((String::from_utf8(received)?, body.len()));
        }
        if received.len() > LARGEST_HEAD {
            bail!("the head of the answer has no end");
        }
    }
}

fn status(head: &str) -> Result<u16> {
    let word = head.split_ascii_whitespace().nth(1).context("an answer without a status")?;
    Ok(word.parse()?)
}

fn length(head: &str) -> Result<usize> {
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(value.trim().parse()?);
        }
    }
    bail!("an answer without Content-Length")
}

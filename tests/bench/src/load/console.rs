//! Consoles: bulk and echo through a websocket over TLS, and through bare TLS for a proxy that only ends that.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion};

use super::tunnel::{self, Bulk, Direction, Latency, discard, joined, measure, read_head};

/// Of a frame of the viewer's, so that it is 64 kB with its head: four full records, as they come without framing.
const PAYLOAD: usize = (64 << 10) - 8;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The answer to the key in `UPGRADE` (RFC 6455, section 1.3).
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Protocol: binary\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A way through a proxy that ends TLS to a console of ours.
pub(crate) struct Path<'a> {
    pub(crate) proxy: SocketAddr,
    /// Path with query, and header lines, of the websocket's request; none for a proxy without framing.
    pub(crate) websocket: Option<(&'a str, &'a str)>,
    /// Where the proxy connects to.
    pub(crate) console: &'a TcpListener,
    /// The console itself speaks the websocket, for a proxy that passes it on.
    pub(crate) ends_websocket: bool,
    /// The proxy's process, for its CPU time.
    pub(crate) pid: Option<u32>,
}

/// A context for viewers: TLS 1.3, nothing verified.
pub(crate) fn context() -> Result<SslContext> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_ciphersuites("TLS_AES_256_GCM_SHA384")?;
    Ok(builder.build())
}

/// Bytes of a viewer leave when it flushes: OpenSSL by itself makes a system call for each record.
pub(crate) struct Gathered {
    stream: TcpStream,
    records: Vec<u8>,
}

impl Read for Gathered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.records.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.records);
        self.records.clear();
        written
    }
}

/// The two ends: the viewer's, the console's.
pub(crate) fn open(path: &Path<'_>, context: &SslContext) -> Result<(SslStream<Gathered>, TcpStream)> {
    let stream = TcpStream::connect(path.proxy)?;
    tunnel::prepare(&stream)?;
    let mut viewer = SslStream::new(Ssl::new(context)?, Gathered { stream, records: Vec::new() })?;
    viewer.connect()?;
    if let Some((target, headers)) = path.websocket {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}{UPGRADE}\r\n", path.proxy);
        viewer.write_all(request.as_bytes())?;
        viewer.flush()?;
        if path.ends_websocket {
            let mut console = accept(path)?;
            read_head(&mut console, "GET ")?;
            console.write_all(SWITCH.as_bytes())?;
            read_head(&mut viewer, " 101 ")?;
            return Ok((viewer, console));
        }
        read_head(&mut viewer, " 101 ")?;
    }
    Ok((viewer, accept(path)?))
}

fn accept(path: &Path<'_>) -> Result<TcpStream> {
    let (console, _) = path.console.accept()?;
    tunnel::prepare(&console)?;
    Ok(console)
}

/// A whole binary message, masked; without framing only the payload.
fn frame(path: &Path<'_>, payload: &[u8]) -> Result<Vec<u8>> {
    if path.websocket.is_none() {
        return Ok(payload.to_vec());
    }
    let mut frame = vec![0x82];
    if let Ok(short @ ..126) = u8::try_from(payload.len()) {
        frame.push(0x80 | short);
    } else {
        frame.push(0xfe);
        frame.extend(u16::try_from(payload.len())?.to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(frame)
}

/// As many bytes as go through. Towards the viewer records are counted as they come and not decrypted (22 bytes of
/// 16 kB too many): else the viewer would be slower than the proxy.
pub(crate) fn bulk(path: &Path<'_>, direction: Direction, duration: Duration) -> Result<Bulk> {
    let (mut viewer, console) = open(path, &context()?)?;
    let raw = viewer.get_ref().stream.try_clone()?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (source, sink) = match direction {
            Direction::ToViewer => (console.try_clone()?, raw),
            Direction::ToMachine => (raw, console.try_clone()?),
        };
        let frame = frame(path, &vec![0x5a; PAYLOAD])?;
        let (console, viewer, ended) = (&console, &mut viewer, &ended);
        let sending = scope.spawn(move || match direction {
            Direction::ToViewer => tunnel::send(console, ended),
            Direction::ToMachine => {
                while !ended.load(Ordering::Relaxed)
                    && viewer.write_all(&frame).is_ok()
                    && viewer.flush().is_ok()
                {}
                Ok(())
            }
        });
        let measured = measure(path.pid, duration, &mut |until| discard(&sink, until));
        ended.store(true, Ordering::Relaxed);
        // Waiting clients are let go.
        let _ = sink.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
        joined(sending)?;
        measured
    })
}

/// One message of `length` bytes there and back, again and again, both ends in one thread.
pub(crate) fn echo(path: &Path<'_>, length: usize, rounds: usize) -> Result<Latency> {
    let (mut viewer, mut console) = open(path, &context()?)?;
    let message = vec![0x5a; length];
    let request = frame(path, &message)?;
    // A server's head of two bytes before the payload.
    let framed = [&[0x82, u8::try_from(length)?], &message[..]].concat();
    let mut at_the_console = vec![0; if path.ends_websocket { request.len() } else { length }];
    let reply = if path.ends_websocket { &framed } else { &message };
    let mut answer = vec![0; if path.websocket.is_some() { framed.len() } else { length }];
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let before = Instant::now();
        viewer.write_all(&request)?;
        viewer.flush()?;
        console.read_exact(&mut at_the_console)?;
        console.write_all(reply)?;
        viewer.read_exact(&mut answer)?;
        samples.push(before.elapsed());
    }
    ensure!(answer.ends_with(&message), "another message came back");
    Latency::of(samples)
}

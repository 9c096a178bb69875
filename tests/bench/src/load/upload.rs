//! A file as a form, from a client that sends as fast as it can.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openssl::ssl::{Ssl, SslStream};

use super::console;
use super::tunnel::read_head;

const BOUNDARY: &str = "----bench-boundary";
const PIECE: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_mins(2);

/// The body to send, and its destination.
pub(crate) struct Upload<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) target: &'a str,
    /// Header lines with their ends.
    pub(crate) headers: &'a str,
    pub(crate) bytes: u64,
}

/// From the request to the head of its answer, which must be a 200.
pub(crate) fn send(upload: &Upload<'_>) -> Result<Duration> {
    let stream = TcpStream::connect(upload.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let context = console::context()?;
    let mut stream = SslStream::new(Ssl::new(&context)?, stream)?;
    stream.connect()?;
    let before = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n\
         --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"bench.iso\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let after = format!("\r\n--{BOUNDARY}--\r\n");
    let framing = u64::try_from(before.len() + after.len())?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\n{}\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        upload.target,
        upload.headers,
        upload.bytes + framing
    );
    let begun = Instant::now();
    stream.write_all(head.as_bytes())?;
    stream.write_all(before.as_bytes())?;
    // No line of it looks like a boundary.
    let piece = vec![0x5a; PIECE];
    let mut left = upload.bytes;
    while left > 0 {
        let length = usize::try_from(left.min(u64::try_from(PIECE)?))?;
        let sent = stream.write(piece.get(..length).context("a piece is long enough")?)?;
        ensure!(sent > 0, "the connection takes nothing");
        left -= u64::try_from(sent)?;
    }
    stream.write_all(after.as_bytes())?;
    read_head(&mut stream, " 200 ")?;
    let took = begun.elapsed();
    // The rest of the answer is short.
    let _ = stream.read(&mut [0; 1024]);
    Ok(took)
}

//! HTTP/1.1 by hand: a recorder has to keep what a library would tidy up.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::answer::{Failure, Step};
use crate::record::Recorded;
use crate::special::content;

const HEADERS: usize = 256;
/// A multiple of the pattern's length, so that every piece starts alike.
const PIECE: usize = 251 * 256;

pub(crate) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    idle: Duration,
}

pub(crate) struct Arrival {
    pub(crate) request: Recorded,
    /// Why it cannot be served.
    pub(crate) fault: Option<Failure>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, idle: Duration) -> Self {
        Self { stream, buffer: Vec::new(), idle }
    }

    /// The next request; none when the client has left or said nothing for too long.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Arrival>> {
        let mut request = loop {
            match parsed_head(&self.buffer) {
                Ok(Some(request)) => break request,
                Ok(None) => {}
                Err(error) => return Ok(Some(self.nonsense(&error.to_string()))),
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        };
        self.buffer.drain(..request.head.len());
        let fault = match body_length(&request) {
            Err(failure) => Some(failure),
            Ok(length) => self.read_body(&mut request, length).await?,
        };
        request.complete = fault.is_none();
        Ok(Some(Arrival { request, fault }))
    }

    async fn read_body(&mut self, request: &mut Recorded, length: usize) -> io::Result<Option<Failure>> {
        while self.buffer.len() < length {
            if !self.read_more().await? {
                request.body = std::mem::take(&mut self.buffer);
                return Ok(Some(Failure::new(400, "body shorter than announced")));
            }
        }
        request.body = self.buffer.drain(..length).collect();
        Ok(None)
    }

    fn nonsense(&mut self, message: &str) -> Arrival {
        let request = Recorded {
            head: std::mem::take(&mut self.buffer),
            version: "HTTP/1.0".to_owned(),
            ..Recorded::default()
        };
        let fault = Some(Failure::new(400, format!("bad request: {message}")));
        Arrival { request, fault }
    }

    async fn read_more(&mut self) -> io::Result<bool> {
        match timeout(self.idle, self.stream.read_buf(&mut self.buffer)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => Ok(false),
        }
    }

    pub(crate) async fn perform(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Write(bytes) => self.stream.write_all(&bytes).await,
            Step::Content(size) => self.write_content(size).await,
            Step::Wait(time) => {
                sleep(time).await;
                Ok(())
            }
            Step::Hang => self.discard().await,
        }
    }

    async fn write_content(&mut self, mut size: usize) -> io::Result<()> {
        let piece = content(PIECE);
        while size > 0 {
            let length = size.min(piece.len());
            self.stream.write_all(&piece[..length]).await?;
            size -= length;
        }
        Ok(())
    }

    async fn discard(&mut self) -> io::Result<()> {
        let mut sink = [0; 4096];
        while self.stream.read(&mut sink).await? > 0 {}
        Ok(())
    }

    /// Ends the sending half first: a reset because of unread bytes could overtake the answer.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        timeout(Duration::from_millis(200), self.discard()).await.unwrap_or(Ok(()))
    }
}

fn parsed_head(bytes: &[u8]) -> Result<Option<Recorded>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let headers = parsed.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_owned(), value)
    });
    Ok(Some(Recorded {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        version: format!("HTTP/1.{}", parsed.version.unwrap_or_default()),
        headers: headers.collect(),
        head: bytes[..length].to_vec(),
        ..Recorded::default()
    }))
}

fn body_length(request: &Recorded) -> Result<usize, Failure> {
    if request.header("transfer-encoding").is_some() {
        let message = "chunked transfer encoding not supported";
        return Err(Failure::new(501, message));
    }
    match request.all("content-length")[..] {
        [] => Ok(0),
        [one] if one.bytes().all(|byte| byte.is_ascii_digit()) => {
            one.parse().map_err(|_| Failure::new(400, "bad Content-Length"))
        }
        _ => Err(Failure::new(400, "bad Content-Length")),
    }
}

//! Up to six connections, each with one request at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use openssl::ssl::SslContext;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Answer, Request};
use crate::load::client::{self, Stream, within};

/// Browsers open no more to one host.
const CONNECTIONS: usize = 6;

/// Kept connections, opened when a request waits and there are fewer than six.
pub(super) struct Pool {
    address: SocketAddr,
    context: SslContext,
    idle: Vec<Stream>,
}

/// The requests of a step that wait, and the answers that came, by their numbers.
struct Work {
    waiting: VecDeque<(usize, Request)>,
    answered: Vec<(usize, Answer)>,
}

impl Pool {
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        let mut builder = client::builder()?;
        builder.set_alpn_protos(b"\x08http/1.1")?;
        Ok(Self { address, context: builder.build(), idle: Vec::new() })
    }

    /// The answers in the order of the requests.
    pub(super) async fn fetch(&mut self, requests: Vec<Request>) -> Result<Vec<Answer>> {
        let count = CONNECTIONS.min(requests.len());
        let work = Work { waiting: requests.into_iter().enumerate().collect(), answered: Vec::new() };
        let work = Rc::new(RefCell::new(work));
        let mut tasks = Vec::new();
        for _ in 0..count {
            let (address, context, work) = (self.address, self.context.clone(), Rc::clone(&work));
            let stream = self.idle.pop();
            tasks.push(tokio::task::spawn_local(serve(address, context, stream, work)));
        }
        for task in tasks {
            self.idle.extend(task.await??);
        }
        let mut answered = std::mem::take(&mut work.borrow_mut().answered);
        answered.sort_by_key(|(number, _)| *number);
        Ok(answered.into_iter().map(|(_, answer)| answer).collect())
    }
}

/// Sends what waits over one connection. A connection that is ready late may find nothing left.
async fn serve(
    address: SocketAddr,
    context: SslContext,
    stream: Option<Stream>,
    work: Rc<RefCell<Work>>,
) -> Result<Option<Stream>> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => client::connect(address, &context, None).await?,
    };
    loop {
        let next = work.borrow_mut().waiting.pop_front();
        let Some((number, request)) = next else { return Ok(Some(stream)) };
        let answer = ask(&mut stream, &request, address).await.with_context(|| request.url)?;
        let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        work.borrow_mut().answered.push((number, answer));
        if closes {
            if work.borrow().waiting.is_empty() {
                return Ok(None);
            }
            stream = client::connect(address, &context, None).await?;
        }
    }
}

async fn ask(stream: &mut Stream, request: &Request, address: SocketAddr) -> Result<Answer> {
    let method = if request.is_post { "POST" } else { "GET" };
    let mut head = format!("{method} {} HTTP/1.1\r\nhost: {address}\r\n", request.url);
    for (name, value) in &request.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if request.is_post {
        let _ = write!(head, "content-length: {}\r\n", request.body.len());
    }
    head.push_str("\r\n");
    head.push_str(request.body);
    within("answer", async {
        stream.write_all(head.as_bytes()).await?;
        receive(stream).await
    })
    .await
}

/// A whole answer: with a length, in chunks, or without a body.
async fn receive(stream: &mut Stream) -> Result<Answer> {
    let mut received = Vec::with_capacity(16 << 10);
    let end = loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut received).await? == 0 {
            bail!("closed within the head of an answer");
        }
    };
    let mut body = received.split_off(end);
    let head = String::from_utf8(received)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let mut answer = Answer { status, headers: headers.collect(), bytes: 0 };
    let length = answer.header("content-length").map(str::parse::<usize>).transpose()?;
    let is_whole = |body: &[u8]| match length {
        _ if status == 304 || status == 204 => true,
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    };
    while !is_whole(&body) {
        body.reserve(64 << 10);
        if stream.read_buf(&mut body).await? == 0 {
            bail!("closed within the body of an answer");
        }
    }
    answer.bytes = body.len();
    Ok(answer)
}

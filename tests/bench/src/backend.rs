//! The fixed fast daemon behind every proxy, and one of a few single-threaded workers.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of the small answer's body, and of the big one's.
pub(crate) const SMALL: usize = 1024;
pub(crate) const BIG: usize = 1_080_000;

/// Answers every request with one of two bodies; keeps connections unless asked to close.
pub(crate) struct Backend {
    pub address: SocketAddr,
}

/// Answers by the target of a request: for a connection that is kept, and for one that is closed.
pub(crate) type Paths = HashMap<Vec<u8>, [Vec<u8>; 2]>;

struct Answers {
    paths: Paths,
    small: [Vec<u8>; 2],
    big: [Vec<u8>; 2],
    /// where the console is
    console: Vec<u8>,
}

impl Backend {
    /// Runs in its thread as long as the process. Consoles are on `console_port`.
    pub(crate) fn start(console_port: u16) -> Result<Self> {
        Self::with_paths(console_port, Paths::new())
    }

    /// The same with answers of their own for some paths.
    pub(crate) fn with_paths(console_port: u16, paths: Paths) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("backend".into()).spawn(move || {
            let answers = Arc::new(Answers::new(console_port, paths));
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&answers)));
                }
            });
        })?;
        Ok(Self { address })
    }
}

impl Answers {
    fn new(console_port: u16, paths: Paths) -> Self {
        let both = |length| {
            let body = body(length);
            [answer(&body, "keep-alive", ""), answer(&body, "close", "")]
        };
        let console = format!(r#"{{"data":{{"port":{console_port}}}}}"#);
        Self { paths, small: both(SMALL), big: both(BIG), console: answer(console.as_bytes(), "close", "") }
    }

    fn to(&self, head: &[u8]) -> (&[u8], bool) {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if contains(line, b"vncwebsocket") {
            return (&self.console, true);
        }
        let closes = contains(head, b"\r\nconnection: close") || line.ends_with(b"HTTP/1.0");
        let path = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let [open, shut] = if let Some(own) = self.paths.get(path) {
            own
        } else if contains(line, b"/cluster/resources") {
            &self.big
        } else {
            &self.small
        };
        (if closes { shut } else { open }, closes)
    }
}

/// JSON, again and again.
pub(crate) fn body(length: usize) -> Vec<u8> {
    let text = br#"{"data":[{"id":"qemu/100","node":"one","status":"running"}]}"#;
    text.iter().cycle().take(length).copied().collect()
}

/// A whole answer. `more` are header lines with their ends.
pub(crate) fn answer(body: &[u8], connection: &str, more: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n{more}Server: pve-api-daemon/3.0\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn contains(text: &[u8], lower: &[u8]) -> bool {
    text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}

/// Whether the bytes are a whole request: only a POST has a body.
fn is_whole(request: &[u8]) -> bool {
    if !request.starts_with(b"POST ") {
        return request.ends_with(b"\r\n\r\n");
    }
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(request.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// Requests, one after the other.
async fn serve(mut stream: TcpStream, answers: Arc<Answers>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 8192];
    let mut filled = 0;
    loop {
        let Some(free) = buffer.get_mut(filled..) else { return };
        match stream.read(free).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        let head = buffer.get(..filled).unwrap_or_default();
        if !is_whole(head) {
            continue;
        }
        let (answer, closes) = answers.to(head);
        if stream.write_all(answer).await.is_err() || closes {
            return;
        }
        filled = 0;
    }
}

/// A daemon of single-threaded workers that share one listening socket, as a prefork server has them. Ended when
/// dropped; a worker that is in a call ends after it.
pub(crate) struct Workers {
    pub address: SocketAddr,
    count: usize,
    over: Arc<AtomicBool>,
}

/// Connections that may wait for a worker, as `SOMAXCONN` has it: the default of the standard library drops some of
/// those that scripts open at once.
const BACKLOG: i32 = 4096;

impl Workers {
    /// Each worker serves one connection at a time. A call takes as long as `duration` says of its request line.
    pub(crate) fn start(
        count: usize,
        duration: impl Fn(&str) -> Duration + Send + Sync + 'static,
    ) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        let workers = Self { address: listener.local_addr()?, count, over: Arc::default() };
        let duration = Arc::new(duration);
        for _ in 0..count {
            let listener = listener.try_clone().context("a second handle of the listening socket")?;
            let (duration, over) = (Arc::clone(&duration), Arc::clone(&workers.over));
            std::thread::spawn(move || work(&listener, &over, duration.as_ref()));
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for _ in 0..self.count {
            let _ = std::net::TcpStream::connect(self.address);
        }
    }
}

/// One worker, until it is over.
fn work(listener: &std::net::TcpListener, over: &AtomicBool, duration: &dyn Fn(&str) -> Duration) {
    let answer = answer(&[b'x'; SMALL], "close", "");
    while let Ok((mut stream, _)) = listener.accept() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let mut head = [0; 8192];
        let Ok(read @ 1..) = stream.read(&mut head) else { continue };
        let head = String::from_utf8_lossy(head.get(..read).unwrap_or_default());
        std::thread::sleep(duration(head.lines().next().unwrap_or_default()));
        let _ = stream.write_all(&answer);
    }
}

/// Three workers: a call takes `call`, and one in `slow_every` takes `slow`.
pub(crate) fn three_workers(call: Duration, slow: Duration, slow_every: u64) -> Result<Workers> {
    let calls = AtomicU64::new(1);
    Workers::start(3, move |_| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        if slow_every > 0 && count.is_multiple_of(slow_every) { slow } else { call }
    })
}

//! Clients that ask and do not read, or begin and do not end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use openssl::ssl::SslContext;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client;

/// Handshakes under way at a time.
const AT_ONCE: usize = 32;
/// Addresses of the slowloris clients, which limits count.
const ADDRESSES: u8 = 32;
/// Between two bytes of a head that never ends.
const DRIP: Duration = Duration::from_secs(1);
/// All of them are there by then.
const TIMEOUT: Duration = Duration::from_mins(1);
const DRIPS: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

/// An attack under way. It ends when this is dropped.
pub(crate) struct Stalled {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    opened: AtomicUsize,
    failed: AtomicUsize,
}

impl Stalled {
    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Clients that were there once, or were turned out.
    fn seen(&self) -> usize {
        self.opened() + self.counts.failed.load(Ordering::Relaxed)
    }

    /// Connections opened so far: more than asked for where the server has closed some and they came again.
    pub(crate) fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `count` clients of the network that send a head byte by byte and come back when they are turned out. Returns when
/// each has come once.
pub(crate) fn slowloris(address: SocketAddr, count: usize) -> Result<Stalled> {
    let stalled = start(address, count, &Behaviour::Drip)?;
    wait("have come", count, || stalled.seen())?;
    Ok(stalled)
}

/// `count` clients that ask, take the head of the answer, whose status must be `status`, and read no further: a big
/// file, or a console that floods. Returns when all are there.
pub(crate) fn unread(address: SocketAddr, count: usize, request: &str, status: u16) -> Result<Stalled> {
    let stalled = start(address, count, &Behaviour::Unread { request: request.to_owned(), status })?;
    wait("are there", count, || stalled.open())?;
    Ok(stalled)
}

#[derive(Clone)]
enum Behaviour {
    Drip,
    Unread { request: String, status: u16 },
}

fn start(address: SocketAddr, count: usize, behaviour: &Behaviour) -> Result<Stalled> {
    let counts = Arc::new(Counts::default());
    let (runtime, context) = (client::runtime()?, client::context()?);
    let (stop, stopped) = oneshot::channel();
    let (shared, behaviour) = (Arc::clone(&counts), behaviour.clone());
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            let turn = Arc::new(Semaphore::new(AT_ONCE));
            for (_, number) in (0..count).zip((0..ADDRESSES).cycle()) {
                let one = One {
                    from: client::stranger(number),
                    address,
                    context: context.clone(),
                    turn: Arc::clone(&turn),
                    counts: Arc::clone(&shared),
                };
                clients.spawn(one.run(behaviour.clone()));
            }
            let _ = stopped.await;
        });
    });
    Ok(Stalled { stop: Some(stop), thread: Some(thread), counts })
}

fn wait(what: &str, count: usize, seen: impl Fn() -> usize) -> Result<()> {
    let begun = Instant::now();
    while seen() < count {
        if begun.elapsed() > TIMEOUT {
            bail!("only {} of {count} clients {what}", seen());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One of the clients.
struct One {
    /// only of a client that drips: limits count it
    from: Ipv4Addr,
    address: SocketAddr,
    context: SslContext,
    turn: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl One {
    /// Comes again whenever it is turned out.
    async fn run(self, behaviour: Behaviour) {
        loop {
            if self.once(&behaviour).await.is_err() {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn once(&self, behaviour: &Behaviour) -> Result<()> {
        let turn = self.turn.acquire().await?;
        let mut stream = match behaviour {
            Behaviour::Drip => {
                let tcp = client::connect_from(self.from, self.address).await?;
                client::secure(tcp, &self.context, None).await?
            }
            Behaviour::Unread { .. } => client::connect(self.address, &self.context, None).await?,
        };
        if let Behaviour::Unread { request, status } = behaviour {
            let answered = client::begin(&mut stream, request).await?;
            if answered != *status {
                return Err(anyhow!("answered with {answered}"));
            }
        }
        drop(turn);
        let _open = Open::count(&self.counts);
        match behaviour {
            Behaviour::Unread { .. } => std::future::pending().await,
            Behaviour::Drip => {
                for byte in DRIPS.chunks(1).chain(std::iter::repeat(&b"x"[..])) {
                    if stream.write_all(byte).await.is_err() {
                        break;
                    }
                    sleep(DRIP).await;
                }
                Ok(())
            }
        }
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a Counts);

impl<'a> Open<'a> {
    fn count(counts: &'a Counts) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.opened.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

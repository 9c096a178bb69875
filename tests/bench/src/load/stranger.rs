//! Clients without a login that attack, each from a separate address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use openssl::ssl::SslContext;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client;

/// Handshakes under way at a time.
const AT_ONCE: usize = 16;
/// Between a connection that the server has closed and the next one.
const AWAY: Duration = Duration::from_secs(1);
/// Until a connection that is held or asks nothing more is given up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The action that one client repeats.
#[derive(Clone)]
pub(crate) enum Attack {
    /// Sends this and holds the connection as long as the server lets it.
    Hold(Vec<u8>),
    /// The same without TLS.
    HoldPlain(Vec<u8>),
    /// Sends this, then a byte more after each pause.
    Drip(Vec<u8>, Duration),
    /// Asks on a kept connection, with a pause behind each answer; `{n}` is another number each time.
    Ask(String, Duration),
    /// Asks and leaves without the answer.
    Leave(String, Duration),
}

/// An attack under way. It ends when this is dropped.
pub(crate) struct Strangers {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    begun: Arc<AtomicUsize>,
}

impl Strangers {
    /// `count` clients, from `addresses` addresses below 198.51.100.0/24.
    pub(crate) fn start(address: SocketAddr, attack: &Attack, count: usize, addresses: u8) -> Result<Self> {
        let (runtime, context) = (client::runtime()?, client::context()?);
        let (stop, stopped) = oneshot::channel();
        let begun = Arc::new(AtomicUsize::new(0));
        let (shared, attack) = (Arc::clone(&begun), attack.clone());
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut clients = JoinSet::new();
                let turn = Arc::new(Semaphore::new(AT_ONCE));
                for (number, from) in (0..count).zip((0..addresses.max(1)).cycle()) {
                    let one = Stranger {
                        from: client::stranger(from),
                        address,
                        context: context.clone(),
                        turn: Arc::clone(&turn),
                        begun: Arc::clone(&shared),
                        number,
                    };
                    clients.spawn(one.run(attack.clone()));
                }
                let _ = stopped.await;
            });
        });
        Ok(Self { stop: Some(stop), thread: Some(thread), begun })
    }

    /// Connections and requests so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Stranger {
    from: Ipv4Addr,
    address: SocketAddr,
    context: SslContext,
    turn: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    number: usize,
}

impl Stranger {
    async fn run(self, attack: Attack) {
        loop {
            let _ = self.once(&attack).await;
            if !matches!(attack, Attack::Leave(..)) {
                sleep(AWAY).await;
            }
        }
    }

    async fn once(&self, attack: &Attack) -> Result<()> {
        let turn = self.turn.acquire().await?;
        let tcp = client::connect_from(self.from, self.address).await?;
        if let Attack::HoldPlain(bytes) = attack {
            let mut tcp = tcp;
            tcp.write_all(bytes).await?;
            drop(turn);
            self.count();
            let _ = timeout(TIMEOUT, tcp.read(&mut [0; 512])).await;
            return Ok(());
        }
        let mut stream = client::secure(tcp, &self.context, None).await?;
        drop(turn);
        match attack {
            Attack::Hold(bytes) => {
                self.count();
                let _ = stream.write_all(bytes).await;
                let _ = timeout(TIMEOUT, stream.read(&mut [0; 512])).await;
            }
            Attack::Drip(bytes, pause) => {
                self.count();
                stream.write_all(bytes).await?;
                while stream.write_all(b"x").await.is_ok() {
                    sleep(*pause).await;
                }
            }
            Attack::Ask(request, pause) => loop {
                client::ask_anything(&mut stream, &self.numbered(request)).await?;
                sleep(*pause).await;
            },
            Attack::Leave(request, pause) => {
                stream.write_all(self.numbered(request).as_bytes()).await?;
                sleep(*pause).await;
            }
            Attack::HoldPlain(_) => (),
        }
        Ok(())
    }

    /// The next request.
    fn numbered(&self, request: &str) -> String {
        let count = self.count();
        request.replace("{n}", &format!("{:04}{count:08}", self.number))
    }

    fn count(&self) -> usize {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }
}

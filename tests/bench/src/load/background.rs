//! Callers that go on while something else is measured: scripts, and calls that hang.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::client;

/// How often the end is looked for.
const TICK: Duration = Duration::from_millis(20);

/// Each request is sent again as soon as it is answered, each on a kept connection of its own.
pub(crate) struct Background {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Background {
    pub(crate) fn start(address: SocketAddr, requests: Vec<String>) -> Result<Self> {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_over, count) = (Arc::clone(&over), Arc::clone(&answered));
        let thread = std::thread::Builder::new()
            .name("background".into())
            .spawn(move || call(address, requests, &is_over, &count))?;
        Ok(Self { over, answered, thread: Some(thread) })
    }

    /// How many calls were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Gives the calls up that are under way. An error is what went wrong before that, such as a refused call.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs until it is stopped")?;
        thread.join().map_err(|_| anyhow::anyhow!("the background load panicked"))?
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn call(
    address: SocketAddr,
    requests: Vec<String>,
    over: &AtomicBool,
    answered: &Arc<AtomicU64>,
) -> Result<()> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    LocalSet::new().block_on(&runtime, async {
        let mut callers = tokio::task::JoinSet::new();
        for request in requests {
            let (context, answered) = (context.clone(), Arc::clone(answered));
            callers.spawn_local(async move {
                let mut stream = client::connect(address, &context, None).await?;
                loop {
                    let status = client::ask(&mut stream, &request).await?;
                    if status != 200 {
                        bail!("a background call was answered with {status}");
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while !over.load(Ordering::Relaxed) {
            if let Some(ended) = callers.try_join_next() {
                return ended?;
            }
            sleep(TICK).await;
        }
        Ok(())
    })
}

//! Clients that go on as browsers do while a server is reloaded: when a kept connection has closed, they open another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openssl::ssl::SslContext;
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::client::{self, Stream};

/// The counts of the clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noticed {
    pub(crate) requests: usize,
    /// Milliseconds, a new connection included where one was needed.
    pub(crate) p50: f64,
    pub(crate) slowest: f64,
    /// New connections, after the first of each client.
    pub(crate) reconnected: usize,
    /// Requests that a new connection did not answer either.
    pub(crate) failed: usize,
}

/// One request after another on each of `clients` connections for `duration`.
pub(crate) fn run(
    address: SocketAddr,
    request: &str,
    clients: usize,
    pause: Duration,
    duration: Duration,
) -> Result<Noticed> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    let (times, reconnected, failed) = LocalSet::new().block_on(&runtime, async {
        let until = Instant::now() + duration;
        let running: Vec<_> = (0..clients)
            .map(|_| {
                let one = Client {
                    address,
                    context: context.clone(),
                    request: request.to_owned(),
                    stream: None,
                    times: Vec::new(),
                    opened: 0,
                    failed: 0,
                };
                tokio::task::spawn_local(one.run(until, pause))
            })
            .collect();
        let (mut times, mut reconnected, mut failed) = (Vec::new(), 0, 0);
        for client in running {
            let client = client.await?;
            times.extend(client.times);
            reconnected += client.opened.saturating_sub(1);
            failed += client.failed;
        }
        anyhow::Ok((times, reconnected, failed))
    })?;
    ensure!(!times.is_empty(), "no request was answered, {failed} failed");
    let mut millis: Vec<f64> = times.iter().map(|time: &Duration| time.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let p50 = *millis.get(millis.len() / 2).context("no sample")?;
    let slowest = *millis.last().context("no sample")?;
    Ok(Noticed { requests: millis.len(), p50, slowest, reconnected, failed })
}

struct Client {
    address: SocketAddr,
    context: SslContext,
    request: String,
    stream: Option<Stream>,
    times: Vec<Duration>,
    opened: usize,
    failed: usize,
}

impl Client {
    async fn run(mut self, until: Instant, pause: Duration) -> Self {
        // The first handshake is not a consequence of a reload.
        self.ask().await;
        while Instant::now() < until {
            let begun = Instant::now();
            // A browser sends a GET again if the kept connection closes before its answer.
            let answered = (self.stream.is_some() && self.ask().await) || self.ask().await;
            if answered {
                self.times.push(begun.elapsed());
            } else {
                self.failed += 1;
            }
            sleep(pause).await;
        }
        self
    }

    /// On the kept connection, or on a new one. Only a connection that has answered is kept.
    async fn ask(&mut self) -> bool {
        let stream = if let Some(kept) = self.stream.take() {
            Ok(kept)
        } else {
            self.opened += 1;
            client::connect(self.address, &self.context, None).await
        };
        let Ok(mut stream) = stream else { return false };
        let Ok(kind) = client::ask_kept(&mut stream, &self.request).await else { return false };
        if kind.keeps {
            self.stream = Some(stream);
        }
        kind.status == 200
    }
}

//! Latency of a few well-behaved clients, one request at a time each on a kept connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::client;

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) requests: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// `clients` that ask for `duration`, with a `pause` between an answer and the next request.
pub(crate) fn sample(
    address: SocketAddr,
    request: &str,
    clients: usize,
    pause: Duration,
    duration: Duration,
) -> Result<Latency> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    let mut times = LocalSet::new().block_on(&runtime, async {
        let until = Instant::now() + duration;
        let mut running = Vec::new();
        for _ in 0..clients {
            let (context, request) = (context.clone(), request.to_owned());
            running.push(tokio::task::spawn_local(async move {
                let mut stream = client::connect(address, &context, None).await?;
                let mut times = Vec::new();
                while Instant::now() < until {
                    let begun = Instant::now();
                    let status = client::ask(&mut stream, &request).await?;
                    times.push(begun.elapsed());
                    if status != 200 {
                        bail!("answered with {status}");
                    }
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                }
                anyhow::Ok(times)
            }));
        }
        let mut times = Vec::new();
        for client in running {
            times.extend(client.await??);
        }
        anyhow::Ok(times)
    })?;
    times.sort_unstable();
    let at = |per_mille: usize| -> Result<f64> {
        let index = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
        Ok(times.get(index).context("no answer at all")?.as_secs_f64() * 1000.0)
    };
    Ok(Latency { requests: times.len(), p50: at(500)?, p99: at(990)?, p999: at(999)?, max: at(1000)? })
}

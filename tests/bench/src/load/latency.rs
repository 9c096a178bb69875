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
    let client = Client { requests: vec![request.to_owned()], delay: Duration::ZERO };
    poll(address, vec![client; clients], pause, duration)
}

/// Windows of a GUI: each sends its own requests in turn. Their first requests are spread over a `pause`.
pub(crate) fn windows(
    address: SocketAddr,
    windows: &[Vec<String>],
    pause: Duration,
    duration: Duration,
) -> Result<Latency> {
    let count = u32::try_from(windows.len())?.max(1);
    let clients = (0..count)
        .zip(windows)
        .map(|(number, requests)| Client { requests: requests.clone(), delay: pause * number / count });
    poll(address, clients.collect(), pause, duration)
}

/// The requests that one client sends in turn, and how long it waits before the first.
#[derive(Clone)]
struct Client {
    requests: Vec<String>,
    delay: Duration,
}

fn poll(address: SocketAddr, clients: Vec<Client>, pause: Duration, duration: Duration) -> Result<Latency> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    let times = LocalSet::new().block_on(&runtime, async {
        let until = Instant::now() + duration;
        let mut running = Vec::new();
        for one in clients {
            let context = context.clone();
            running.push(tokio::task::spawn_local(async move {
                let mut stream = client::connect(address, &context, None).await?;
                sleep(one.delay).await;
                let mut times = Vec::new();
                for request in one.requests.iter().cycle() {
                    if Instant::now() >= until {
                        break;
                    }
                    let begun = Instant::now();
                    let status = client::ask(&mut stream, request).await?;
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
    Latency::of(times)
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Result<Self> {
        times.sort_unstable();
        let at = |per_mille: usize| -> Result<f64> {
            let index = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
            Ok(times.get(index).context("no answer at all")?.as_secs_f64() * 1000.0)
        };
        Ok(Self { requests: times.len(), p50: at(500)?, p99: at(990)?, p999: at(999)?, max: at(1000)? })
    }
}

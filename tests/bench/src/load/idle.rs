//! Many idle TLS connections, and what they cost.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::client::{self, Stream};

/// Handshakes under way at a time.
const AT_ONCE: usize = 32;

/// Connections that ask nothing. They are closed when this is dropped.
pub(crate) struct Idle {
    streams: Vec<Stream>,
    // after the streams, which must not outlive it
    _runtime: Runtime,
}

impl Idle {
    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }
}

/// Opens `count` connections; with a `request` each has asked it once and has taken the answer.
pub(crate) fn open(address: SocketAddr, count: usize, request: Option<&str>) -> Result<Idle> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    let request = request.map(str::to_owned);
    let streams = runtime.block_on(async {
        let mut streams = Vec::with_capacity(count);
        let mut opening = JoinSet::new();
        for begun in 0..count {
            if begun >= AT_ONCE {
                streams.extend(opening.join_next().await.transpose()?.transpose()?);
            }
            let (context, request) = (context.clone(), request.clone());
            opening.spawn(async move {
                let mut stream = client::connect(address, &context, None).await?;
                if let Some(request) = request {
                    let status = client::ask(&mut stream, &request).await?;
                    if status != 200 {
                        bail!("answered with {status}");
                    }
                }
                anyhow::Ok(stream)
            });
        }
        while let Some(stream) = opening.join_next().await {
            streams.push(stream??);
        }
        anyhow::Ok(streams)
    })?;
    Ok(Idle { streams, _runtime: runtime })
}

/// `times` requests on each of `connections`, one connection after the other. All are closed afterwards.
pub(crate) fn ask(address: SocketAddr, connections: usize, times: usize, request: &str) -> Result<()> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    runtime.block_on(async {
        for _ in 0..connections {
            let mut stream = client::connect(address, &context, None).await?;
            for _ in 0..times {
                let status = client::ask(&mut stream, request).await?;
                if status != 200 {
                    bail!("answered with {status}");
                }
            }
        }
        Ok(())
    })
}

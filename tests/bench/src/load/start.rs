//! From the start of a program to its first whole answer over TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::proxy::end;
use anyhow::{Context as _, Result, bail};
use openssl::ssl::{Ssl, SslContext};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_openssl::SslStream;

use super::client;

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_micros(200);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A program that has answered. It is ended and waited for when this is dropped.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) took: Duration,
}

impl Drop for Started {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Spawns `command` and sends `request` to `address` until there is a response. No other process may listen there.
pub(crate) fn first_answer(command: &mut Command, address: SocketAddr, request: &str) -> Result<Started> {
    let runtime = client::runtime()?;
    let context = client::context()?;
    if std::net::TcpStream::connect(address).is_ok() {
        bail!("{address} is taken");
    }
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("{}", command.get_program().display()))?;
    let mut started = Started { child, took: Duration::ZERO };
    runtime.block_on(async {
        loop {
            if attempt(address, &context, request).await? {
                return anyhow::Ok(());
            }
            if let Some(status) = started.child.try_wait()? {
                bail!("ended with {status}");
            }
            if begun.elapsed() > TIMEOUT {
                bail!("no answer within {TIMEOUT:?}");
            }
            sleep(AGAIN).await;
        }
    })?;
    started.took = begun.elapsed();
    Ok(started)
}

/// False while no process listens.
async fn attempt(address: SocketAddr, context: &SslContext, request: &str) -> Result<bool> {
    let Ok(stream) = TcpStream::connect(address).await else { return Ok(false) };
    stream.set_nodelay(true)?;
    let mut stream = SslStream::new(Ssl::new(context)?, stream)?;
    client::within("handshake", async { Ok(Pin::new(&mut stream).connect().await?) }).await?;
    match client::ask(&mut stream, request).await? {
        200 => Ok(true),
        status => bail!("answered with {status}"),
    }
}

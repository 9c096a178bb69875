//! A TCP port that echoes all bytes: stands in for a virtual machine's SPICE or VNC port.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::background::Background;

#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    _background: Background,
}

impl Echo {
    /// Listens on that address; port 0 takes a free one.
    pub fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let background = Background::start(move || async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        Ok(Self { address, _background: background })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn echo(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

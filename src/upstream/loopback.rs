//! Fresh connections to servers of this machine, one function for each use.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};
use nix::libc::EINPROGRESS;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::config::settings::BackendAddress;
use crate::upstream::error::io_message;

/// A connection to a daemon.
pub(super) type DaemonStream = Either<TcpStream, UnixStream>;

/// Slices of a request: its head and its body.
const MAX_SLICES: usize = 2;

/// Connects to a port of this machine: over IPv4, or over IPv6 if nothing listens there.
pub async fn connect_port(port: u16) -> io::Result<TcpStream> {
    let connect = |address: IpAddr| TcpStream::connect((address, port));
    let stream = match connect(Ipv4Addr::LOCALHOST.into()).await {
        Ok(stream) => stream,
        Err(first) => connect(Ipv6Addr::LOCALHOST.into()).await.map_err(|_| first)?,
    };
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to a daemon and closes.
///
/// # Errors
/// Why the daemon does not accept connections.
pub async fn check_reachable(address: &BackendAddress, limit: Duration) -> Result<(), String> {
    match timeout(limit, connect(address, &mut Bytes::new())).await {
        Ok(connected) => connected.map(drop).map_err(|error| io_message(&error)),
        Err(_) => Err("Connection timed out".to_owned()),
    }
}

/// Connects to a daemon. Removes from the front of `first` the bytes that it sent.
pub(super) async fn connect(address: &BackendAddress, first: &mut impl Buf) -> io::Result<DaemonStream> {
    Ok(match address {
        BackendAddress::Tcp(address) => Either::Left(connect_tcp(address, first).await?),
        BackendAddress::Unix(path) => Either::Right(UnixStream::connect(path).await?),
    })
}

/// Connects to `host:port`. A loopback `connect()` completes synchronously, so `first` is written in the same poll and
/// the event loop turns once less.
async fn connect_tcp(address: &str, first: &mut impl Buf) -> io::Result<TcpStream> {
    let Ok(address) = address.parse() else {
        let stream = TcpStream::connect(address).await?;
        let _ = stream.set_nodelay(true);
        return Ok(stream);
    };
    let stream = start(address)?;
    let sent = send(&stream, first);
    let stream = TcpStream::from_std(stream.into())?;
    match sent {
        Ok(()) => (),
        // The connection is not established yet.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.writable().await?;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    if first.has_remaining() {
        // The rest of a body must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
    }
    Ok(stream)
}

/// Starts a connection, which mostly completes at once.
fn start(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

fn send(socket: &Socket, first: &mut impl Buf) -> io::Result<()> {
    let piece = first.chunk();
    let sent = if piece.len() == first.remaining() {
        socket.send(piece)
    } else {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = first.chunks_vectored(&mut slices);
        socket.send_vectored(slices.get(..count).unwrap_or_default())
    }?;
    first.advance(sent);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn loopback_connect_completes_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut request = Buf::chain(&b"GET / HTTP/1.1\r\n"[..], &b"body"[..]);
        let stream = connect_tcp(&address, &mut request).await.unwrap();
        assert!(!request.has_remaining());
        drop(stream);
        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nbody");
    }
}

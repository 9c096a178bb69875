use std::time::Duration;

use tokio::io::{AsyncReadExt as _, duplex};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::pipe::{Pipe, SparePipes};
use super::*;

type Tunnel = JoinHandle<(Moved, io::Result<()>)>;

/// `run` splices between TCP connections, `relay` copies between streams of any kind.
#[derive(Clone, Copy, Debug)]
enum Way {
    Splice,
    Copy,
}

const BOTH_WAYS: [Way; 2] = [Way::Splice, Way::Copy];

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A client and a server with the tunnel between them.
async fn tunnel(
    way: Way,
    early_up: &'static [u8],
    early_down: &'static [u8],
) -> (TcpStream, TcpStream, Tunnel) {
    let (client, client_end) = tcp_pair().await;
    let (server, server_end) = tcp_pair().await;
    (client, server, spawn_between(way, client_end, server_end, early_up, early_down))
}

/// Transfers without early bytes.
fn transfer<'a>(counter: &'a ByteCounter, buffers: &'a TunnelBuffers) -> Transfer<'a> {
    Transfer { early_up: b"", early_down: b"", counter, buffers }
}

/// The ends are dropped with the task, so a tunnel that hangs fails its test instead of stalling it.
fn spawn_between(
    way: Way,
    mut client: TcpStream,
    mut server: TcpStream,
    early_up: &'static [u8],
    early_down: &'static [u8],
) -> Tunnel {
    let runtime = Handle::current();
    // The buffers of a worker stay on one thread, so `spawn` does not take the task.
    tokio::task::spawn_blocking(move || {
        let (counter, buffers) = (ByteCounter::default(), TunnelBuffers::default());
        let transfer = Transfer { early_up, early_down, counter: &counter, buffers: &buffers };
        let moving = async {
            match way {
                Way::Splice => run(&mut client, &mut server, transfer).await,
                Way::Copy => relay(&mut client, &mut server, transfer).await,
            }
        };
        let ended = runtime.block_on(async { timeout(Duration::from_secs(10), moving).await.unwrap() });
        (counter.moved(), ended)
    })
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    received
}

async fn read_some(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut received = vec![0; length];
    stream.read_exact(&mut received).await.unwrap();
    received
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(length).collect()
}

/// Sends a pattern to a server that echoes it, and compares what comes back.
async fn check_echo<S>(client: S, server: S, length: usize)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = split(server);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let (mut reader, mut writer) = split(client);
    let send = tokio::spawn(async move {
        writer.write_all(&pattern(length)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    assert!(read_all(&mut reader).await == pattern(length));
    send.await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn an_echo_survives_narrow_and_wide_streams() {
    for room in [1000, 300_000] {
        let ((client, mut client_end), (server, mut server_end)) = (duplex(room), duplex(room));
        let (counter, buffers) = (ByteCounter::default(), TunnelBuffers::default());
        let relaying = relay(&mut client_end, &mut server_end, transfer(&counter, &buffers));
        let both = async { tokio::join!(relaying, check_echo(client, server, 1_000_001)) };
        timeout(Duration::from_secs(10), both).await.unwrap().0.unwrap();
        assert_eq!(counter.moved(), Moved { up: 1_000_001, down: 1_000_001 });
    }
}

#[tokio::test]
async fn a_reset_on_one_side_ends_both() {
    for (way, client_resets) in BOTH_WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let (mut client, mut server, task) = tunnel(way, b"", b"").await;
        client.write_all(b"up").await.unwrap();
        server.write_all(b"down").await.unwrap();
        assert_eq!(read_some(&mut server, 2).await, b"up");
        assert_eq!(read_some(&mut client, 4).await, b"down");
        let (resetting, mut other) = if client_resets { (client, server) } else { (server, client) };
        resetting.set_zero_linger().unwrap();
        drop(resetting);
        let (moved, result) = task.await.unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(moved, Moved { up: 2, down: 4 });
        assert_eq!(read_all(&mut other).await, b"");
    }
}

#[tokio::test]
async fn an_end_that_takes_nothing_more_ends_both() {
    let ((mut client, mut client_end), (server, mut server_end)) = (duplex(1000), duplex(1000));
    drop(server);
    let _ = client.write_all(b"into nothing").await;
    let (counter, buffers) = (ByteCounter::default(), TunnelBuffers::default());
    let ended = relay(&mut client_end, &mut server_end, transfer(&counter, &buffers)).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_broken_flood_counts_its_relayed_bytes() {
    let (mut client, mut server, task) = tunnel(Way::Splice, b"", b"ab").await;
    let received = tokio::spawn(async move {
        let mut received = vec![0; 3_000_002];
        client.read_exact(&mut received).await.unwrap();
        client.set_zero_linger().unwrap();
    });
    server.write_all(&pattern(3_000_000)).await.unwrap();
    received.await.unwrap();
    let (moved, result) = task.await.unwrap();
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(moved, Moved { up: 0, down: 3_000_002 });
}

#[tokio::test]
async fn only_an_empty_pipe_is_kept() {
    let (mut near, far) = tcp_pair().await;
    let spares = SparePipes::default();
    drop(Pipe::take(&spares).unwrap());
    let mut pipe = Pipe::take(&spares).unwrap();
    near.write_all(b"left").await.unwrap();
    far.readable().await.unwrap();
    assert_eq!(pipe.fill(&far).unwrap(), 4);
    drop(pipe);
    let mut pipe = Pipe::take(&spares).unwrap();
    near.write_all(b"right").await.unwrap();
    far.readable().await.unwrap();
    assert_eq!(pipe.fill(&far).unwrap(), 5);
    assert_eq!(pipe.drain(&far).unwrap(), 5);
    assert_eq!(read_some(&mut near, 5).await, b"right");
}

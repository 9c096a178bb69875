#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::*;

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

type Tunnel = JoinHandle<(Moved, io::Result<()>)>;

/// A client and a server with the tunnel between them.
async fn tunnel(early_up: &'static [u8], early_down: &'static [u8]) -> (TcpStream, TcpStream, Tunnel) {
    let (client, client_end) = tcp_pair().await;
    let (server, server_end) = tcp_pair().await;
    let task = spawn_between(client_end, server_end, early_up, early_down);
    (client, server, task)
}

/// The ends are dropped with the task, so a tunnel that hangs fails its test instead of stalling it.
fn spawn_between(
    mut client_end: TcpStream,
    mut server_end: TcpStream,
    early_up: &'static [u8],
    early_down: &'static [u8],
) -> Tunnel {
    tokio::spawn(async move {
        let meter = Meter::default();
        let tunnel = run(&mut client_end, &mut server_end, early_up, early_down, &meter);
        let ended = tokio::time::timeout(Duration::from_secs(10), tunnel).await.unwrap();
        (meter.moved(), ended)
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

async fn ended_well(task: Tunnel) -> Moved {
    let (moved, result) = task.await.unwrap();
    result.unwrap();
    moved
}

#[tokio::test]
async fn an_echo_comes_back_whole() {
    const LENGTH: usize = 3_000_001;
    let (client, mut server, task) = tunnel(b"", b"").await;
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = server.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let (mut reader, mut writer) = client.into_split();
    let send = tokio::spawn(async move {
        writer.write_all(&pattern(LENGTH)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    assert!(read_all(&mut reader).await == pattern(LENGTH));
    send.await.unwrap();
    echo.await.unwrap();
    let moved = ended_well(task).await;
    assert_eq!(moved, Moved { up: 3_000_001, down: 3_000_001 });
}

#[tokio::test]
async fn server_continues_after_the_client_ends() {
    let (mut client, mut server, task) = tunnel(b"", b"").await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"question");
    for _ in 0..3 {
        server.write_all(b"answer").await.unwrap();
        assert_eq!(read_some(&mut client, 6).await, b"answer");
    }
    assert!(!task.is_finished());
    drop(server);
    assert_eq!(read_all(&mut client).await, b"");
    assert_eq!(ended_well(task).await, Moved { up: 8, down: 18 });
}

#[tokio::test]
async fn client_continues_after_the_server_ends() {
    let (mut client, mut server, task) = tunnel(b"", b"").await;
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"bye");
    for _ in 0..3 {
        client.write_all(b"more").await.unwrap();
        assert_eq!(read_some(&mut server, 4).await, b"more");
    }
    assert!(!task.is_finished());
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"");
    assert_eq!(ended_well(task).await, Moved { up: 12, down: 3 });
}

#[tokio::test]
async fn early_bytes_go_first() {
    let (mut client, mut server, task) = tunnel(b"early up, ", b"early down, ").await;
    client.write_all(b"later").await.unwrap();
    client.shutdown().await.unwrap();
    server.write_all(b"later").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"early up, later");
    assert_eq!(read_all(&mut client).await, b"early down, later");
    assert_eq!(ended_well(task).await, Moved { up: 15, down: 17 });
}

#[tokio::test]
async fn a_reset_on_one_side_ends_both() {
    for client_resets in [true, false] {
        let (mut client, mut server, task) = tunnel(b"", b"").await;
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

/// A connection in which little waits: about these bytes on each side.
async fn narrow_pair(bytes: u32) -> (TcpStream, TcpStream) {
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_recv_buffer_size(bytes).unwrap();
    listener.set_send_buffer_size(bytes).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let near = TcpSocket::new_v4().unwrap();
    near.set_recv_buffer_size(bytes).unwrap();
    near.set_send_buffer_size(bytes).unwrap();
    let near = near.connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn a_stalled_reader_stops_its_writer_only() {
    const TOTAL: usize = 16 << 20;
    const MOST: usize = pipe::PIPE_BYTES + COPY_BYTES + (1 << 20);
    let (client, client_end) = narrow_pair(64 << 10).await;
    let (server, server_end) = narrow_pair(64 << 10).await;
    let task = spawn_between(client_end, server_end, b"", b"");
    let (mut client_reader, mut client_writer) = client.into_split();
    let (mut server_reader, mut server_writer) = server.into_split();

    let pushed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pushed);
    let flood = tokio::spawn(async move {
        for piece in pattern(TOTAL).chunks(10_000) {
            server_writer.write_all(piece).await.unwrap();
            count.fetch_add(piece.len(), Ordering::Relaxed);
        }
        server_writer.shutdown().await.unwrap();
    });
    // One thread: when yielding no longer changes the count, nothing moves any more.
    let mut before = usize::MAX;
    while pushed.load(Ordering::Relaxed) != before {
        before = pushed.load(Ordering::Relaxed);
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    assert!((FLOOD_BYTES..=MOST).contains(&before), "{before}");

    client_writer.write_all(b"still here").await.unwrap();
    client_writer.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server_reader).await, b"still here");

    assert!(read_all(&mut client_reader).await == pattern(TOTAL));
    flood.await.unwrap();
    assert_eq!(ended_well(task).await, Moved { up: 10, down: 16 << 20 });
}

#[tokio::test]
async fn a_broken_flood_counts_its_relayed_bytes() {
    let (mut client, mut server, task) = tunnel(b"", b"ab").await;
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
    drop(Pipe::take().unwrap());
    let mut pipe = Pipe::take().unwrap();
    near.write_all(b"left").await.unwrap();
    far.readable().await.unwrap();
    assert_eq!(pipe.fill(&far).unwrap(), 4);
    drop(pipe);
    let mut pipe = Pipe::take().unwrap();
    near.write_all(b"right").await.unwrap();
    far.readable().await.unwrap();
    assert_eq!(pipe.fill(&far).unwrap(), 5);
    assert_eq!(pipe.drain(&far).unwrap(), 5);
    assert_eq!(read_some(&mut near, 5).await, b"right");
}

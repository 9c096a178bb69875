#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::tunnel::Moved;

type Tunnel = JoinHandle<(Moved, io::Result<()>)>;

/// A client and a server with the relay between them, each end with room for so many bytes.
fn tunnel(
    room: usize,
    early_up: &'static [u8],
    early_down: &'static [u8],
) -> (DuplexStream, DuplexStream, Tunnel) {
    let ((client, mut client_end), (server, mut server_end)) = (duplex(room), duplex(room));
    let task = tokio::spawn(async move {
        let meter = Meter::default();
        let relaying = relay(&mut client_end, &mut server_end, early_up, early_down, &meter);
        let ended = timeout(Duration::from_secs(10), relaying).await.unwrap();
        (meter.moved(), ended)
    });
    (client, server, task)
}

async fn read_all(stream: &mut DuplexStream) -> Vec<u8> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn half_closes_pass_and_early_bytes_go_first() {
    let (mut client, mut server, task) = tunnel(16, b"early up, ", b"early down, ");
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"early up, question");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"early down, answer");
    let (moved, ended) = task.await.unwrap();
    ended.unwrap();
    assert_eq!(moved, Moved { up: 18, down: 18 });
}

#[tokio::test]
async fn an_echo_survives_narrow_and_wide_streams() {
    for room in [1000, 300_000] {
        let (client, server, task) = tunnel(room, b"", b"");
        let sent: Vec<u8> = (0_u8..251).cycle().take(1_000_001).collect();
        let echo = tokio::spawn(async move {
            let (mut reader, mut writer) = split(server);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (mut reader, mut writer) = split(client);
        let copy = sent.clone();
        let sending = tokio::spawn(async move {
            writer.write_all(&copy).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        sending.await.unwrap();
        echo.await.unwrap();
        let (moved, ended) = task.await.unwrap();
        ended.unwrap();
        assert_eq!(moved, Moved { up: 1_000_001, down: 1_000_001 });
    }
}

#[tokio::test]
async fn a_stalled_reader_blocks_only_its_writer() {
    let (mut client, mut server, task) = tunnel(1000, b"", b"");
    let mut pushed = 0;
    while let Ok(written) = timeout(Duration::from_millis(200), server.write(&[7; 1000])).await {
        pushed += written.unwrap();
    }
    assert!((2000..=4000).contains(&pushed), "{pushed}");
    client.write_all(b"still here").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"still here");
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.len(), pushed);
    task.await.unwrap().1.unwrap();
}

#[tokio::test]
async fn an_end_that_takes_nothing_more_ends_both() {
    let (mut client, server, task) = tunnel(1000, b"", b"");
    drop(server);
    let _ = client.write_all(b"into nothing").await;
    let (_, ended) = task.await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

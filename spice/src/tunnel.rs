//! Bytes both ways between two streams, unread.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Memory of one direction; while it is full its source is not read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes written to each side, the early ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Towards the server.
    pub up: u64,
    /// Towards the client.
    pub down: u64,
}

/// Moves bytes until both directions have ended, or one has failed: then the other is given up as well.
///
/// `early_up` and `early_down` were read before and go first. The end of one direction is passed on as the
/// end of that direction only; the other goes on for as long as its source likes, so a deadline is the
/// caller's. tokio's `copy_bidirectional` loses the counts on an error, hence a loop of its own.
pub async fn run<A, B>(
    client: &mut A,
    server: &mut B,
    early_up: &[u8],
    early_down: &[u8],
) -> (Moved, io::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let mut moved = Moved::default();
    let ended = tokio::try_join!(
        pump(from_client, to_server, early_up, &mut moved.up),
        pump(from_server, to_client, early_down, &mut moved.down),
    );
    (moved, ended.map(|_| ()))
}

async fn pump<R, W>(mut source: R, mut sink: W, early: &[u8], moved: &mut u64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    write_counted(&mut sink, early, moved).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = source.read(&mut buffer).await?;
        if length == 0 {
            return sink.shutdown().await;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        write_counted(&mut sink, bytes, moved).await?;
    }
}

/// Counts as it goes, so that the count is right wherever it is broken off.
async fn write_counted<W: AsyncWrite + Unpin>(
    sink: &mut W,
    mut bytes: &[u8],
    moved: &mut u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = sink.write(bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        *moved = moved.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
    }
    sink.flush().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};
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
    fn spawn_between<S>(
        mut client_end: S,
        mut server_end: S,
        early_up: &'static [u8],
        early_down: &'static [u8],
    ) -> Tunnel
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::spawn(async move {
            let tunnel = run(&mut client_end, &mut server_end, early_up, early_down);
            tokio::time::timeout(Duration::from_secs(10), tunnel).await.unwrap()
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
    async fn after_the_client_ends_the_server_may_go_on() {
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
    async fn after_the_server_ends_the_client_may_go_on() {
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

    #[tokio::test]
    async fn a_stalled_reader_stops_its_writer_only() {
        const PIPE: usize = 1000;
        let (client_end, client) = tokio::io::duplex(PIPE);
        let (server_end, server) = tokio::io::duplex(PIPE);
        let task = spawn_between(client_end, server_end, b"", b"");
        let (mut client_reader, mut client_writer) = tokio::io::split(client);
        let (mut server_reader, mut server_writer) = tokio::io::split(server);

        let pushed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pushed);
        let flood = tokio::spawn(async move {
            for _ in 0..10_000 {
                server_writer.write_all(&[7; 100]).await.unwrap();
                count.fetch_add(100, Ordering::Relaxed);
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
        assert!((PIPE..=BUFFER_BYTES + 2 * PIPE).contains(&before), "{before}");

        client_writer.write_all(b"still here").await.unwrap();
        client_writer.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server_reader).await, b"still here");

        assert_eq!(read_all(&mut client_reader).await.len(), 1_000_000);
        flood.await.unwrap();
        assert_eq!(ended_well(task).await, Moved { up: 10, down: 1_000_000 });
    }

    #[tokio::test]
    async fn a_write_that_fails_keeps_the_counts() {
        let (client_end, mut client) = tokio::io::duplex(1000);
        let (server_end, server) = tokio::io::duplex(10);
        let task = spawn_between(client_end, server_end, b"", b"ab");
        client.write_all(&[1; 100]).await.unwrap();
        let mut received = [0; 2];
        client.read_exact(&mut received).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(server);
        let (moved, result) = task.await.unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(moved, Moved { up: 10, down: 2 });
    }
}

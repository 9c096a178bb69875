//! How a connection is closed so that its client hears why.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

const LAST_WORDS: Duration = Duration::from_secs(5);

/// Closes, but takes in what is still being sent: else the client's system would throw away the answer that says
/// what was wrong with it.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = timeout(LAST_WORDS, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    })
    .await;
}

/// Writes, for as long as that may take at most.
pub(super) async fn write_last_words<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(LAST_WORDS, async {
        stream.write_all(words).await?;
        stream.flush().await
    })
    .await;
}

/// Writes and closes, for as long as that may take at most.
pub(super) async fn say_last_words<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let _ = timeout(LAST_WORDS, async {
        stream.write_all(words).await?;
        stream.shutdown().await
    })
    .await;
}

//! The close of a connection, so that the client can read why.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Writes an answer, closes, and reads until the client closes. Unread bytes would make the kernel reset the connection
/// before the client reads the answer.
pub async fn lingering_close<S>(stream: &mut S, answer: &[u8], limit: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(limit, async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    })
    .await;
}

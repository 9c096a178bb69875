//! Relays a console: frames of the client become bytes of the console, bytes of the console become frames.
//!
//! A direction reads again only when the other end has taken everything that was read before. This back-pressure slows
//! the sender down instead of filling memory.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, sink, split};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::decoder::{DecodedFrames, StreamEnd};
use super::frame::{ControlPayload, Opcode, ProtocolError};
pub use crate::handler::console::frame_stream::RelayBuffers;
use crate::handler::console::frame_stream::{FrameReader, FrameWriter};
use crate::handler::console::keepalive::{DueFrame, KeepAlive};
use crate::handler::console::target::{ConnectedConsole, ConsoleStream};
use crate::state::client_connection::AdmissionLost;

/// For a close frame to be sent and answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the same when nodegate stops.
const SHUTDOWN_CLOSE_TIMEOUT: Duration = Duration::from_millis(900);

/// The reason why a console session ends.
enum CloseReason {
    Stopped,
    Denied(AdmissionLost),
    ClientClosed(Option<u16>),
    ClientGone,
    ClientSilent,
    ProtocolError(ProtocolError),
    ConsoleEnded,
    ConsoleFailed(io::Error),
}

impl CloseReason {
    /// The close frame for the client. `None` if the client is gone.
    fn close_frame(&self) -> Option<ControlPayload> {
        Some(match self {
            Self::ClientGone => return None,
            Self::ClientClosed(None) => ControlPayload::EMPTY,
            Self::ClientClosed(Some(code)) => ControlPayload::close(*code, ""),
            Self::ConsoleEnded => ControlPayload::close(1000, ""),
            Self::Stopped => ControlPayload::close(1001, "the proxy stops"),
            Self::Denied(_) => ControlPayload::close(1001, "this client is no longer admitted"),
            Self::ProtocolError(error) => ControlPayload::close(error.close_code(), &error.to_string()),
            Self::ClientSilent => ControlPayload::close(1011, "no pong to a ping"),
            Self::ConsoleFailed(_) => ControlPayload::close(1011, "the console failed"),
        })
    }

    /// Whether the client still has to send its close frame.
    fn expects_close_frame(&self) -> bool {
        matches!(self, Self::ConsoleEnded | Self::ConsoleFailed(_) | Self::Stopped | Self::Denied(_))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Denied(denied) => write!(f, "the client is no longer admitted: {denied}"),
            Self::ClientClosed(code) => write!(f, "closed by the client, code {code:?}"),
            Self::ClientGone => f.write_str("the client is gone"),
            Self::ClientSilent => f.write_str("the client answers no ping, or reads nothing"),
            Self::ProtocolError(error) => write!(f, "the client broke the protocol: {error}"),
            Self::ConsoleEnded => f.write_str("ended by the console"),
            Self::ConsoleFailed(error) => write!(f, "the console failed: {error}"),
        }
    }
}

/// A console whose client has completed the handshake.
pub struct ConsoleRelay<'a> {
    pub console: ConnectedConsole,
    /// bytes that the client sent before the handshake was complete
    pub early: Bytes,
    /// the interval of pings
    pub ping: Option<Duration>,
    pub buffers: &'a RelayBuffers,
}

/// Relays until one end closes, `stop` is cancelled, or the client is no longer admitted.
pub async fn run<S>(
    client: S,
    relay: ConsoleRelay<'_>,
    stop: &CancellationToken,
    denied: impl Future<Output = AdmissionLost>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ConsoleRelay { console, early, ping, buffers } = relay;
    let over = async {
        tokio::select! {
            () = stop.cancelled() => CloseReason::Stopped,
            denied = denied => CloseReason::Denied(denied),
        }
    };
    let (source, sink) = split(client);
    let counter = &console.listed.counter;
    let mut client = ClientFrames {
        reader: FrameReader::new(source, counter, buffers),
        writer: FrameWriter::new(sink, counter, buffers),
    };
    let keep_alive = KeepAlive::new(ping);
    let reason = relay_frames(&mut client, early, console.stream, &keep_alive, over).await;
    tracing::debug!(%reason, "console closed");
    let limit = if matches!(reason, CloseReason::Stopped) { SHUTDOWN_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
    let ClientFrames { mut reader, mut writer } = client;
    let _ = timeout(limit, close_handshake(&reason, &mut reader, &mut writer, &keep_alive)).await;
}

/// The client's end.
struct ClientFrames<'a, S> {
    reader: FrameReader<'a, ReadHalf<S>>,
    writer: FrameWriter<'a, WriteHalf<S>>,
}

/// Relays both directions until one ends, then shuts the console's stream down.
async fn relay_frames<S>(
    client: &mut ClientFrames<'_, S>,
    early: Bytes,
    console: ConsoleStream,
    keep_alive: &KeepAlive,
    over: impl Future<Output = CloseReason>,
) -> CloseReason
where
    S: AsyncRead + AsyncWrite,
{
    let ClientFrames { reader, writer } = client;
    let (mut from_console, mut to_console) = split(console);
    // Unbiased: with a fixed order, a flood in one direction would use up the task's budget each time.
    let reason = tokio::select! {
        reason = over => reason,
        reason = relay_to_console(reader, early, &mut to_console, keep_alive) => reason,
        reason = relay_to_client(&mut from_console, writer, keep_alive) => reason,
        () = keep_alive.run_until_dead() => CloseReason::ClientSilent,
    };
    let _ = timeout(CLOSE_TIMEOUT, to_console.shutdown()).await;
    reason
}

async fn relay_to_console<R, C>(
    reader: &mut FrameReader<'_, R>,
    early: Bytes,
    console: &mut C,
    keep_alive: &KeepAlive,
) -> CloseReason
where
    R: AsyncRead + Unpin,
    C: AsyncWrite + Unpin,
{
    let found = reader.decode_early(early);
    if let Some(reason) = forward_decoded(found, &mut reader.payload, console, keep_alive).await {
        return reason;
    }
    loop {
        let Ok(found) = reader.read(console, keep_alive).await else { return CloseReason::ClientGone };
        if let Some(reason) = forward_decoded(found, &mut reader.payload, console, keep_alive).await {
            return reason;
        }
    }
}

/// Forwards decoded frames: payload first, because the client sent it before the end.
async fn forward_decoded<C: AsyncWrite + Unpin>(
    found: DecodedFrames,
    payload: &mut Vec<u8>,
    console: &mut C,
    keep_alive: &KeepAlive,
) -> Option<CloseReason> {
    if let Some(ping) = found.ping {
        keep_alive.queue_pong(ping);
    }
    if !payload.is_empty() {
        keep_alive.set_console_blocked(true);
        let written = async {
            console.write_all(payload).await?;
            console.flush().await
        };
        let written = written.await;
        keep_alive.set_console_blocked(false);
        *payload = Vec::new();
        if let Err(error) = written {
            // Bytes that the console sent before may still be on their way to the client. They get this time.
            sleep(CLOSE_TIMEOUT).await;
            return Some(CloseReason::ConsoleFailed(error));
        }
    }
    match found.end? {
        StreamEnd::Closed(code) => Some(CloseReason::ClientClosed(code)),
        StreamEnd::Invalid(error) => Some(CloseReason::ProtocolError(error)),
    }
}

/// Relays the console's bytes, and sends the pings and pongs that are due.
async fn relay_to_client<C, W>(
    console: &mut C,
    writer: &mut FrameWriter<'_, W>,
    keep_alive: &KeepAlive,
) -> CloseReason
where
    C: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        match keep_alive.take_due_frame() {
            Some(DueFrame::Pong(ping)) => writer.queue_control(Opcode::Pong, &ping),
            Some(DueFrame::Ping) => {
                writer.queue_control(Opcode::Ping, &ControlPayload::EMPTY);
                if writer.flush(keep_alive).await.is_err() {
                    return CloseReason::ClientGone;
                }
                keep_alive.record_ping_sent();
            }
            None => tokio::select! {
                biased;
                () = keep_alive.wait_until_due() => (),
                read = writer.relay(console) => match read {
                    Ok(0) => return CloseReason::ConsoleEnded,
                    Ok(_) => (),
                    Err(error) => return CloseReason::ConsoleFailed(error),
                },
            },
        }
        if writer.flush(keep_alive).await.is_err() {
            return CloseReason::ClientGone;
        }
    }
}

/// Performs the closing handshake, as far as the reason allows one.
async fn close_handshake<R, W>(
    reason: &CloseReason,
    reader: &mut FrameReader<'_, R>,
    writer: &mut FrameWriter<'_, W>,
    keep_alive: &KeepAlive,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Some(close) = reason.close_frame() else { return Ok(()) };
    writer.flush(keep_alive).await?; // the rest of a started frame
    writer.queue_control(Opcode::Close, &close);
    writer.flush(keep_alive).await?;
    if reason.expects_close_frame() {
        while reader.read(&mut sink(), keep_alive).await?.end.is_none() {}
    }
    writer.sink.shutdown().await?;
    // Unread bytes would make the kernel reset the connection and lose the close frame.
    reader.drain().await.map(drop)
}

//! The bridge itself: frames of the client become bytes of the console, bytes of the console become frames.
//!
//! A direction reads nothing while the other end has not taken what was read before, so a slow end slows the other down
//! instead of filling memory.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, sink, split};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::decoder::{DecodedFrames, StreamEnd};
use super::frame::{ControlPayload, Opcode, ProtocolError};
use crate::handler::console::frame_stream::{FrameReader, FrameWriter};
use crate::handler::console::keepalive::{DueFrame, KeepAlive};
use crate::handler::console::target::{ConnectedConsole, ConsoleStream};
use crate::proxy::recheck::AdmissionLost;

/// For a close frame to go out and to be answered.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The same when nodegate stops.
const LAST_WORDS_ON_STOP: Duration = Duration::from_millis(900);

/// Why a bridge ends.
enum CloseReason {
    Stopped,
    Denied(AdmissionLost),
    ClientClosed(Option<u16>),
    ClientGone,
    ClientSilent,
    Fault(ProtocolError),
    ConsoleEnded,
    ConsoleFailed(io::Error),
}

impl CloseReason {
    /// What the client is told, if it can be told anything.
    fn close_frame(&self) -> Option<ControlPayload> {
        Some(match self {
            Self::ClientGone => return None,
            Self::ClientClosed(None) => ControlPayload::EMPTY,
            Self::ClientClosed(Some(code)) => ControlPayload::close(*code, ""),
            Self::ConsoleEnded => ControlPayload::close(1000, ""),
            Self::Stopped => ControlPayload::close(1001, "the proxy stops"),
            Self::Denied(_) => ControlPayload::close(1001, "this client is no longer admitted"),
            Self::Fault(fault) => ControlPayload::close(fault.code(), &fault.to_string()),
            Self::ClientSilent => ControlPayload::close(1011, "no answer to a ping"),
            Self::ConsoleFailed(_) => ControlPayload::close(1011, "the console failed"),
        })
    }

    /// Whether the client's own close frame is still to come, and could be understood.
    fn awaits_answer(&self) -> bool {
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
            Self::ClientSilent => f.write_str("the client answers no ping, or takes nothing"),
            Self::Fault(fault) => write!(f, "the client broke the protocol: {fault}"),
            Self::ConsoleEnded => f.write_str("ended by the console"),
            Self::ConsoleFailed(error) => write!(f, "the console failed: {error}"),
        }
    }
}

/// Runs until one end is done, `stop` is, or the client is denied. `early` was read before the handshake was over.
pub async fn run<S>(
    client: S,
    early: Bytes,
    console: ConnectedConsole,
    ping: Option<Duration>,
    (stop, denied): (&CancellationToken, impl Future<Output = AdmissionLost>),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let over = async {
        tokio::select! {
            () = stop.cancelled() => CloseReason::Stopped,
            denied = denied => CloseReason::Denied(denied),
        }
    };
    let (source, sink) = split(client);
    let meter = &console.listed.meter;
    let mut client = (FrameReader::new(source, meter), FrameWriter::new(sink, meter));
    let pulse = KeepAlive::new(ping);
    let ending = match console.stream {
        ConsoleStream::Tcp(stream) => between(&mut client, early, split(stream), &pulse, over).await,
        ConsoleStream::Unix(stream) => between(&mut client, early, split(stream), &pulse, over).await,
    };
    tracing::debug!(%ending, "console closed");
    let patience = if matches!(ending, CloseReason::Stopped) { LAST_WORDS_ON_STOP } else { LAST_WORDS };
    let (mut inbox, mut outbox) = client;
    let _ = timeout(patience, say_goodbye(&ending, &mut inbox, &mut outbox, &pulse)).await;
}

/// The console is shut when this returns: its own end is done, or it will hear no more.
async fn between<S, C>(
    client: &mut (FrameReader<'_, ReadHalf<S>>, FrameWriter<'_, WriteHalf<S>>),
    early: Bytes,
    (mut from_console, mut to_console): (ReadHalf<C>, WriteHalf<C>),
    pulse: &KeepAlive,
    over: impl Future<Output = CloseReason>,
) -> CloseReason
where
    S: AsyncRead + AsyncWrite,
    C: AsyncRead + AsyncWrite,
{
    let (inbox, outbox) = client;
    // In no fixed order: with one, a flood in one direction would use up the task's turn each time.
    let ending = tokio::select! {
        ending = over => ending,
        ending = up(inbox, early, &mut to_console, pulse) => ending,
        ending = down(&mut from_console, outbox, pulse) => ending,
        () = pulse.watch() => CloseReason::ClientSilent,
    };
    let _ = timeout(LAST_WORDS, to_console.shutdown()).await;
    ending
}

/// From the client to the console.
async fn up<R, C>(
    inbox: &mut FrameReader<'_, R>,
    early: Bytes,
    console: &mut C,
    pulse: &KeepAlive,
) -> CloseReason
where
    R: AsyncRead + Unpin,
    C: AsyncWrite + Unpin,
{
    let found = inbox.take_early(early);
    if let Some(ending) = pass_up(found, &mut inbox.payload, console, pulse).await {
        return ending;
    }
    loop {
        let Ok(found) = inbox.read(console, pulse).await else { return CloseReason::ClientGone };
        if let Some(ending) = pass_up(found, &mut inbox.payload, console, pulse).await {
            return ending;
        }
    }
}

/// What was found in some bytes: payload first, since it came before the end.
async fn pass_up<C: AsyncWrite + Unpin>(
    found: DecodedFrames,
    payload: &mut Vec<u8>,
    console: &mut C,
    pulse: &KeepAlive,
) -> Option<CloseReason> {
    if let Some(ping) = found.ping {
        pulse.answer(ping);
    }
    if !payload.is_empty() {
        pulse.console_full(true);
        let written = async {
            console.write_all(payload).await?;
            console.flush().await
        };
        let written = written.await;
        pulse.console_full(false);
        *payload = Vec::new();
        if let Err(error) = written {
            // What the console has sent before is still on its way down, and its end ends the bridge.
            sleep(LAST_WORDS).await;
            return Some(CloseReason::ConsoleFailed(error));
        }
    }
    match found.end? {
        StreamEnd::Closed(code) => Some(CloseReason::ClientClosed(code)),
        StreamEnd::Fault(fault) => Some(CloseReason::Fault(fault)),
    }
}

/// From the console to the client, with the control frames between.
async fn down<C, W>(console: &mut C, outbox: &mut FrameWriter<'_, W>, pulse: &KeepAlive) -> CloseReason
where
    C: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        match pulse.take_due() {
            Some(DueFrame::Pong(ping)) => outbox.control(Opcode::Pong, &ping),
            Some(DueFrame::Ping) => {
                outbox.control(Opcode::Ping, &ControlPayload::EMPTY);
                if outbox.flush(pulse).await.is_err() {
                    return CloseReason::ClientGone;
                }
                pulse.ping_sent();
            }
            None => tokio::select! {
                biased;
                () = pulse.due() => (),
                read = outbox.relay(console) => match read {
                    Ok(0) => return CloseReason::ConsoleEnded,
                    Ok(_) => (),
                    Err(error) => return CloseReason::ConsoleFailed(error),
                },
            },
        }
        if outbox.flush(pulse).await.is_err() {
            return CloseReason::ClientGone;
        }
    }
}

/// The closing handshake, as far as the ending still has one.
async fn say_goodbye<R, W>(
    ending: &CloseReason,
    inbox: &mut FrameReader<'_, R>,
    outbox: &mut FrameWriter<'_, W>,
    pulse: &KeepAlive,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Some(close) = ending.close_frame() else { return Ok(()) };
    outbox.flush(pulse).await?; // the rest of a frame that has begun
    outbox.control(Opcode::Close, &close);
    outbox.flush(pulse).await?;
    if ending.awaits_answer() {
        while inbox.read(&mut sink(), pulse).await?.end.is_none() {}
    }
    outbox.sink.shutdown().await?;
    // Bytes that nobody reads would make the system throw the close frame away.
    inbox.discard().await
}

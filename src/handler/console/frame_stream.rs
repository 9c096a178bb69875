//! The client's end of a console. All consoles of a worker share one buffer for each direction. A console keeps bytes in
//! its own memory only while the receiving end does not take them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nodegate_spice::ByteCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, sink};

use super::decoder::{DecodedFrames, FrameDecoder};
use super::frame::{ControlPayload, MAX_HEADER_BYTES, Opcode, encode_header};
use crate::handler::console::keepalive::KeepAlive;

/// The longest plain text of a TLS record (RFC 8446 section 5.1).
const TLS_RECORD_BYTES: usize = 16 << 10;
/// Bytes that are read before the console gets them: two frames of 64 kB.
const READ_BUFFER_BYTES: usize = 8 * TLS_RECORD_BYTES;
/// A whole frame with its header.
const FRAME_BUFFER_BYTES: usize = 4 * TLS_RECORD_BYTES;

/// Buffers that all consoles of a worker share. Their contents are used or copied within one poll.
#[derive(Default)]
pub struct RelayBuffers {
    input: RefCell<Vec<u8>>,
    frame: RefCell<Vec<u8>>,
}

/// Decodes the client's frames.
pub(super) struct FrameReader<'a, R> {
    source: R,
    counter: &'a ByteCounter,
    input: &'a RefCell<Vec<u8>>,
    pub(super) decoder: FrameDecoder,
    /// the payload that the console has not taken yet
    pub(super) payload: Vec<u8>,
}

impl<'a, R: AsyncRead + Unpin> FrameReader<'a, R> {
    pub(super) fn new(source: R, counter: &'a ByteCounter, buffers: &'a RelayBuffers) -> Self {
        let input = &buffers.input;
        Self { source, counter, input, decoder: FrameDecoder::default(), payload: Vec::new() }
    }

    /// Decodes the bytes that arrived before the handshake was complete. Their payload is for the console.
    pub(super) fn decode_early(&mut self, early: Bytes) -> DecodedFrames {
        let mut early = Vec::from(early);
        let found = self.decoder.decode(&mut early);
        self.payload = early.get(found.payload.clone()).unwrap_or_default().to_vec();
        self.counter.add_up(self.payload.len());
        found
    }

    /// Reads the available bytes and writes as much to the console as it takes at once. The rest is in `payload`.
    pub(super) async fn read<C>(
        &mut self,
        console: &mut C,
        keep_alive: &KeepAlive,
    ) -> io::Result<DecodedFrames>
    where
        C: AsyncWrite + Unpin,
    {
        let found = poll_fn(|context| self.poll_relay(console, context)).await?;
        keep_alive.record_received();
        Ok(found)
    }

    fn poll_relay<C: AsyncWrite + Unpin>(
        &mut self,
        console: &mut C,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<DecodedFrames>> {
        let mut input = self.input.borrow_mut();
        input.resize(READ_BUFFER_BYTES, 0);
        let length = ready!(poll_read_records(&mut self.source, &mut input, context))?;
        if length == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let found = self.decoder.decode(input.get_mut(..length).unwrap_or_default());
        let payload = input.get(found.payload.clone()).unwrap_or_default();
        self.counter.add_up(payload.len());
        let mut written = 0;
        if !payload.is_empty()
            && let Poll::Ready(Ok(count)) = Pin::new(console).poll_write(context, payload)
        {
            written = count;
        }
        self.payload = payload.get(written..).unwrap_or_default().to_vec();
        Poll::Ready(Ok(found))
    }

    pub(super) async fn drain(&mut self) -> io::Result<u64> {
        tokio::io::copy(&mut self.source, &mut sink()).await
    }
}

/// Reads more after each whole record. 0 at the end. An error after the first record is ignored, because the next read
/// meets it again.
fn poll_read_records<R: AsyncRead + Unpin>(
    source: &mut R,
    buffer: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(&mut *source).poll_read(context, &mut buffer))?;
    // A short record may end a frame, so only a whole one is followed by another read.
    while buffer.filled().len() >= TLS_RECORD_BYTES && buffer.remaining() >= TLS_RECORD_BYTES {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *source).poll_read(context, &mut buffer);
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().len() == before {
            break;
        }
    }
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Encodes frames for the client. If a future is dropped in the middle, the rest of the frame is kept.
pub(super) struct FrameWriter<'a, W> {
    pub(super) sink: W,
    counter: &'a ByteCounter,
    frame: &'a RefCell<Vec<u8>>,
    rest: Vec<u8>,
    start: usize,
}

impl<'a, W: AsyncWrite + Unpin> FrameWriter<'a, W> {
    pub(super) fn new(sink: W, counter: &'a ByteCounter, buffers: &'a RelayBuffers) -> Self {
        Self { sink, counter, frame: &buffers.frame, rest: Vec::new(), start: 0 }
    }

    /// Reads from the console, and sends as much of a binary frame as the client takes at once. `flush` sends the rest.
    /// Returns the length of the payload, 0 at the console's end.
    pub(super) async fn relay<C: AsyncRead + Unpin>(&mut self, console: &mut C) -> io::Result<usize> {
        poll_fn(|context| self.poll_relay(console, context)).await
    }

    fn poll_relay<C: AsyncRead + Unpin>(
        &mut self,
        console: &mut C,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut frame = self.frame.borrow_mut();
        frame.resize(FRAME_BUFFER_BYTES, 0);
        let mut room = ReadBuf::new(frame.get_mut(MAX_HEADER_BYTES..).unwrap_or_default());
        ready!(Pin::new(console).poll_read(context, &mut room))?;
        let length = room.filled().len();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        self.counter.add_down(length);
        // The header is placed right before the payload.
        let head = encode_header(Opcode::Binary, u16::try_from(length).unwrap_or(u16::MAX));
        let mut start = MAX_HEADER_BYTES - head.len();
        if let Some(place) = frame.get_mut(start..MAX_HEADER_BYTES) {
            place.copy_from_slice(&head);
        }
        let end = MAX_HEADER_BYTES + length;
        while start < end {
            let bytes = frame.get(start..end).unwrap_or_default();
            match Pin::new(&mut self.sink).poll_write(context, bytes) {
                Poll::Ready(Ok(written @ 1..)) => start += written,
                // `flush` meets the error again.
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => break,
            }
        }
        self.rest.extend_from_slice(frame.get(start..end).unwrap_or_default());
        Poll::Ready(Ok(length))
    }

    pub(super) fn queue_control(&mut self, opcode: Opcode, control: &ControlPayload) {
        let payload = control.as_slice();
        let head = encode_header(opcode, u16::try_from(payload.len()).unwrap_or(u16::MAX));
        self.rest.extend_from_slice(&head);
        self.rest.extend_from_slice(payload);
    }

    /// Sends the rest of all frames.
    pub(super) async fn flush(&mut self, keep_alive: &KeepAlive) -> io::Result<()> {
        while let Some(rest) = self.rest.get(self.start..).filter(|rest| !rest.is_empty()) {
            let sink = &mut self.sink;
            let written = poll_fn(|context| {
                let polled = Pin::new(&mut *sink).poll_write(context, rest);
                keep_alive.set_client_blocked(polled.is_pending());
                polled
            });
            match written.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.start += written,
            }
        }
        (self.rest, self.start) = (Vec::new(), 0);
        let sink = &mut self.sink;
        let flushed = poll_fn(|context| {
            let polled = Pin::new(&mut *sink).poll_flush(context);
            keep_alive.set_client_blocked(polled.is_pending());
            polled
        });
        flushed.await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives records of these lengths, one for each read, and is pending afterwards.
    struct Records(VecDeque<usize>);

    impl AsyncRead for Records {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(length) = self.0.pop_front() else { return Poll::Pending };
            buffer.put_slice(&vec![0; length]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn available_records_are_read_together() {
        const FRAME: [usize; 5] =
            [TLS_RECORD_BYTES, TLS_RECORD_BYTES, TLS_RECORD_BYTES, TLS_RECORD_BYTES, 14];
        let read = |records: &[usize]| {
            let mut source = Records(records.iter().copied().collect());
            let mut buffer = vec![0; READ_BUFFER_BYTES];
            let polled = poll_read_records(&mut source, &mut buffer, &mut Context::from_waker(Waker::noop()));
            (polled.map(Result::unwrap), source.0.len())
        };
        assert_eq!(read(&[]), (Poll::Pending, 0));
        assert_eq!(read(&[64, 64]), (Poll::Ready(64), 1));
        assert_eq!(read(&[TLS_RECORD_BYTES, 0, 64]), (Poll::Ready(TLS_RECORD_BYTES), 1));
        assert_eq!(read(&[TLS_RECORD_BYTES; 9]), (Poll::Ready(READ_BUFFER_BYTES), 1));
        let two = [FRAME, FRAME].concat();
        assert_eq!(read(&two), (Poll::Ready(7 * TLS_RECORD_BYTES + 14), 2));
    }
}

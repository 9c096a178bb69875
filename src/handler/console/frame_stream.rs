//! The client's end of a bridge. Both directions go through buffers that all consoles of a thread share; a console has
//! bytes of its own only while an end does not take them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nodegate_spice::Meter;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::decoder::{DecodedFrames, FrameDecoder};
use super::frame::{ControlPayload, LONGEST_OWN_HEAD, Opcode, own_head};
use crate::handler::console::keepalive::KeepAlive;

/// The longest plain text of a TLS record (RFC 8446 section 5.1).
const RECORD: usize = 16 << 10;
/// Read at most before the console gets it: two frames of 64 kB.
const FROM_CLIENT: usize = 8 * RECORD;
/// A whole frame with its head.
const TO_CLIENT: usize = 4 * RECORD;

thread_local! {
    /// What is in them is used or copied before anything waits.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The client's frames, unpacked.
pub(crate) struct FrameReader<'a, R> {
    source: R,
    meter: &'a Meter,
    pub(crate) decoder: FrameDecoder,
    /// What the console has not taken yet.
    pub(crate) payload: Vec<u8>,
}

impl<'a, R: AsyncRead + Unpin> FrameReader<'a, R> {
    pub(crate) fn new(source: R, meter: &'a Meter) -> Self {
        Self { source, meter, decoder: FrameDecoder::default(), payload: Vec::new() }
    }

    /// What was read before the handshake was over; its payload is for the console.
    pub(crate) fn take_early(&mut self, early: Bytes) -> DecodedFrames {
        let mut early = Vec::from(early);
        let (found, payload) = self.decoder.decode(&mut early);
        self.payload = early.get(payload).unwrap_or_default().to_vec();
        self.meter.add_up(self.payload.len());
        found
    }

    /// Reads what there is, and gives the console what it takes at once; the rest, or all if it fails, is `payload`.
    pub(crate) async fn read<C>(&mut self, console: &mut C, pulse: &KeepAlive) -> io::Result<DecodedFrames>
    where
        C: AsyncWrite + Unpin,
    {
        let relayed =
            poll_fn(|context| INPUT.with_borrow_mut(|input| self.poll_relay(console, input, context)));
        let found = relayed.await?;
        pulse.heard();
        Ok(found)
    }

    fn poll_relay<C: AsyncWrite + Unpin>(
        &mut self,
        console: &mut C,
        input: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<DecodedFrames>> {
        input.resize(FROM_CLIENT, 0);
        let length = ready!(poll_read_records(&mut self.source, input, context))?;
        if length == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let (found, payload) = self.decoder.decode(input.get_mut(..length).unwrap_or_default());
        let payload = input.get(payload).unwrap_or_default();
        self.meter.add_up(payload.len());
        let mut written = 0;
        if !payload.is_empty()
            && let Poll::Ready(Ok(count)) = Pin::new(console).poll_write(context, payload)
        {
            written = count;
        }
        self.payload = payload.get(written..).unwrap_or_default().to_vec();
        Poll::Ready(Ok(found))
    }

    pub(crate) async fn discard(&mut self) -> io::Result<()> {
        let mut rest = vec![0; RECORD];
        while self.source.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

/// Reads on once it has got a whole record; 0 at the end. What goes wrong after the first will go wrong again.
fn poll_read_records<R: AsyncRead + Unpin>(
    source: &mut R,
    buffer: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(&mut *source).poll_read(context, &mut buffer))?;
    // After a short record, which may end a frame, comes the next one.
    while buffer.filled().len() >= RECORD && buffer.remaining() >= RECORD {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *source).poll_read(context, &mut buffer);
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().len() == before {
            break;
        }
    }
    Poll::Ready(Ok(buffer.filled().len()))
}

/// What is on its way to the client. Whatever future is dropped in the middle, the rest of a frame is kept.
pub(crate) struct FrameWriter<'a, W> {
    pub(crate) sink: W,
    meter: &'a Meter,
    rest: Vec<u8>,
    start: usize,
}

impl<'a, W: AsyncWrite + Unpin> FrameWriter<'a, W> {
    pub(crate) fn new(sink: W, meter: &'a Meter) -> Self {
        Self { sink, meter, rest: Vec::new(), start: 0 }
    }

    /// Makes a binary frame of what the console has said and sends as much of it as the client takes at once; `flush`
    /// sends the rest. 0 at the console's end.
    pub(crate) async fn relay<C: AsyncRead + Unpin>(&mut self, console: &mut C) -> io::Result<usize> {
        poll_fn(|context| FRAME.with_borrow_mut(|frame| self.poll_relay(console, frame, context))).await
    }

    fn poll_relay<C: AsyncRead + Unpin>(
        &mut self,
        console: &mut C,
        frame: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        frame.resize(TO_CLIENT, 0);
        let mut room = ReadBuf::new(frame.get_mut(LONGEST_OWN_HEAD..).unwrap_or_default());
        ready!(Pin::new(console).poll_read(context, &mut room))?;
        let length = room.filled().len();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        self.meter.add_down(length);
        // The head goes right before the payload.
        let (head, head_length) = own_head(Opcode::Binary, u16::try_from(length).unwrap_or(u16::MAX));
        let mut start = LONGEST_OWN_HEAD - head_length;
        if let Some(place) = frame.get_mut(start..LONGEST_OWN_HEAD) {
            place.copy_from_slice(head.get(..head_length).unwrap_or_default());
        }
        let end = LONGEST_OWN_HEAD + length;
        while start < end {
            let bytes = frame.get(start..end).unwrap_or_default();
            match Pin::new(&mut self.sink).poll_write(context, bytes) {
                Poll::Ready(Ok(written @ 1..)) => start += written,
                // `flush` meets it again.
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => break,
            }
        }
        self.rest.extend_from_slice(frame.get(start..end).unwrap_or_default());
        Poll::Ready(Ok(length))
    }

    pub(crate) fn control(&mut self, opcode: Opcode, control: &ControlPayload) {
        let payload = control.as_slice();
        let (head, head_length) = own_head(opcode, u16::try_from(payload.len()).unwrap_or(u16::MAX));
        self.rest.extend_from_slice(head.get(..head_length).unwrap_or_default());
        self.rest.extend_from_slice(payload);
    }

    /// Sends what has begun, or what is left of it.
    pub(crate) async fn flush(&mut self, pulse: &KeepAlive) -> io::Result<()> {
        while let Some(rest) = self.rest.get(self.start..).filter(|rest| !rest.is_empty()) {
            let sink = &mut self.sink;
            let written = poll_fn(|context| {
                let polled = Pin::new(&mut *sink).poll_write(context, rest);
                pulse.client_full(polled.is_pending());
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
            pulse.client_full(polled.is_pending());
            polled
        });
        flushed.await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Records of these lengths, one for each read; then nothing yet.
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
    fn records_that_are_there_are_read_together_and_a_short_message_waits_for_nothing() {
        const FRAME: [usize; 5] = [RECORD, RECORD, RECORD, RECORD, 14];
        let read = |records: &[usize]| {
            let mut source = Records(records.iter().copied().collect());
            let mut buffer = vec![0; FROM_CLIENT];
            let polled = poll_read_records(&mut source, &mut buffer, &mut Context::from_waker(Waker::noop()));
            (polled.map(Result::unwrap), source.0.len())
        };
        assert_eq!(read(&[]), (Poll::Pending, 0));
        assert_eq!(read(&[64, 64]), (Poll::Ready(64), 1));
        assert_eq!(read(&[RECORD, 0, 64]), (Poll::Ready(RECORD), 1));
        assert_eq!(read(&[RECORD; 9]), (Poll::Ready(FROM_CLIENT), 1));
        let two = [FRAME, FRAME].concat();
        assert_eq!(read(&two), (Poll::Ready(7 * RECORD + 14), 2));
    }
}

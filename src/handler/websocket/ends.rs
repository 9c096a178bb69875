//! The client's end of a bridge: one buffer for each direction.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::decoder::{Decoder, Found};
use super::frame::{Control, LONGEST_OWN_HEAD, Opcode, own_head};
use super::pulse::Pulse;

/// One TLS record.
pub(super) const FROM_CLIENT: usize = 16 << 10;
/// A whole frame, two TLS records.
const TO_CLIENT: usize = 32 << 10;

/// The client's frames, unpacked.
pub(super) struct Inbox<R> {
    source: R,
    pub(super) decoder: Decoder,
    input: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            decoder: Decoder::default(),
            input: vec![0; FROM_CLIENT],
            payload: Vec::with_capacity(FROM_CLIENT),
        }
    }

    /// Reads once and adds to `payload`.
    pub(super) async fn read(&mut self, pulse: &Pulse) -> io::Result<Found> {
        let length = self.source.read(&mut self.input).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        pulse.heard();
        let bytes = self.input.get(..length).unwrap_or_default();
        Ok(self.decoder.decode(bytes, &mut self.payload))
    }

    pub(super) async fn discard(&mut self) -> io::Result<()> {
        while self.source.read(&mut self.input).await? > 0 {}
        Ok(())
    }
}

/// One frame on its way to the client. Whatever future is dropped in the middle, the rest of the frame is kept.
pub(super) struct Outbox<W> {
    pub(super) sink: W,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, buffer: vec![0; TO_CLIENT], start: 0, end: 0 }
    }

    /// Where the payload of the next data frame is read into.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(LONGEST_OWN_HEAD..).unwrap_or_default()
    }

    /// Makes a binary frame of the first bytes of `room`: its head goes right before them.
    pub(super) fn data(&mut self, length: usize) {
        let (head, head_length) = own_head(Opcode::Binary, u16::try_from(length).unwrap_or(u16::MAX));
        self.start = LONGEST_OWN_HEAD - head_length;
        self.end = LONGEST_OWN_HEAD + length;
        self.put(self.start, head.get(..head_length).unwrap_or_default());
    }

    pub(super) fn control(&mut self, opcode: Opcode, control: &Control) {
        let payload = control.as_slice();
        let (head, head_length) = own_head(opcode, u16::try_from(payload.len()).unwrap_or(u16::MAX));
        self.put(0, head.get(..head_length).unwrap_or_default());
        self.put(head_length, payload);
        (self.start, self.end) = (0, head_length + payload.len());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Sends the frame, or what is left of it.
    pub(super) async fn flush(&mut self, pulse: &Pulse) -> io::Result<()> {
        while self.start < self.end {
            let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
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
        let sink = &mut self.sink;
        let flushed = poll_fn(|context| {
            let polled = Pin::new(&mut *sink).poll_flush(context);
            pulse.client_full(polled.is_pending());
            polled
        });
        flushed.await
    }
}

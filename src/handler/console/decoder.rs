//! Decodes a client's frames without waiting for a whole frame.
//!
//! This codec exists because the maintained crates buffer a frame or a message before they return it. Two hundred
//! consoles with frames of one megabyte would need hundreds of megabytes.

use std::ops::Range;

use super::frame::{
    ControlPayload, FIN_BIT, LENGTH_BITS, LENGTH_IS_U16, LENGTH_IS_U64, MASK_BIT, Opcode, ProtocolError,
    RESERVED_BITS, parse_close_code, unmask,
};
use super::utf8::Utf8Validator;

/// The reason why nothing of the client counts any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// a close frame with its code, if it had one
    Closed(Option<u16>),
    /// a frame that violates the protocol
    Invalid(ProtocolError),
}

/// The frames among some decoded bytes.
#[derive(Debug, Default, PartialEq)]
pub struct DecodedFrames {
    /// where the unmasked payload of the data frames is, in one piece
    pub payload: Range<usize>,
    /// the latest ping; earlier ones need no answer (RFC 6455 section 5.5.3)
    pub ping: Option<ControlPayload>,
    /// bytes after it are ignored
    pub end: Option<StreamEnd>,
}

/// Decodes the bytes of a client, in pieces of any size.
#[derive(Default)]
pub struct FrameDecoder {
    state: DecoderState,
    /// a message has begun and has not ended
    in_message: bool,
    /// of a text message
    text: Option<Utf8Validator>,
    head: [u8; 14],
    head_length: usize,
}

#[derive(Default)]
enum DecoderState {
    #[default]
    Head,
    Payload {
        left: u64,
        mask: [u8; 4],
    },
    Control {
        opcode: Opcode,
        left: u64,
        mask: [u8; 4],
        payload: ControlPayload,
    },
    Ended,
}

impl FrameDecoder {
    /// Decodes all of `bytes` in place.
    pub fn decode(&mut self, bytes: &mut [u8]) -> DecodedFrames {
        let mut found = DecodedFrames::default();
        let mut at = 0;
        while at < bytes.len() {
            match self.step(bytes, at, &mut found) {
                Ok(taken) => at += taken,
                Err(end) => {
                    self.state = DecoderState::Ended;
                    found.end = Some(end);
                    break;
                }
            }
        }
        found
    }

    /// Decodes one part of a frame. Returns the number of bytes of it.
    fn step(&mut self, bytes: &mut [u8], at: usize, found: &mut DecodedFrames) -> Result<usize, StreamEnd> {
        let rest = bytes.get_mut(at..).unwrap_or_default();
        match &mut self.state {
            DecoderState::Head => {
                self.take_head(rest.first().copied().unwrap_or_default()).map_err(StreamEnd::Invalid)?;
                // A frame without payload is complete with its head.
                self.verify_text(&[])?;
                self.finish(found)?;
                Ok(1)
            }
            DecoderState::Payload { left, mask } => {
                let length = at_most(rest, *left).len();
                unmask(rest.get_mut(..length).unwrap_or_default(), *mask);
                mask.rotate_left(length % 4);
                *left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.state = DecoderState::Head;
                }
                self.verify_text(bytes.get(at..at + length).unwrap_or_default())?;
                append(bytes, &mut found.payload, at..at + length);
                Ok(length)
            }
            DecoderState::Control { left, mask, payload, .. } => {
                let part = at_most(rest, *left);
                payload.push_masked(part, *mask);
                mask.rotate_left(part.len() % 4);
                *left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
                let taken = part.len();
                self.finish(found)?;
                Ok(taken)
            }
            DecoderState::Ended => Ok(rest.len()),
        }
    }

    /// Adds a byte of a header. The state changes when the header is complete.
    fn take_head(&mut self, byte: u8) -> Result<(), ProtocolError> {
        if let Some(place) = self.head.get_mut(self.head_length) {
            *place = byte;
        }
        self.head_length += 1;
        let [first, second, ..] = self.head;
        if self.head_length < 2 {
            return Ok(());
        }
        if self.head_length == 2 {
            self.check(first, second)?;
        }
        let extended = match second & LENGTH_BITS {
            LENGTH_IS_U16 => 2,
            LENGTH_IS_U64 => 8,
            _ => 0,
        };
        if self.head_length < 2 + extended + 4 {
            return Ok(());
        }
        self.head_length = 0;
        let mut mask = [0; 4];
        mask.copy_from_slice(self.head.get(2 + extended..2 + extended + 4).unwrap_or(&[0; 4]));
        let left = self.payload_length()?;
        let opcode = Opcode::from_byte(first).ok_or(UNKNOWN_OPCODE)?;
        if opcode.is_control() {
            self.state = DecoderState::Control { opcode, left, mask, payload: ControlPayload::EMPTY };
        } else {
            self.in_message = first & FIN_BIT == 0;
            if opcode != Opcode::Continuation {
                self.text = (opcode == Opcode::Text).then(Utf8Validator::default);
            }
            self.state = if left == 0 { DecoderState::Head } else { DecoderState::Payload { left, mask } };
        }
        Ok(())
    }

    /// Verifies the first two bytes of a header.
    fn check(&self, first: u8, second: u8) -> Result<(), ProtocolError> {
        let opcode = Opcode::from_byte(first).ok_or(UNKNOWN_OPCODE)?;
        if first & RESERVED_BITS != 0 {
            return Err(ProtocolError::Violation("a reserved bit is set"));
        }
        if second & MASK_BIT == 0 {
            return Err(ProtocolError::Violation("a frame is not masked"));
        }
        if opcode.is_control() && first & FIN_BIT == 0 {
            return Err(ProtocolError::Violation("a control frame is fragmented"));
        }
        if opcode.is_control() && second & LENGTH_BITS >= LENGTH_IS_U16 {
            return Err(ProtocolError::Violation("a control frame is too long"));
        }
        match (opcode, self.in_message) {
            (Opcode::Continuation, false) => {
                Err(ProtocolError::Violation("a continuation without a beginning"))
            }
            (Opcode::Text | Opcode::Binary, true) => {
                Err(ProtocolError::Violation("a message within a message"))
            }
            (Opcode::Continuation, true)
            | (Opcode::Text | Opcode::Binary, false)
            | (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => Ok(()),
        }
    }

    /// The length in a complete header. It must have its shortest form (RFC 6455 section 5.2).
    fn payload_length(&self) -> Result<u64, ProtocolError> {
        let [_, second, high, low, ..] = self.head;
        let eight = self.head.get(2..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
        let (length, shortest) = match second & LENGTH_BITS {
            LENGTH_IS_U16 => (u64::from(u16::from_be_bytes([high, low])), u64::from(LENGTH_IS_U16)),
            LENGTH_IS_U64 => (u64::from_be_bytes(eight), 1 << 16),
            short => (u64::from(short), 0),
        };
        if length < shortest || length >> 63 != 0 {
            return Err(ProtocolError::Violation("a length is malformed"));
        }
        Ok(length)
    }

    /// Text is UTF-8 (RFC 6455 section 8.1). A character may be split between frames, but not between messages.
    fn verify_text(&mut self, payload: &[u8]) -> Result<(), StreamEnd> {
        let ends = !self.in_message && matches!(self.state, DecoderState::Head) && self.head_length == 0;
        let Some(text) = &mut self.text else { return Ok(()) };
        if text.accept(payload) && !(ends && text.is_cut()) {
            return Ok(());
        }
        Err(StreamEnd::Invalid(ProtocolError::NotText))
    }

    /// Handles a control frame whose payload is complete.
    fn finish(&mut self, found: &mut DecodedFrames) -> Result<(), StreamEnd> {
        let DecoderState::Control { opcode, left: 0, payload, .. } = &self.state else { return Ok(()) };
        match opcode {
            Opcode::Close => {
                return Err(match parse_close_code(payload.as_slice()) {
                    Ok(code) => StreamEnd::Closed(code),
                    Err(error) => StreamEnd::Invalid(error),
                });
            }
            Opcode::Ping => found.ping = Some(payload.clone()),
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => (),
        }
        self.state = DecoderState::Head;
        Ok(())
    }
}

const UNKNOWN_OPCODE: ProtocolError = ProtocolError::Violation("a reserved opcode");

fn at_most(bytes: &[u8], left: u64) -> &[u8] {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    bytes.get(..left).unwrap_or(bytes)
}

/// Moves `part` to the end of `data`, which is before it. The first part stays in place, and often it is the only one.
fn append(bytes: &mut [u8], data: &mut Range<usize>, part: Range<usize>) {
    if data.start == data.end {
        *data = part;
        return;
    }
    let length = part.len();
    if data.end < part.start {
        bytes.copy_within(part, data.end);
    }
    data.end += length;
}

#[cfg(test)]
mod tests;

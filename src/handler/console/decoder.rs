//! Reads a client's frames without waiting for a whole one.
//!
//! A codec of our own, since the kept crates collect a frame or a message before they hand it out: two hundred
//! consoles with frames of a megabyte would then need hundreds of megabytes.

use std::ops::Range;

use super::frame::{
    ControlPayload, FINAL, LENGTH, LENGTH_16, LENGTH_64, LONGEST_PAYLOAD, MASKED, Opcode, ProtocolError,
    RESERVED, close_code, unmask,
};

/// How a client ended the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// a close frame with its code, if it had one
    Closed(Option<u16>),
    Fault(ProtocolError),
}

/// What some bytes held beside payload.
#[derive(Debug, Default, PartialEq)]
pub struct DecodedFrames {
    /// the latest ping; earlier ones need no answer (RFC 6455 section 5.5.3)
    pub ping: Option<ControlPayload>,
    /// nothing after it counts
    pub end: Option<StreamEnd>,
}

/// Reads what a client sends, in pieces of any size.
#[derive(Default)]
pub struct FrameDecoder {
    state: DecoderState,
    /// a message has begun and not yet ended
    in_message: bool,
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
    /// Takes all of `bytes`. The unmasked payload of data frames is left in them, in one piece.
    pub fn decode(&mut self, bytes: &mut [u8]) -> (DecodedFrames, Range<usize>) {
        let (mut found, mut payload) = (DecodedFrames::default(), 0..0);
        let mut at = 0;
        while at < bytes.len() {
            match self.step(bytes, at, &mut payload, &mut found) {
                Ok(taken) => at += taken,
                Err(end) => {
                    self.state = DecoderState::Ended;
                    found.end = Some(end);
                    break;
                }
            }
        }
        (found, payload)
    }

    /// How many bytes it has used.
    fn step(
        &mut self,
        bytes: &mut [u8],
        at: usize,
        data: &mut Range<usize>,
        found: &mut DecodedFrames,
    ) -> Result<usize, StreamEnd> {
        let rest = bytes.get_mut(at..).unwrap_or_default();
        match &mut self.state {
            DecoderState::Head => {
                self.take_head(rest.first().copied().unwrap_or_default()).map_err(StreamEnd::Fault)?;
                // A control frame without payload is complete with its head.
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
                append(bytes, data, at..at + length);
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

    /// One more byte of a head; the state changes when it is complete.
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
        let extended = match second & LENGTH {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        if self.head_length < 2 + extended + 4 {
            return Ok(());
        }
        self.head_length = 0;
        let mut mask = [0; 4];
        mask.copy_from_slice(self.head.get(2 + extended..2 + extended + 4).unwrap_or(&[0; 4]));
        let left = self.payload_length()?;
        let opcode = Opcode::of(first).ok_or(RESERVED_OPCODE)?;
        if opcode.is_control() {
            self.state = DecoderState::Control { opcode, left, mask, payload: ControlPayload::EMPTY };
        } else {
            self.in_message = first & FINAL == 0;
            self.state = if left == 0 { DecoderState::Head } else { DecoderState::Payload { left, mask } };
        }
        Ok(())
    }

    /// What the first two bytes give away.
    fn check(&self, first: u8, second: u8) -> Result<(), ProtocolError> {
        let opcode = Opcode::of(first).ok_or(RESERVED_OPCODE)?;
        if first & RESERVED != 0 {
            return Err(ProtocolError::Protocol("a reserved bit is set"));
        }
        if second & MASKED == 0 {
            return Err(ProtocolError::Protocol("a frame is not masked"));
        }
        if opcode.is_control() && first & FINAL == 0 {
            return Err(ProtocolError::Protocol("a control frame is fragmented"));
        }
        if opcode.is_control() && second & LENGTH >= LENGTH_16 {
            return Err(ProtocolError::Protocol("a control frame is too long"));
        }
        match (opcode, self.in_message) {
            (Opcode::Continuation, false) => {
                Err(ProtocolError::Protocol("a continuation without a beginning"))
            }
            (Opcode::Text | Opcode::Binary, true) => {
                Err(ProtocolError::Protocol("a message within a message"))
            }
            (Opcode::Continuation, true)
            | (Opcode::Text | Opcode::Binary, false)
            | (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => Ok(()),
        }
    }

    /// The length in a complete head, which must have its shortest form (RFC 6455 section 5.2).
    fn payload_length(&self) -> Result<u64, ProtocolError> {
        let [_, second, high, low, ..] = self.head;
        let eight = self.head.get(2..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
        let (length, shortest) = match second & LENGTH {
            LENGTH_16 => (u64::from(u16::from_be_bytes([high, low])), u64::from(LENGTH_16)),
            LENGTH_64 => (u64::from_be_bytes(eight), 1 << 16),
            short => (u64::from(short), 0),
        };
        if length < shortest || length >> 63 != 0 {
            return Err(ProtocolError::Protocol("a length is malformed"));
        }
        if length > LONGEST_PAYLOAD { Err(ProtocolError::TooLong) } else { Ok(length) }
    }

    /// Handles a control frame whose payload is complete.
    fn finish(&mut self, found: &mut DecodedFrames) -> Result<(), StreamEnd> {
        let DecoderState::Control { opcode, left: 0, payload, .. } = &self.state else { return Ok(()) };
        match opcode {
            Opcode::Close => {
                return Err(match close_code(payload.as_slice()) {
                    Ok(code) => StreamEnd::Closed(code),
                    Err(fault) => StreamEnd::Fault(fault),
                });
            }
            Opcode::Ping => found.ping = Some(payload.clone()),
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => (),
        }
        self.state = DecoderState::Head;
        Ok(())
    }
}

const RESERVED_OPCODE: ProtocolError = ProtocolError::Protocol("a reserved opcode");

fn at_most(bytes: &[u8], left: u64) -> &[u8] {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    bytes.get(..left).unwrap_or(bytes)
}

/// Brings `part` to the end of `data`, which lies before it. The first part, often the only one, stays where it is.
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

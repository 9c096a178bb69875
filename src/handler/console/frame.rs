//! The parts of WebSocket frames (RFC 6455 section 5).

use smallvec::SmallVec;

/// The longest payload of a control frame.
const MAX_CONTROL_BYTES: usize = 125;
/// The longest header of a frame that nodegate sends. Its payload has at most 65,535 bytes.
pub const MAX_HEADER_BYTES: usize = 4;

/// The first byte of a header: last frame of its message, reserved bits, opcode.
pub(super) const FIN_BIT: u8 = 0x80;
pub(super) const RESERVED_BITS: u8 = 0x70;
pub(super) const OPCODE_BITS: u8 = 0x0f;
/// The second byte of a header: whether a mask follows, and the length or the size of its field.
pub(super) const MASK_BIT: u8 = 0x80;
pub(super) const LENGTH_BITS: u8 = 0x7f;
pub(super) const LENGTH_IS_U16: u8 = 126;
pub(super) const LENGTH_IS_U64: u8 = 127;

/// The kind of a frame. A console gets the payload of text as that of binary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte & OPCODE_BITS {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A violation of RFC 6455 by the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    #[error("{0}")]
    Violation(&'static str),
    #[error("a text message or the reason of a close frame is not UTF-8")]
    NotText,
}

impl ProtocolError {
    /// The code of the close frame (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Violation(_) => 1002,
            Self::NotText => 1007,
        }
    }
}

/// The payload of a control frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlPayload {
    bytes: [u8; MAX_CONTROL_BYTES],
    length: usize,
}

impl ControlPayload {
    pub const EMPTY: Self = Self { bytes: [0; MAX_CONTROL_BYTES], length: 0 };

    /// A code and as much of the reason as fits.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut control = Self::EMPTY;
        control.push(&code.to_be_bytes());
        for c in reason.chars() {
            let mut utf8 = [0; 4];
            if !control.push(c.encode_utf8(&mut utf8).as_bytes()) {
                break;
            }
        }
        control
    }

    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends masked bytes of a client.
    pub(super) fn push_masked(&mut self, more: &[u8], mask: [u8; 4]) {
        let start = self.length;
        if self.push(more) {
            unmask(self.bytes.get_mut(start..self.length).unwrap_or_default(), mask);
        }
    }

    /// Appends all of `more`, or nothing if there is no room. Returns whether there was room.
    fn push(&mut self, more: &[u8]) -> bool {
        let end = self.length + more.len();
        let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
        room.copy_from_slice(more);
        self.length = end;
        true
    }
}

/// The code of a close frame (RFC 6455 section 7.4, and the codes that IANA registered later).
pub(super) fn parse_close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(ProtocolError::Violation("half a close code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Violation("a close code that must not be sent"));
    }
    std::str::from_utf8(reason).map(|_| Some(code)).map_err(|_| ProtocolError::NotText)
}

/// Removes the mask. The loop handles eight bytes at a time, and the compiler vectorizes it.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The header of a whole message. Servers do not mask.
pub fn encode_header(opcode: Opcode, length: u16) -> SmallVec<[u8; MAX_HEADER_BYTES]> {
    let first = FIN_BIT | opcode.to_byte();
    match u8::try_from(length) {
        Ok(short) if short < LENGTH_IS_U16 => SmallVec::from_slice(&[first, short]),
        _ => {
            let [high, low] = length.to_be_bytes();
            SmallVec::from([first, LENGTH_IS_U16, high, low])
        }
    }
}

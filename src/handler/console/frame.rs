//! WebSocket frames (RFC 6455 section 5): what they are made of.

/// A longer payload of one frame ends the connection. Messages may be of any length.
pub const LONGEST_PAYLOAD: u64 = 8 * 128 * 1024;
/// The longest payload of a control frame.
pub const LONGEST_CONTROL: usize = 125;
/// The head of the frames that we send with up to 65,535 bytes.
pub const LONGEST_OWN_HEAD: usize = 4;

/// In the first byte of a head: the last frame of its message, bits without a meaning, what it is.
pub(crate) const FINAL: u8 = 0x80;
pub(crate) const RESERVED: u8 = 0x70;
pub(crate) const OPCODE: u8 = 0x0f;
/// In the second byte: whether a mask follows, and the length or where it is.
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const LENGTH: u8 = 0x7f;
pub(crate) const LENGTH_16: u8 = 126;
pub(crate) const LENGTH_64: u8 = 127;

/// What a frame is. Text and binary are the same to a console.
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
    pub(crate) fn of(byte: u8) -> Option<Self> {
        Some(match byte & OPCODE {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What a client did wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("the reason of a close frame is not UTF-8")]
    NotText,
    #[error("a frame may have {LONGEST_PAYLOAD} bytes")]
    TooLong,
}

impl ProtocolError {
    /// RFC 6455 section 7.4.1.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotText => 1007,
            Self::TooLong => 1009,
        }
    }
}

/// The payload of a control frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlPayload {
    bytes: [u8; LONGEST_CONTROL],
    length: usize,
}

impl ControlPayload {
    pub const EMPTY: Self = Self { bytes: [0; LONGEST_CONTROL], length: 0 };

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

    /// Adds what a client has masked.
    pub(crate) fn push_masked(&mut self, more: &[u8], mask: [u8; 4]) {
        let start = self.length;
        if self.push(more) {
            unmask(self.bytes.get_mut(start..self.length).unwrap_or_default(), mask);
        }
    }

    /// Whether it fitted; nothing is taken when it does not.
    fn push(&mut self, more: &[u8]) -> bool {
        let end = self.length + more.len();
        let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
        room.copy_from_slice(more);
        self.length = end;
        true
    }
}

/// The code of a close frame (RFC 6455 section 7.4, and what IANA has registered since).
pub(crate) fn close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(ProtocolError::Protocol("half a close code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::Protocol("a close code that nobody may send"));
    }
    std::str::from_utf8(reason).map(|_| Some(code)).map_err(|_| ProtocolError::NotText)
}

/// Eight bytes at a time; the compiler makes more of it.
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
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

/// The head of a whole message of ours, and how many of its bytes count. Servers do not mask.
pub fn own_head(opcode: Opcode, length: u16) -> ([u8; LONGEST_OWN_HEAD], usize) {
    let first = FINAL | opcode.byte();
    match u8::try_from(length) {
        Ok(short) if short < LENGTH_16 => ([first, short, 0, 0], 2),
        _ => {
            let [high, low] = length.to_be_bytes();
            ([first, LENGTH_16, high, low], 4)
        }
    }
}

//! The parts of an HTTP/2 frame (RFC 9113 section 4.1) that nodegate reads before the library does.

/// Bytes of the client's preface, before its first frame.
pub(super) const PREFACE_BYTES: usize = 24;
pub(super) const HEADER_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// A type without a meaning, so the library ignores the frame (section 5.5).
pub(super) const UNKNOWN: u8 = 0xfa;

/// Flags of a HEADERS frame.
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;
/// Bytes of the priority fields that the flag announces.
pub(super) const PRIORITY_BYTES: usize = 5;

/// Bytes of the payload.
pub(super) fn payload_bytes([high, middle, low, ..]: [u8; HEADER_BYTES]) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

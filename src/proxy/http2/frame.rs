//! The parts of an HTTP/2 frame (RFC 9113 section 4.1) that nodegate reads before the library does.

use h2::Reason;

/// Bytes of the client's preface, before its first frame.
pub(super) const PREFACE_BYTES: usize = 24;
pub(super) const HEADER_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY_FRAME: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// A type without a meaning, so the library ignores the frame (section 5.5).
pub(super) const UNKNOWN: u8 = 0xfa;

/// Flag of a SETTINGS frame.
const ACK: u8 = 0x01;
/// Bytes of one setting: an identifier and a value.
const SETTING_BYTES: usize = 6;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_WINDOW_SIZE: u32 = (1 << 31) - 1;

/// Flags of a HEADERS frame.
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;
/// Bytes of the priority fields that the flag announces.
pub(super) const PRIORITY_BYTES: usize = 5;

/// Bytes of the payload.
pub(super) fn payload_bytes([high, middle, low, ..]: [u8; HEADER_BYTES]) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

/// The connection error of a frame. The library reports each of these as a `PROTOCOL_ERROR`. `payload` holds the bytes
/// of it that have arrived.
pub(super) fn connection_error(header: [u8; HEADER_BYTES], payload: &[u8]) -> Option<Reason> {
    let [_, _, _, kind, flags, ..] = header;
    let length = payload_bytes(header);
    let is_wrong_size = match kind {
        PRIORITY_FRAME => length != PRIORITY_BYTES,
        RST_STREAM | WINDOW_UPDATE => length != 4,
        PING => length != 8,
        SETTINGS => !length.is_multiple_of(SETTING_BYTES) || flags & ACK != 0 && length != 0,
        PUSH_PROMISE => return Some(Reason::PROTOCOL_ERROR), // only servers send it (section 8.4)
        _ => false,
    };
    if is_wrong_size {
        return Some(Reason::FRAME_SIZE_ERROR);
    }
    let settings = payload.get(..length).filter(|_| kind == SETTINGS).unwrap_or_default();
    settings
        .as_chunks::<SETTING_BYTES>()
        .0
        .iter()
        .copied()
        .any(has_excessive_window)
        .then_some(Reason::FLOW_CONTROL_ERROR)
}

fn has_excessive_window([id_high, id_low, value @ ..]: [u8; SETTING_BYTES]) -> bool {
    u16::from_be_bytes([id_high, id_low]) == INITIAL_WINDOW_SIZE
        && u32::from_be_bytes(value) > MAX_WINDOW_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(kind: u8, flags: u8, payload: &[u8]) -> Option<Reason> {
        let length = u8::try_from(payload.len()).unwrap();
        connection_error([0, 0, length, kind, flags, 0, 0, 0, 1], payload)
    }

    #[test]
    fn sizes_and_windows_have_their_own_codes() {
        let size = Some(Reason::FRAME_SIZE_ERROR);
        for (kind, length) in [(PRIORITY_FRAME, 5), (RST_STREAM, 4), (WINDOW_UPDATE, 4), (PING, 8)] {
            assert_eq!(error_of(kind, 0, &vec![0; length]), None, "{kind}");
            for wrong in [0, length - 1, length + 1] {
                assert_eq!(error_of(kind, 0, &vec![0; wrong]), size, "{kind} with {wrong}");
            }
        }
        assert_eq!([error_of(SETTINGS, 0, &[0; 12]), error_of(SETTINGS, ACK, &[])], [None, None]);
        assert_eq!([error_of(SETTINGS, 0, &[0; 5]), error_of(SETTINGS, ACK, &[0; 6])], [size, size]);
        let window = |first: u8| error_of(SETTINGS, 0, &[0, 1, 0, 0, 0, 0, 0, 4, first, 0xff, 0xff, 0xff]);
        assert_eq!([window(0x7f), window(0x80)], [None, Some(Reason::FLOW_CONTROL_ERROR)]);
        assert_eq!(error_of(PUSH_PROMISE, 0, &[0; 8]), Some(Reason::PROTOCOL_ERROR));
        assert_eq!(
            [error_of(DATA, 0, &[]), error_of(HEADERS, 0, &[1]), error_of(UNKNOWN, 0, &[])],
            [None; 3]
        );
    }
}

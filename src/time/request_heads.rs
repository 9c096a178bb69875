//! Finds the heads of HTTP/1 requests in the bytes of a client, and percent-encodes bytes of a target that many clients
//! send as they are.
//!
//! The library that reads bodies reports their length. A second parser here could disagree with it. If the library does
//! not know the length in advance, later requests of the connection are not changed.

use memchr::{memchr, memchr_iter, memchr2};

/// Bytes of a target that are kept: enough for the format of an API call.
const KEPT_TARGET_BYTES: usize = 24;

/// Length of the body that follows the last head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyLength {
    Known(u64),
    Unknown,
    /// the head was not parsed as a whole
    NoRequest,
}

/// Position of the next byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HeadPosition {
    /// empty lines may precede a request
    Start,
    Method,
    Target,
    /// the rest of the request line
    Version,
    /// `blank`: the current line has no byte yet, or only `\r`
    Fields {
        blank: bool,
    },
    /// a whole head has been handed over
    Complete,
    Body(u64),
    Lost,
}

/// Follows the requests of one connection.
pub(crate) struct HeadTracker {
    place: HeadPosition,
    target: [u8; KEPT_TARGET_BYTES],
    kept: usize,
}

/// The bytes that the library may read now.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct HeadBytes {
    pub(crate) bytes: usize,
    /// the same bytes with an encoded target, if it was not encoded
    pub(crate) mended: Option<Vec<u8>>,
}

impl HeadTracker {
    pub(crate) fn new() -> Self {
        Self { place: HeadPosition::Start, target: [0; KEPT_TARGET_BYTES], kept: 0 }
    }

    /// The first bytes of the last target, not encoded.
    pub(crate) fn target(&self) -> &[u8] {
        self.target.get(..self.kept).unwrap_or_default()
    }

    /// Takes bytes up to the end of the current head or body. `length` returns the length of the body of the last head.
    pub(crate) fn take(&mut self, bytes: &[u8], length: impl FnOnce() -> BodyLength) -> HeadBytes {
        if self.place == HeadPosition::Complete {
            self.place = match length() {
                BodyLength::Known(0) => HeadPosition::Start,
                BodyLength::Known(length) => HeadPosition::Body(length),
                BodyLength::Unknown | BodyLength::NoRequest => HeadPosition::Lost,
            };
        }
        match self.place {
            HeadPosition::Lost => HeadBytes { bytes: bytes.len(), mended: None },
            HeadPosition::Body(left) => self.take_body(left, bytes.len()),
            HeadPosition::Start
            | HeadPosition::Method
            | HeadPosition::Target
            | HeadPosition::Version
            | HeadPosition::Fields { .. }
            | HeadPosition::Complete => self.take_head(bytes),
        }
    }

    fn take_body(&mut self, left: u64, there: usize) -> HeadBytes {
        let bytes = usize::try_from(left).map_or(there, |left| left.min(there));
        let left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.place = if left == 0 { HeadPosition::Start } else { HeadPosition::Body(left) };
        HeadBytes { bytes, mended: None }
    }

    fn take_head(&mut self, bytes: &[u8]) -> HeadBytes {
        let mut at = 0;
        let mut mended = None;
        if self.place == HeadPosition::Start {
            at = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
            if at < bytes.len() {
                self.place = HeadPosition::Method;
                self.kept = 0;
            }
        }
        if self.place == HeadPosition::Method {
            at += self.skip_to(rest(bytes, at), HeadPosition::Target);
        }
        if self.place == HeadPosition::Target {
            let length = self.skip_to(rest(bytes, at), HeadPosition::Version);
            let target = rest(bytes, at).get(..length).unwrap_or_default();
            self.keep(target);
            if target.iter().any(|byte| is_to_encode(*byte)) {
                let mut text = Vec::with_capacity(bytes.len() + 2 * length);
                text.extend_from_slice(bytes.get(..at).unwrap_or_default());
                for byte in target {
                    encode_into(&mut text, *byte);
                }
                mended = Some(text);
            }
            at += length;
        }
        let from = at;
        if self.place == HeadPosition::Version
            && let Some(end) = memchr(b'\n', rest(bytes, at))
        {
            at += end + 1;
            self.place = HeadPosition::Fields { blank: true };
        }
        if let HeadPosition::Fields { blank } = self.place {
            at += self.take_fields(rest(bytes, at), blank);
        } else {
            at = bytes.len();
        }
        if let Some(text) = &mut mended {
            text.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        }
        HeadBytes { bytes: at, mended }
    }

    /// The number of bytes before the space that starts `next`, or before the end of the line.
    fn skip_to(&mut self, bytes: &[u8], next: HeadPosition) -> usize {
        // The target begins after its space, so that an empty target ends at once.
        match memchr2(b' ', b'\n', bytes) {
            Some(end) if bytes.get(end) == Some(&b' ') => {
                self.place = next;
                if next == HeadPosition::Target { end + 1 } else { end }
            }
            Some(end) => {
                self.place = HeadPosition::Version;
                end
            }
            None => bytes.len(),
        }
    }

    fn keep(&mut self, target: &[u8]) {
        let room = self.target.get_mut(self.kept..).unwrap_or_default();
        let count = room.len().min(target.len());
        for (kept, byte) in room.iter_mut().zip(target) {
            *kept = *byte;
        }
        self.kept += count;
    }

    /// The number of bytes up to the end of the head.
    fn take_fields(&mut self, bytes: &[u8], blank: bool) -> usize {
        let mut line = 0;
        let mut blank = blank;
        for end in memchr_iter(b'\n', bytes) {
            let text = bytes.get(line..end).unwrap_or_default();
            if blank && matches!(text, b"" | b"\r") {
                self.place = HeadPosition::Complete;
                return end + 1;
            }
            (line, blank) = (end + 1, true);
        }
        let text = rest(bytes, line);
        self.place = HeadPosition::Fields { blank: blank && matches!(text, b"" | b"\r") };
        bytes.len()
    }
}

fn rest(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

/// Bytes that RFC 3986 forbids in a target and that the library rejects. Control characters are not encoded, so the
/// library rejects them.
fn is_to_encode(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

fn encode_into(text: &mut Vec<u8>, byte: u8) {
    if is_to_encode(byte) {
        text.extend_from_slice(percent_encoding::percent_encode_byte(byte).as_bytes());
    } else {
        text.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes handed over from `bytes` in pieces of `size`, and the end of each head or body.
    fn handed_over(bytes: &[u8], size: usize, lengths: &[BodyLength]) -> (Vec<u8>, Vec<usize>) {
        let mut heads = HeadTracker::new();
        let mut lengths = lengths.iter().copied();
        let (mut all, mut ends, mut at) = (Vec::new(), Vec::new(), 0);
        while at < bytes.len() {
            let piece = &bytes[at..bytes.len().min(at + size)];
            let taken = heads.take(piece, || lengths.next().unwrap_or(BodyLength::NoRequest));
            assert!(taken.bytes > 0, "at {at}");
            all.extend(taken.mended.unwrap_or_else(|| piece[..taken.bytes].to_vec()));
            at += taken.bytes;
            if heads.place == HeadPosition::Complete {
                ends.push(all.len());
            }
        }
        (all, ends)
    }

    #[test]
    fn targets_are_encoded_however_they_are_cut() {
        let cases: [(&[u8], &str); 6] = [
            (
                b"GET /a\"b<c>d`e?\"<>`\xff HTTP/1.1\r\nX: \"<\"\r\n\r\n",
                "GET /a%22b%3Cc%3Ed%60e?%22%3C%3E%60%FF HTTP/1.1\r\nX: \"<\"\r\n\r\n",
            ),
            ("\r\n\nGET /ü HTTP/1.1\n\n".as_bytes(), "\r\n\nGET /%C3%BC HTTP/1.1\n\n"),
            (b"GET  <a> HTTP/1.1\r\n\r\n", "GET  <a> HTTP/1.1\r\n\r\n"),
            (b"G<T /a\x01b\r\n<a b<\r\n\r\n", "G<T /a\x01b\r\n<a b<\r\n\r\n"),
            (b"<\r\nGET /<\r\n\r\n", "<\r\nGET /<\r\n\r\n"),
            (b"GET /a{b}|\\^[]# HTTP/1.1\r\n\r\n", "GET /a{b}|\\^[]# HTTP/1.1\r\n\r\n"),
        ];
        for (sent, mended) in cases {
            for size in 1..=sent.len() {
                let (all, ends) = handed_over(sent, size, &[]);
                assert_eq!(String::from_utf8_lossy(&all), mended, "{size}");
                assert_eq!(ends, [mended.len()], "{size}");
            }
        }
    }

    #[test]
    fn bodies_are_handed_over_as_they_are() {
        let sent = b"PUT /< HTTP/1.1\r\n\r\nGET /< x\n\nGET /> HTTP/1.1\r\n\r\nGET /` HTTP/1.1\r\n\r\n";
        let lengths = [BodyLength::Known(11), BodyLength::Known(0), BodyLength::Unknown];
        let mended = "PUT /%3C HTTP/1.1\r\n\r\nGET /< x\n\n\
                      GET /%3E HTTP/1.1\r\n\r\nGET /%60 HTTP/1.1\r\n\r\n";
        for size in 1..=sent.len() {
            let (all, ends) = handed_over(sent, size, &lengths);
            assert_eq!(String::from_utf8_lossy(&all), mended, "{size}");
            assert_eq!(ends, [21, 52, mended.len()], "{size}");
        }
    }

    #[test]
    fn unknown_body_lengths_stop_head_repair() {
        for length in [BodyLength::Unknown, BodyLength::NoRequest] {
            let sent = b"PUT /< HTTP/1.1\r\n\r\nGET /< HTTP/1.1\r\n\r\n";
            let (all, _) = handed_over(sent, 7, &[length]);
            assert_eq!(String::from_utf8_lossy(&all), "PUT /%3C HTTP/1.1\r\n\r\nGET /< HTTP/1.1\r\n\r\n");
        }
    }

    #[test]
    fn the_beginning_of_the_target_is_kept() {
        let mut heads = HeadTracker::new();
        for piece in [&b"GET /api2/js"[..], b"on/", b"nodes/node1/qemu/100 HTTP/1.1\r\n"] {
            heads.take(piece, || BodyLength::NoRequest);
        }
        assert_eq!(heads.target(), b"/api2/json/nodes/node1/q");
    }
}

//! The reason phrase of a response (RFC 9112 section 4). httparse drops a phrase that is not ASCII and rejects control
//! characters. Daemons put names of users and files into it.

use std::ops::Range;

use http::StatusCode;
use hyper::ext::ReasonPhrase;

/// Finds the phrase in a head that begins with a whole status line. Replaces its control characters by spaces, so that
/// httparse accepts the head.
pub(super) fn clean_phrase(head: &mut [u8]) -> Option<Range<usize>> {
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let line = head.get_mut(..end)?;
    let end = line.strip_suffix(b"\r").map_or(end, <[u8]>::len);
    let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let start = spaces.nth(1)? + 1;
    let phrase = line.get_mut(start..end)?;
    for byte in phrase {
        if byte.is_ascii_control() && *byte != b'\t' {
            *byte = b' ';
        }
    }
    Some(start..end)
}

/// The phrase if it is not the canonical one; it may be empty.
pub(super) fn own_phrase(phrase: Option<&[u8]>, status: StatusCode) -> Option<ReasonPhrase> {
    let phrase = phrase?.trim_ascii();
    let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == phrase);
    if is_usual { None } else { ReasonPhrase::try_from(phrase).ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn phrase_of(text: &[u8]) -> Option<Vec<u8>> {
        let mut head = text.to_vec();
        let range = clean_phrase(&mut head)?;
        let status = StatusCode::from_u16(500).unwrap();
        own_phrase(head.get(range), status).map(|phrase| phrase.as_bytes().to_vec())
    }

    #[test]
    fn a_phrase_is_kept_as_it_came() {
        for (line, expected) in [
            (
                &b"HTTP/1.1 500 no such user ('m\xc3\xbcller@pve')\r\n"[..],
                Some(&b"no such user ('m\xc3\xbcller@pve')"[..]),
            ),
            (b"HTTP/1.1 500 caf\xe9\n", Some(b"caf\xe9")),
            (b"HTTP/1.1 500  a\tb \r\n", Some(b"a\tb")),
            (b"HTTP/1.1 500 a\x00b\x1b[31m\rc\x7f\r\nX: y\r\n", Some(b"a b [31m c")),
            (b"HTTP/1.1 500 Internal Server Error\r\n", None),
            (b"HTTP/1.1 500 \r\n", Some(b"")),
            (b"HTTP/1.1 500\r\n", None),
            (b"HTTP/1.1 500 half a line", None),
        ] {
            assert_eq!(phrase_of(line).as_deref(), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}

//! Verifies that a text in pieces is UTF-8.

/// The longest character.
const MAX_CHARACTER_BYTES: usize = 4;

/// Follows one text. It keeps only the bytes of a character that a piece has cut.
#[derive(Debug, Default)]
pub(super) struct Utf8Validator {
    character: [u8; MAX_CHARACTER_BYTES],
    length: usize,
}

impl Utf8Validator {
    /// Whether the text is valid up to the end of this piece.
    pub(super) fn accept(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while self.length > 0 {
            let Some((byte, others)) = rest.split_first() else { return true };
            rest = others;
            if !self.extend_character(*byte) {
                return false;
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => true,
            // Without a length the error is a character that the next piece may complete.
            Err(error) if error.error_len().is_none() => rest
                .get(error.valid_up_to()..)
                .unwrap_or_default()
                .iter()
                .all(|byte| self.extend_character(*byte)),
            Err(_) => false,
        }
    }

    /// Whether the text ends within a character.
    pub(super) fn is_cut(&self) -> bool {
        self.length > 0
    }

    /// Adds a byte to the character. Returns whether it can still be one.
    fn extend_character(&mut self, byte: u8) -> bool {
        let Some(place) = self.character.get_mut(self.length) else { return false };
        *place = byte;
        self.length += 1;
        match std::str::from_utf8(self.character.get(..self.length).unwrap_or_default()) {
            Ok(_) => self.length = 0,
            Err(error) if error.error_len().is_some() => return false,
            Err(_) => (),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the bytes are a text, and whether they end within a character.
    fn verdict(bytes: &[u8], piece: usize) -> (bool, bool) {
        let mut validator = Utf8Validator::default();
        let valid = bytes.chunks(piece).all(|piece| validator.accept(piece));
        (valid, validator.is_cut())
    }

    #[test]
    fn texts_are_verified_in_any_pieces() {
        let cases: &[(&[u8], bool, bool)] = &[
            (b"", true, false),
            ("κόσμε, 日本, \u{10ffff}".as_bytes(), true, false),
            (b"abc\xe2\x82", true, true),
            (b"\xf4\x8f\xbf", true, true),
            (b"abc\xff", false, false),
            (b"\xed\xa0\x80", false, false),
            (b"\xf4\x90\x80\x80", false, false),
            (b"\xc0\xaf", false, false),
            (b"\x80", false, false),
            (b"\xe2\x82(", false, false),
        ];
        for (bytes, valid, cut) in cases {
            for piece in 1..=bytes.len().max(1) {
                let found = verdict(bytes, piece);
                assert_eq!(found.0, *valid, "{bytes:?} in pieces of {piece}");
                assert!(!valid || found.1 == *cut, "{bytes:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn impossible_characters_are_found_early() {
        let mut validator = Utf8Validator::default();
        assert!(validator.accept(b"\xf4"));
        assert!(!validator.accept(b"\x90"));
    }
}

//! Names and values of fields, byte by byte: whether the library accepts a byte, and what replaces it.

use crate::http::validate::is_token_byte;

/// Pseudo-headers of a request (RFC 9113 section 8.3.1, RFC 8441 section 4).
const PSEUDO_HEADERS: [&[u8]; 5] = [b":authority", b":method", b":scheme", b":path", b":protocol"];

/// The rule that verifies the value of a field.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum FieldName {
    #[default]
    Regular,
    Method,
    /// another pseudo-header; the library accepts only UTF-8
    Text,
}

impl FieldName {
    /// From the static table (RFC 7541 appendix A). The entries of the dynamic table are not known here.
    pub(super) fn from_index(index: usize) -> Self {
        match index {
            2 | 3 => Self::Method,
            1 | 4..=7 => Self::Text,
            _ => Self::Regular,
        }
    }
}

/// Verifies one name or value while its bytes arrive.
#[derive(Default)]
pub(super) struct TextCheck {
    rule: ValueRule,
    at: usize,
}

#[derive(Default)]
enum ValueRule {
    /// length in bytes, and the pseudo-header that it is or becomes
    Name(usize, Option<&'static [u8]>),
    #[default]
    Value,
    Method,
    Utf8(Utf8Sequence),
}

/// The rest of a UTF-8 sequence.
#[derive(Default)]
struct Utf8Sequence {
    /// continuation bytes that follow
    more: usize,
    /// the range of the next one
    least: u8,
    most: u8,
}

impl TextCheck {
    pub fn name(length: usize) -> Self {
        Self { rule: ValueRule::Name(length, None), at: 0 }
    }

    pub fn value(name: FieldName) -> Self {
        let rule = match name {
            FieldName::Regular => ValueRule::Value,
            FieldName::Method => ValueRule::Method,
            FieldName::Text => ValueRule::Utf8(Utf8Sequence::default()),
        };
        Self { rule, at: 0 }
    }

    /// The kind of the name that was read.
    pub(super) fn name_read(&self) -> FieldName {
        match self.rule {
            ValueRule::Name(_, Some(b":method")) => FieldName::Method,
            ValueRule::Name(_, Some(_)) => FieldName::Text,
            ValueRule::Name(_, None) | ValueRule::Value | ValueRule::Method | ValueRule::Utf8(..) => {
                FieldName::Regular
            }
        }
    }

    /// Replaces a rejected byte. `left` bytes follow it. Returns whether it replaced the byte.
    pub fn mend(&mut self, byte: &mut u8, left: usize) -> bool {
        let good = match &mut self.rule {
            ValueRule::Name(length, known) => name_byte(*byte, self.at, *length, known),
            ValueRule::Value if !is_of_value(*byte) => b'_',
            ValueRule::Method if !is_token_byte(*byte) => b'X',
            ValueRule::Value | ValueRule::Method => *byte,
            ValueRule::Utf8(sequence) => sequence.mend(*byte, left),
        };
        self.at += 1;
        let is_bad = *byte != good;
        *byte = good;
        is_bad
    }
}

/// A name that begins like a pseudo-header becomes one, because the library may have read its beginning.
fn name_byte(byte: u8, at: usize, length: usize, known: &mut Option<&'static [u8]>) -> u8 {
    let of_length = || PSEUDO_HEADERS.into_iter().filter(|name| name.len() == length);
    match (at, byte) {
        (0, b':') => {
            *known = of_length().next();
            if known.is_some() { byte } else { b'_' }
        }
        (1, _) if known.is_some() => {
            *known = of_length().find(|name| name.get(1) == Some(&byte)).or(*known);
            known.and_then(|name| name.get(1)).copied().unwrap_or(byte)
        }
        _ => match known {
            Some(name) => name.get(at).copied().unwrap_or(byte),
            None if is_token_byte(byte) && !byte.is_ascii_uppercase() => byte,
            None => b'_',
        },
    }
}

impl Utf8Sequence {
    /// Well-formed sequences of the Unicode standard, table 3-7. A sequence that has begun is completed.
    fn mend(&mut self, byte: u8, left: usize) -> u8 {
        if self.more > 0 {
            let good = if (self.least..=self.most).contains(&byte) { byte } else { self.least };
            *self = Self { more: self.more - 1, least: 0x80, most: 0xbf };
            return good;
        }
        let (more, least, most) = match byte {
            0..=0x7f => return byte,
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return b'_',
        };
        if more > left {
            return b'_';
        }
        *self = Self { more, least, most };
        byte
    }
}

/// RFC 9110 section 5.5.
fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

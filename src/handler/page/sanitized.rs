//! Values that are only text in every context of a page. Pure.
//!
//! The products' templates put their variables into JavaScript strings, attribute values, URLs and plain HTML without
//! escaping, and a template does not name the context. So a written value is harmless in all of them. It has no quotes,
//! no `<`, `>` or `&`, no `\` except in `\uXXXX`, no line end and no other control character.

use std::fmt::Write as _;

use crate::config::page::VariableKind;

/// Bytes of a word, token or number. A longer value counts as absent.
const MAX_WORD_BYTES: usize = 256;

/// The origin of a character, which decides on its escaping.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CharacterOrigin {
    /// written in the template, and not escaped
    Template,
    /// a word, a token, or text that was percent-encoded
    Encoded,
    /// any text: a user name
    User,
}

/// A value that fits its kind. `write_piece` escapes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SanitizedValue {
    text: String,
    origin: CharacterOrigin,
}

impl SanitizedValue {
    /// `None` if `raw` does not fit the kind.
    pub fn new(kind: VariableKind, raw: &str) -> Option<Self> {
        let checked = |fits: fn(u8) -> bool| {
            let good = !raw.is_empty() && raw.len() <= MAX_WORD_BYTES && raw.bytes().all(fits);
            good.then(|| raw.to_owned())
        };
        let text = match kind {
            VariableKind::Flag => Some(if is_true(raw) { "1" } else { "0" }.to_owned()),
            VariableKind::Number => checked(|byte| byte.is_ascii_digit()),
            VariableKind::Word => checked(is_word_byte),
            VariableKind::Token => checked(|byte| is_word_byte(byte) || b"/:=".contains(&byte)),
            VariableKind::User => Some(raw.to_owned()),
            VariableKind::Encoded => Some(percent_encoded(raw)),
        }?;
        let origin = match kind {
            VariableKind::User => CharacterOrigin::User,
            VariableKind::Flag
            | VariableKind::Number
            | VariableKind::Word
            | VariableKind::Token
            | VariableKind::Encoded => CharacterOrigin::Encoded,
        };
        Some(Self { text, origin })
    }

    /// A parameter with an empty value: defined, and not true.
    pub fn empty() -> Self {
        Self { text: String::new(), origin: CharacterOrigin::Encoded }
    }

    /// The text before it is escaped.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// The origin of its characters.
    pub fn origin(&self) -> CharacterOrigin {
        self.origin
    }

    /// Whether it counts as true in a template.
    pub fn is_true(&self) -> bool {
        is_true(&self.text)
    }
}

/// Whether templates treat a text as true.
pub fn is_true(text: &str) -> bool {
    !matches!(text, "" | "0")
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~+-".contains(&byte)
}

/// Writes a piece of a page.
///
/// Inside a JavaScript or JSON string the escapes give the exact value. In HTML a special character shows its escape.
pub fn write_piece(piece: &str, origin: CharacterOrigin, page: &mut String) {
    let harmless = match origin {
        CharacterOrigin::Template => return page.push_str(piece),
        CharacterOrigin::Encoded => |byte| is_word_byte(byte) || b"%/:=".contains(&byte),
        CharacterOrigin::User => |byte: u8| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte),
    };
    for character in piece.chars() {
        if u8::try_from(character).is_ok_and(harmless) {
            page.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(page, "\\u{unit:04x}");
        }
    }
}

/// Escapes text for HTML contents and attributes.
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn percent_encoded(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    for byte in raw.bytes() {
        if is_word_byte(byte) || b"%/=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: VariableKind, raw: &str) -> Option<String> {
        let value = SanitizedValue::new(kind, raw)?;
        let mut page = String::new();
        write_piece(value.raw(), value.origin(), &mut page);
        Some(page)
    }

    #[test]
    fn fitting_values_stay_unchanged() {
        let cases = [
            (VariableKind::Flag, "1", "1"),
            (VariableKind::Flag, "0", "0"),
            (VariableKind::Flag, "", "0"),
            (VariableKind::Flag, "on", "1"),
            (VariableKind::Number, "1735689600", "1735689600"),
            (VariableKind::Word, "zh_CN", "zh_CN"),
            (VariableKind::Word, "9.2.11~rc+1-2", "9.2.11~rc+1-2"),
            (VariableKind::Token, "6B024400:ab+/c=", "6B024400:ab+/c="),
            (VariableKind::Token, "/mobile", "/mobile"),
            (VariableKind::User, "root@pam", "root@pam"),
            (VariableKind::User, "a.b_c-d@x", "a.b_c-d@x"),
            (VariableKind::Encoded, "a%20b%0A", "a%20b%0A"),
            (VariableKind::Encoded, "TWFu+/8=", "TWFu+/8="),
        ];
        for (kind, raw, text) in cases {
            assert_eq!(written(kind, raw).as_deref(), Some(text), "{kind:?} {raw}");
        }
    }

    #[test]
    fn other_values_are_encoded_or_absent() {
        assert_eq!(written(VariableKind::User, "o'brien@ad").unwrap(), r"o\u0027brien@ad");
        assert_eq!(written(VariableKind::User, "a\\b%27@ad").unwrap(), r"a\u005cb\u002527@ad");
        assert_eq!(written(VariableKind::User, "ü\u{2028}😀").unwrap(), r"\u00fc\u2028\ud83d\ude00");
        assert_eq!(written(VariableKind::Encoded, "it's <b>\n").unwrap(), "it%27s%20%3Cb%3E%0A");
        assert_eq!(written(VariableKind::Encoded, "ü\u{2028}").unwrap(), "%C3%BC%E2%80%A8");
        for (kind, raw) in [
            (VariableKind::Word, "a b"),
            (VariableKind::Word, "a/b"),
            (VariableKind::Word, "a:b"),
            (VariableKind::Word, "a%27"),
            (VariableKind::Word, ""),
            (VariableKind::Number, "-1"),
            (VariableKind::Number, "1e3"),
            (VariableKind::Number, "٣"),
            (VariableKind::Token, "a b"),
            (VariableKind::Token, "ü"),
        ] {
            assert_eq!(written(kind, raw), None, "{kind:?} {raw}");
        }
        assert_eq!(written(VariableKind::Word, &"a".repeat(257)), None);
    }
}

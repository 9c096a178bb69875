//! Values that are nothing but text wherever they land in a page. Pure.
//!
//! The products' templates put their variables into JavaScript strings, attribute values, URLs and plain HTML without
//! escaping, and a template does not say which of them it is. So a value is made harmless in all of them at once: it
//! holds no quote of any kind, no `<`, `>`, `&`, `\` (but for `\uXXXX`), no line end and no other control character.

use std::fmt::Write as _;

use crate::config::page::Kind;

/// Longest word, token or number; more is as good as absent.
const LONGEST: usize = 256;

/// A value that can be written into a page as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inert(String);

impl Inert {
    /// `None` where `raw` does not fit the kind.
    pub fn new(kind: Kind, raw: &str) -> Option<Self> {
        let checked = |fits: fn(u8) -> bool| {
            let good = !raw.is_empty() && raw.len() <= LONGEST && raw.bytes().all(fits);
            good.then(|| raw.to_owned())
        };
        match kind {
            Kind::Flag => Some(if is_true(raw) { "1" } else { "0" }.to_owned()),
            Kind::Number => checked(|byte| byte.is_ascii_digit()),
            Kind::Word => checked(is_word),
            Kind::Token => checked(|byte| is_word(byte) || b"/:=".contains(&byte)),
            Kind::User => Some(as_javascript(raw)),
            Kind::Encoded => Some(percent_encoded(raw)),
        }
        .map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_true(&self) -> bool {
        is_true(&self.0)
    }
}

/// What templates take for true.
pub fn is_true(text: &str) -> bool {
    !matches!(text, "" | "0")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~+-".contains(&byte)
}

/// Exact inside a JavaScript or JSON string of any quotes; in HTML an odd name shows its escapes, and nothing worse.
fn as_javascript(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    for character in raw.chars() {
        if character.is_ascii_alphanumeric() || "@._-".contains(character) {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

fn percent_encoded(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    for byte in raw.bytes() {
        if is_word(byte) || b"%/=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KINDS: [Kind; 6] = [Kind::Flag, Kind::Number, Kind::Word, Kind::Token, Kind::User, Kind::Encoded];

    fn inert(kind: Kind, raw: &str) -> Option<String> {
        Inert::new(kind, raw).map(|value| value.as_str().to_owned())
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let cases = [
            (Kind::Flag, "1", "1"),
            (Kind::Flag, "0", "0"),
            (Kind::Flag, "", "0"),
            (Kind::Flag, "on", "1"),
            (Kind::Number, "1735689600", "1735689600"),
            (Kind::Word, "zh_CN", "zh_CN"),
            (Kind::Word, "9.2.11~rc+1-2", "9.2.11~rc+1-2"),
            (Kind::Token, "6B024400:ab+/c=", "6B024400:ab+/c="),
            (Kind::Token, "/mobile", "/mobile"),
            (Kind::User, "root@pam", "root@pam"),
            (Kind::User, "a.b_c-d@x", "a.b_c-d@x"),
            (Kind::Encoded, "a%20b%0A", "a%20b%0A"),
            (Kind::Encoded, "TWFu+/8=", "TWFu+/8="),
        ];
        for (kind, raw, text) in cases {
            assert_eq!(inert(kind, raw).as_deref(), Some(text), "{kind:?} {raw}");
        }
    }

    #[test]
    fn what_does_not_fit_is_encoded_or_absent() {
        assert_eq!(inert(Kind::User, "o'brien@ad").unwrap(), r"o\u0027brien@ad");
        assert_eq!(inert(Kind::User, "a\\b%27@ad").unwrap(), r"a\u005cb\u002527@ad");
        assert_eq!(inert(Kind::User, "ü\u{2028}😀").unwrap(), r"\u00fc\u2028\ud83d\ude00");
        assert_eq!(inert(Kind::Encoded, "it's <b>\n").unwrap(), "it%27s%20%3Cb%3E%0A");
        assert_eq!(inert(Kind::Encoded, "ü\u{2028}").unwrap(), "%C3%BC%E2%80%A8");
        for (kind, raw) in [
            (Kind::Word, "a b"),
            (Kind::Word, "a/b"),
            (Kind::Word, "a:b"),
            (Kind::Word, "a%27"),
            (Kind::Word, ""),
            (Kind::Number, "-1"),
            (Kind::Number, "1e3"),
            (Kind::Number, "٣"),
            (Kind::Token, "a b"),
            (Kind::Token, "ü"),
        ] {
            assert_eq!(inert(kind, raw), None, "{kind:?} {raw}");
        }
        assert_eq!(inert(Kind::Word, &"a".repeat(257)), None);
    }

    #[test]
    fn no_kind_lets_anything_through_that_means_something() {
        let attacks = [
            "'\"</script><svg onload=alert(1)>",
            "';alert(1)//",
            "\\';alert(1)//",
            "\\",
            "`${alert(1)}`",
            "\u{2028}alert(1)\u{2029}",
            "a\r\nb\nc",
            "&quot;&#39;&lt;",
            "%27%22%3C",
            "<!--<script>",
            "]]>",
            "\0\u{7f}\u{85}\u{feff}\u{202e}",
            "[% token %]",
        ];
        let one_of_each: String = (0..=255_u8).map(char::from).collect();
        for raw in attacks.iter().copied().chain([one_of_each.as_str()]) {
            for kind in KINDS {
                let Some(text) = inert(kind, raw) else { continue };
                let plain = text.replace("\\u", "");
                assert!(
                    plain.bytes().all(|byte| is_word(byte) || b"@%/:=".contains(&byte)),
                    "{kind:?} {raw:?}: {text}"
                );
            }
        }
    }
}

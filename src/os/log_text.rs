//! Texts of clients in log lines.

use std::borrow::Cow;

/// The beginning of a text that is longer than `limit` bytes, and the number of bytes that were cut:
/// `/path...<+7168>`. Neither a character nor an escape (`%41`) is split.
pub fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let longest_mark = format!("...<+{}>", text.len()).len();
    let mut end = text.floor_char_boundary(limit.saturating_sub(longest_mark));
    let escape = text.as_bytes().get(end.saturating_sub(2)..end).and_then(|last| memchr::memrchr(b'%', last));
    if let Some(at) = escape {
        end = end.saturating_sub(2) + at;
    }
    let kept = text.get(..end).unwrap_or_default();
    format!("{kept}...<+{}>", text.len() - kept.len()).into()
}

pub fn is_shortened(text: &str) -> bool {
    let mark = text.strip_suffix('>').and_then(|text| text.rsplit_once("...<+"));
    mark.is_some_and(|(_, count)| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_character_boundaries() {
        let cases = [
            ("0123456789", 10, "0123456789"),
            ("0123456789abcdef", 12, "0123...<+12>"),
            ("012%41789abcdefg", 12, "012...<+13>"),
            ("01%41789abcdefgh", 12, "01...<+14>"),
            ("0%41789abcdefghi", 12, "0%41...<+12>"),
            ("012\u{e9}6789abcdef", 12, "012...<+12>"),
            ("0123456789", 2, "...<+10>"),
        ];
        for (text, limit, shown) in cases {
            assert_eq!(shortened(text, limit), shown, "{text}");
            assert_eq!(is_shortened(shown), text != shown, "{shown}");
        }
    }
}

//! The request text of a line: secrets are masked before the text is cut.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::os::log_text::shortened;

/// The rules for a request's text in a line.
#[derive(Clone, Copy)]
pub(super) struct TextRules<'a> {
    /// bytes of the target
    pub limit: usize,
    /// query parameters whose values are masked
    pub masked: &'a [String],
}

/// Longer than the name of any method in use.
const MAX_METHOD_BYTES: usize = 32;

/// `METHOD TARGET HTTP/1.1`, masked and then cut.
pub fn shown<'r>(request: &'r str, rules: TextRules<'_>) -> Cow<'r, str> {
    cut(mask_secrets(request, rules.masked), rules.limit)
}

/// The same with quotes and control characters escaped; the limit counts the escapes.
pub(super) fn shown_escaped<'r>(request: &'r str, rules: TextRules<'_>) -> Cow<'r, str> {
    let masked = mask_secrets(request, rules.masked);
    if is_plain(&masked) { cut(masked, rules.limit) } else { cut(escaped(&masked).into(), rules.limit) }
}

pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte != b'"' && (b' '..0x7f).contains(&byte))
}

pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => line.push_str("%22"),
            c if c.is_control() => {
                let _ = write!(line, "%{:02X}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line
}

fn cut(request: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if request.len() <= limit.min(MAX_METHOD_BYTES) {
        return request;
    }
    let (method, rest) = request.split_once(' ').unwrap_or((&request, ""));
    let (target, version) = rest.rsplit_once(' ').unwrap_or((rest, ""));
    if method.len() <= MAX_METHOD_BYTES && target.len() <= limit {
        return request;
    }
    let (method, target) = (shortened(method, MAX_METHOD_BYTES), shortened(target, limit));
    [&method, " ", &target, " ", version].concat().into()
}

/// `…?port=5900&secret=***`.
fn mask_secrets<'r>(request: &'r str, secrets: &[String]) -> Cow<'r, str> {
    let Some((path, rest)) = request.split_once('?') else { return request.into() };
    let (query, version) = rest.rsplit_once(' ').unwrap_or((rest, ""));
    let mut masked = format!("{path}?");
    for parameter in query.split_inclusive(['&', ';']) {
        let separator = parameter.chars().next_back().filter(|c| matches!(c, '&' | ';'));
        let name = parameter.split(['=', '&', ';']).next().unwrap_or_default();
        let plain = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        if secrets.iter().any(|secret| *secret == plain) && parameter.contains('=') {
            let _ = write!(masked, "{name}=***");
            masked.extend(separator);
        } else {
            masked.push_str(parameter);
        }
    }
    if !version.is_empty() {
        let _ = write!(masked, " {version}");
    }
    masked.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Vec<String> {
        ["vncticket", "ticket", "password"].map(str::to_owned).to_vec()
    }

    fn shown(request: &str, limit: usize) -> String {
        super::shown(request, TextRules { limit, masked: &secrets() }).into_owned()
    }

    fn shown_escaped(request: &str, limit: usize) -> String {
        super::shown_escaped(request, TextRules { limit, masked: &secrets() }).into_owned()
    }

    #[test]
    fn secrets_in_the_query_are_masked() {
        let cases = [
            ("GET /x?port=5900&vncticket=VNC%3A HTTP/1.1", "GET /x?port=5900&vncticket=*** HTTP/1.1"),
            ("GET /x?ticket=a;password=b&c=d HTTP/1.1", "GET /x?ticket=***;password=***&c=d HTTP/1.1"),
            ("GET /x?%74icket=a HTTP/1.1", "GET /x?%74icket=*** HTTP/1.1"),
            ("GET /x?tickets=a&ticket HTTP/1.1", "GET /x?tickets=a&ticket HTTP/1.1"),
            ("GET /x HTTP/1.1", "GET /x HTTP/1.1"),
        ];
        for (request, masked) in cases {
            assert_eq!(mask_secrets(request, &secrets()), masked);
        }
    }

    #[test]
    fn a_long_target_is_cut_behind_its_mask() {
        let secret = "s".repeat(100);
        let request = format!("GET /x?ticket={secret}&y={} HTTP/1.1", "y".repeat(300));
        let text = shown(&request, 128);
        assert!(text.starts_with("GET /x?ticket=***&y=yyyy") && text.ends_with("> HTTP/1.1"), "{text}");
        assert_eq!(text.len(), 128 + "GET  HTTP/1.1".len());
        let request = format!("GET /x?{}ticket={secret} HTTP/1.1", "y".repeat(120));
        assert!(!shown(&request, 128).contains("ss"), "the secret lies around the cut");
    }

    #[test]
    fn escapes_count_and_stay_whole() {
        let request = format!("GET /{} HTTP/1.1", "\"".repeat(200));
        let text = shown_escaped(&request, 128);
        assert!(text.len() <= 128 + "GET  HTTP/1.1".len(), "{text}");
        assert!(text.starts_with("GET /%22%22") && text.contains("%22...<+"), "{text}");
        assert_eq!(shown_escaped("GET /a\"b\nc HTTP/1.1", 128), "GET /a%22b%0Ac HTTP/1.1");
    }

    #[test]
    fn a_method_is_cut_and_nothing_stays_nothing() {
        let text = shown(&format!("{} /x HTTP/1.1", "M".repeat(500)), 128);
        assert!(text.len() < 50 && text.ends_with("> /x HTTP/1.1"), "{text}");
        assert_eq!(shown("-", 128), "-");
    }
}

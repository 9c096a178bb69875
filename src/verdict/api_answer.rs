//! The forms of API answers that nodegate reads: a JSON object, and one whose text is escaped for HTML.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

/// Bytes of the longest entity, without `&` and `;`.
const MAX_ENTITY_BYTES: usize = 10;

/// An API answer that could be read.
#[derive(Debug)]
pub struct ApiAnswer(Map<String, Value>);

impl From<Map<String, Value>> for ApiAnswer {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl ApiAnswer {
    /// `None` for any other body. An answer that is escaped for HTML always has `success`, unlike a page that happens
    /// to be JSON.
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        if !is_html(headers) {
            return serde_json::from_slice(body).ok().map(Self);
        }
        let text = unescaped(std::str::from_utf8(body).ok()?);
        let members: Map<String, Value> = serde_json::from_str(&text).ok()?;
        members.contains_key("success").then_some(Self(members))
    }

    /// The status of the failure that the body reports, if it does. The HTTP status may be 200.
    pub fn failure(&self) -> Option<StatusCode> {
        let success = self.0.get("success")?;
        if *success == 1 || *success == true {
            return None;
        }
        let status = self.0.get("status").and_then(Value::as_u64);
        let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
        Some(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }

    /// A member, by the names that lead to it.
    pub fn member<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<&Value> {
        let mut names = path.into_iter();
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// The member `data`.
    pub fn data(&self) -> Option<&Value> {
        self.0.get("data")
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/html")
}

/// Decodes HTML entities. An unknown name stands for a letter, which decides nothing: it becomes U+FFFD.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        if let Some((name, rest)) = part.split_once(';').filter(|(name, _)| is_entity(name)) {
            plain.push(character(name));
            plain.push_str(rest);
        } else {
            plain.push('&');
            plain.push_str(part);
        }
    }
    plain
}

fn is_entity(name: &str) -> bool {
    let name = name.strip_prefix('#').unwrap_or(name);
    (1..=MAX_ENTITY_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn character(name: &str) -> char {
    let number = name.strip_prefix('#').map(|number| match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    });
    match (name, number) {
        ("quot", _) => '"',
        ("amp", _) => '&',
        ("lt", _) => '<',
        ("gt", _) => '>',
        ("apos", _) => '\'',
        (_, Some(Ok(code))) => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
        (_, Some(Err(_)) | None) => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::verdict) fn of_type(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    fn read(kind: &'static str, body: &str) -> Option<ApiAnswer> {
        ApiAnswer::read(&of_type(kind), body.as_bytes())
    }

    #[test]
    fn json_is_read_plain_and_behind_entities() {
        let escaped = "{&quot;data&quot;:{&quot;a&quot;:&quot;&#39;&#x41;&uuml;&amp;quot;&quot;},&quot;success&quot;:1}";
        let answer = read("text/html;charset=UTF-8", escaped).unwrap();
        assert_eq!(answer.member(["data", "a"]).unwrap(), "'A\u{fffd}&quot;");
        assert!(read("application/json;charset=UTF-8", "{\"data\":null}").is_some());
        assert!(ApiAnswer::read(&HeaderMap::new(), b"{}").is_some());
        for (kind, body) in [
            ("application/json", escaped),
            ("application/json", "[1]"),
            ("application/json", "{\"data\":1}x"),
            ("text/html", "{\"data\":null}"),
            ("text/html", "<html>"),
            ("TEXT/HTML ; charset=UTF-8", "{&quot;data&quot;:1}"),
            ("image/png", "\u{89}PNG"),
            ("application/json", ""),
        ] {
            assert!(read(kind, body).is_none(), "{kind} {body}");
        }
    }

    #[test]
    fn a_failure_has_its_status() {
        let failure = |body: &str| read("application/json", body).unwrap().failure().map(|it| it.as_u16());
        for body in ["{}", "{\"success\":1}", "{\"success\":true}", "{\"success\":1,\"status\":401}"] {
            assert_eq!(failure(body), None, "{body}");
        }
        for (body, status) in [
            ("{\"success\":0,\"status\":401}", 401),
            ("{\"success\":false}", 500),
            ("{\"success\":\"1\"}", 500),
            ("{\"success\":null,\"status\":\"401\"}", 500),
            ("{\"success\":2,\"status\":70000}", 500),
        ] {
            assert_eq!(failure(body), Some(status), "{body}");
        }
    }

    #[test]
    fn text_that_resembles_an_entity_stays() {
        for text in ["&", "&;", "& ;", "a&b", "&quot", "&averylongname;", "&#;"] {
            assert_eq!(unescaped(text), text);
        }
        assert_eq!(unescaped("&#x110000;&#65;&#xZ;"), "\u{fffd}A\u{fffd}");
    }
}

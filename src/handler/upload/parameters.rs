//! Header values with parameters: `multipart/form-data; boundary=x` or `form-data; name="a"; filename="b.iso"`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The first word of a header value and its parameters, names in lower case.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct HeaderParameters {
    pub(super) word: String,
    named: Vec<(String, String)>,
}

impl HeaderParameters {
    /// `None` for an open quote, a parameter without a value, or one that occurs twice. Two parsers could read such a
    /// value differently.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let text = text(value);
        let (word, mut rest) = text.split_once(';').unwrap_or((&text, ""));
        let mut named: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ';']);
            if rest.is_empty() {
                return Some(Self { word: word.trim().to_ascii_lowercase(), named });
            }
            let (name, behind) = rest.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let (value, behind) = value_at(behind.trim_start())?;
            if named.iter().any(|(known, _)| *known == name) {
                return None;
            }
            named.push((name, value));
            rest = behind;
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `NAME*=charset'language'percent-encoded` (RFC 8187), otherwise `NAME`.
    pub(super) fn extended(&self, name: &str) -> Option<Cow<'_, str>> {
        let Some(extended) = self.value(&format!("{name}*")) else { return self.value(name).map(Cow::from) };
        let mut parts = extended.splitn(3, '\'');
        let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes: Vec<u8> = percent_decode_str(encoded).collect();
        match charset.to_ascii_lowercase().as_str() {
            "utf-8" => String::from_utf8(bytes).ok().map(Cow::from),
            "iso-8859-1" => Some(Cow::from(latin(&bytes))),
            _ => None,
        }
    }
}

/// Browsers send UTF-8, some old clients send Latin-1.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::from(latin(bytes)), Cow::from)
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A parameter's value, and the text behind it.
fn value_at(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.trim_end().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            // Clients escape only these two. A Windows path has plain backslashes.
            '\\' if characters.as_str().starts_with(['"', '\\']) => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    let rest = characters.as_str().trim_start();
    (rest.is_empty() || rest.starts_with(';')).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_form_of_a_name_is_read() {
        let cases: &[(&[u8], Option<&str>, Option<&str>)] = &[
            (br#"form-data; name="filename"; filename="a.iso""#, Some("filename"), Some("a.iso")),
            (br#"form-data; filename="a.iso"; name="filename""#, Some("filename"), Some("a.iso")),
            (br"form-data; name=filename; filename=a.iso", Some("filename"), Some("a.iso")),
            (br#"Form-Data;NAME="filename";FileName="a b;c.iso""#, Some("filename"), Some("a b;c.iso")),
            (br#"form-data; filename="x; name=content"; name="f""#, Some("f"), Some("x; name=content")),
            (br#"form-data; name="f"; filename="a\"b\\c.iso""#, Some("f"), Some(r#"a"b\c.iso"#)),
            (br#"form-data; name="f"; filename="C:\tmp\a.iso""#, Some("f"), Some(r"C:\tmp\a.iso")),
            (br"form-data; name=f; filename*=UTF-8''na%C3%AFve.iso", Some("f"), Some("na\u{ef}ve.iso")),
            (br"form-data; name=f; filename*=utf-8''b; filename=a", Some("f"), Some("b")),
            (br"form-data; name=f; filename*=iso-8859-1'de'%E4", Some("f"), Some("\u{e4}")),
            (br"form-data; name=f; filename*=koi8-r''x; filename=a", Some("f"), None),
            (b"form-data; name=f; filename=\"\xe4.iso\"", Some("f"), Some("\u{e4}.iso")),
            ("form-data; name=f; filename=\"ü.iso\"".as_bytes(), Some("f"), Some("ü.iso")),
            (b"form-data", None, None),
        ];
        for (value, name, file) in cases {
            let parsed = HeaderParameters::parse(value).unwrap();
            assert_eq!(parsed.word, "form-data");
            assert_eq!(parsed.value("name"), *name, "{}", text(value));
            assert_eq!(parsed.extended("filename").as_deref(), *file, "{}", text(value));
        }
    }

    #[test]
    fn ambiguous_values_are_rejected() {
        for value in [
            &br#"form-data; name="a"#[..],
            br#"form-data; name="a"b; filename=x"#,
            br"form-data; name=a; name=b",
            br"form-data; name=a; NAME=b",
            br"form-data; name",
        ] {
            assert_eq!(HeaderParameters::parse(value), None, "{}", text(value));
        }
    }
}

//! A field that only nodegate may set: the daemon trusts each client that names a spool file. nodegate searches for
//! it in every call and every place from which daemons read fields.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde::de::IgnoredAny;

use crate::http::body_parameters::BodyKind;

/// The name of the field.
#[derive(Clone, Debug)]
pub struct ReservedField(String);

impl ReservedField {
    /// Compares names without regard to case.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name in the profile.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether a query or a form has the field. As in daemons, both separators count, and names are decoded once.
    pub fn is_in_form(&self, form: &[u8]) -> bool {
        form.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            let decoded: Vec<u8> = percent_decode(name).collect();
            self.is_name(&decoded)
        })
    }

    /// Whether a body has the field. If daemons do not take the content type, every way to read the body counts.
    pub fn is_in_body(&self, content_type: &[u8], body: &[u8]) -> bool {
        if body.is_empty() {
            return false;
        }
        match (BodyKind::from_content_type(content_type), self.in_json(body)) {
            (_, Some(true)) => true,
            (Some(BodyKind::Json), Some(false)) => false,
            // Another parser may accept this body.
            (Some(BodyKind::Json), None) => self.may_be_in(body),
            (Some(BodyKind::Form), _) => self.is_in_form(body),
            (None, json) => {
                let may_be_json = json.is_none() && body.contains(&b'{') && !body.starts_with(b"--");
                self.is_in_form(body) || self.is_in_parts(body) || may_be_json && self.may_be_in(body)
            }
        }
    }

    /// Whether a JSON object has the member. Daemons read no nested fields. `None` if the body is no object.
    #[expect(
        clippy::zero_sized_map_values,
        reason = "serde reads the names of an object as the keys of a map"
    )]
    fn in_json(&self, body: &[u8]) -> Option<bool> {
        let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).ok()?;
        Some(members.keys().any(|name| self.is_name(name.as_bytes())))
    }

    /// Whether a part of a multipart form may have that name. Daemons read multipart on the upload route only, and
    /// nodegate reads uploads itself.
    fn is_in_parts(&self, body: &[u8]) -> bool {
        let decoded: Vec<u8> = percent_decode(body).filter(|byte| !matches!(byte, b'\\' | b'"')).collect();
        decoded.to_ascii_lowercase().split(|byte| matches!(byte, b'\r' | b'\n')).any(|line| {
            let is_name = contains(line, b"name=") || contains(line, b"name*=");
            is_name && contains(line, self.0.to_ascii_lowercase().as_bytes())
        })
    }

    fn may_be_in(&self, body: &[u8]) -> bool {
        contains(&body.to_ascii_lowercase(), self.0.to_ascii_lowercase().as_bytes()) || contains(body, b"\\u")
    }

    fn is_name(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.0.as_bytes())
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    const PARTS: &str = "multipart/form-data; boundary=b";

    fn field() -> ReservedField {
        ReservedField::new("spoolfile")
    }

    #[test]
    fn the_field_is_found_in_every_spelling() {
        for form in [
            "spoolfile=x",
            "spoolfile",
            "spoolfile=",
            "a=1&spoolfile=x",
            "a=1;spoolfile=x",
            "a=1&&;;spoolfile=x&b",
            "%73poolfile=x",
            "s%70ool%46ile=x",
            "SpoolFile=x",
            "spoolfile=x&spoolfile=y",
        ] {
            assert!(field().is_in_form(form.as_bytes()), "{form}");
        }
        for form in [
            "",
            "a=spoolfile",
            "a=1=spoolfile",
            "a=%26spoolfile=x",
            "a=x%3Bspoolfile%3Dy",
            "xspoolfile=1",
            "spoolfiles=1",
            "%2573poolfile=x",
            "spool+file=x",
        ] {
            assert!(!field().is_in_form(form.as_bytes()), "{form}");
        }
    }

    #[test]
    fn a_body_has_the_field_in_every_type() {
        let deep = format!("{{\"a\":{}1{},\"spoolfile\":1}}", "[".repeat(600), "]".repeat(600));
        for (kind, body) in [
            (FORM, "a=1&spoolfile=x"),
            ("", "a=1&spoolfile=x"),
            ("APPLICATION/X-WWW-FORM-URLENCODED;charset=x", "spoolfil%65=x"),
            (JSON, r#"{"spoolfile":"x"}"#),
            (JSON, r#"{"a":1,"\u0073poolfile":["x"]}"#),
            (JSON, r#"{"spoolfile":1,"spoolfile":2}"#),
            ("application/json;charset=UTF-8", r#"{"SpoolFile":null}"#),
            (JSON, &deep),
            (JSON, r#"{"spoolfile":1,}"#),
            (JSON, r#"{"\u0073poolfile":1,}"#),
            (FORM, r#"{"spoolfile":1}"#),
            ("text/plain", r#"{"spoolfile":1}"#),
            ("text/plain", "spoolfile=x"),
            ("application/json, x", "spoolfile=x"),
            ("application/json, x", r#"{"spoolfile":1,}"#),
            ("text/plain", r#"{"spoolfile":1,}"#),
            ("text/plain", r#" {"\u0073poolfile":1,}"#),
            (PARTS, "--b\r\nContent-Disposition: form-data; name=\"spoolfile\"\r\n\r\nx\r\n--b--"),
            (PARTS, "--b\ncontent-disposition:form-data;name=spool\\file\n\nx\n--b--"),
            (PARTS, "--b\r\nContent-Disposition: form-data; name*=utf-8''%73poolfile\r\n\r\nx\r\n--b--"),
        ] {
            assert!(field().is_in_body(kind.as_bytes(), body.as_bytes()), "{kind} {body}");
        }
    }

    #[test]
    fn a_text_that_only_names_it_is_honest() {
        for (kind, body) in [
            (FORM, "note=spoolfile&b=the+spoolfile%3Dx"),
            (JSON, r#"{"note":"a&spoolfile=x","list":["spoolfile"]}"#),
            (JSON, r#"{"a":{"spoolfile":1}}"#),
            (JSON, r#"{"a":"\u00fc"}"#),
            (JSON, "{\"a\":"),
            (PARTS, "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nspoolfile\r\n--b--"),
            ("", ""),
        ] {
            assert!(!field().is_in_body(kind.as_bytes(), body.as_bytes()), "{kind} {body}");
        }
    }
}

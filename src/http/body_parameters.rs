//! Moves parameters from the body of a request to the query. The daemon reads no body of a DELETE, but many client
//! libraries send one.

use std::borrow::Cow;
use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use serde_json::{Map, Value};

use crate::http::target::query_parameters;

/// Limit of parameters, more than any call has.
const MAX_PARAMETERS: usize = 256;
/// Characters of a name that a message repeats.
const MAX_NAME_CHARS: usize = 40;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The reason why the parameters in a body cannot be moved.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParameterError {
    #[error("the body is not JSON: line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("the parameters in the body must be one JSON object")]
    NoObject,
    #[error(
        "the parameter '{name}' in the body is nested: a query holds texts, numbers, booleans and lists of them"
    )]
    Nested { name: String },
    #[error("too many parameters in the body (limit {limit})")]
    TooMany { limit: usize },
    #[error("the parameters in the body do not fit into the URL (limit {limit} bytes)")]
    TooLong { limit: usize },
}

/// The format of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    Form,
    Json,
}

impl BodyKind {
    /// By the value of `Content-Type`, which ends at `;` or `,` for the daemon; a form where there is none. `None`
    /// for what holds no parameters.
    pub fn from_content_type(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.split(|byte| matches!(byte, b';' | b',')).next().unwrap_or_default();
        match kind.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"application/x-www-form-urlencoded" => Some(Self::Form),
            b"application/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The query `own`, followed by the parameters of `body`.
pub fn into_query(own: &str, kind: BodyKind, body: &[u8]) -> Result<String, ParameterError> {
    let added = match kind {
        BodyKind::Form => of_form(body, own)?,
        BodyKind::Json => of_json(body, own)?,
    };
    let separator = if own.is_empty() || added.is_empty() { "" } else { "&" };
    Ok([own, separator, &added].concat())
}

/// The parameters that are added to a query. If the query already has a parameter, only that one counts, as with other
/// methods.
struct AddedParameters<'q> {
    own: HashSet<Cow<'q, str>>,
    text: String,
    count: usize,
}

impl<'q> AddedParameters<'q> {
    fn to(query: &'q str) -> Self {
        let own = query_parameters(query).map(|(name, _)| name).collect();
        Self { own, text: String::new(), count: 0 }
    }

    fn push(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<(), ParameterError> {
        self.count += 1;
        if self.count > MAX_PARAMETERS {
            return Err(ParameterError::TooMany { limit: MAX_PARAMETERS });
        }
        if self.own.contains(&String::from_utf8_lossy(name)) {
            return Ok(());
        }
        if !self.text.is_empty() {
            self.text.push('&');
        }
        self.text.extend(percent_encode(name, UNRESERVED));
        if let Some(value) = value {
            self.text.push('=');
            self.text.extend(percent_encode(value, UNRESERVED));
        }
        Ok(())
    }
}

/// Splits a form like the daemon.
fn of_form(body: &[u8], own: &str) -> Result<String, ParameterError> {
    let mut added = AddedParameters::to(own);
    for pair in body.split(|byte| matches!(byte, b'&' | b';')).filter(|pair| !pair.is_empty()) {
        let mut parts = pair.splitn(2, |byte| *byte == b'=').map(decoded);
        let name = parts.next().unwrap_or_default();
        added.push(&name, parts.next().as_deref())?;
    }
    Ok(added.text)
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

/// A list becomes a repeated parameter, and `null` a parameter without a value.
fn of_json(body: &[u8], own: &str) -> Result<String, ParameterError> {
    let parsed = serde_json::from_slice(body)
        .map_err(|error| ParameterError::Json { line: error.line(), column: error.column() })?;
    let fields = match parsed {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(ParameterError::NoObject);
        }
    };
    let mut added = AddedParameters::to(own);
    for (name, value) in &fields {
        let nested = || ParameterError::Nested { name: name.chars().take(MAX_NAME_CHARS).collect() };
        if let Value::Array(values) = value {
            for value in values {
                added.push(name.as_bytes(), scalar(value).ok_or_else(nested)?.as_deref())?;
            }
        } else {
            added.push(name.as_bytes(), scalar(value).ok_or_else(nested)?.as_deref())?;
        }
    }
    Ok(added.text)
}

/// A scalar as the daemon reads it in a JSON body; `None` for any other value, `Some(None)` for `null`.
#[expect(clippy::option_option, reason = "a scalar without a value is one")]
fn scalar(value: &Value) -> Option<Option<Cow<'_, [u8]>>> {
    match value {
        Value::Null => Some(None),
        Value::Bool(value) => Some(Some(Cow::Borrowed(if *value { b"1" } else { b"0" }))),
        Value::Number(number) => Some(Some(number.to_string().into_bytes().into())),
        Value::String(text) => Some(Some(text.as_bytes().into())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_ends_where_the_daemon_ends_it() {
        for (kind, read) in [
            ("application/json, x", Some(BodyKind::Json)),
            ("Application/JSON ;charset=UTF-8,x", Some(BodyKind::Json)),
            ("application/x-www-form-urlencoded,application/json", Some(BodyKind::Form)),
            (",application/json", Some(BodyKind::Form)),
            ("text/plain, application/json", None),
        ] {
            assert_eq!(BodyKind::from_content_type(kind.as_bytes()), read, "{kind}");
        }
    }

    #[test]
    fn a_form_becomes_a_query() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"purge=1&skiplock=0", "", "purge=1&skiplock=0"),
            (b"a=1;b=2&&c", "", "a=1&b=2&c"),
            (b"a=x+y%2Bz%26&b=", "", "a=x%20y%2Bz%26&b="),
            (b"a=1&a=2", "", "a=1&a=2"),
            (b"a=1&b=2", "a=3", "b=2"),
            (b"%61=1&b=2", "x;a", "b=2"),
            (b"a=\xff\r\n#<", "", "a=%FF%0D%0A%23%3C"),
            (b"&;", "", ""),
        ];
        for (body, own, added) in cases {
            assert_eq!(of_form(body, own).unwrap(), added);
        }
    }

    #[test]
    fn json_becomes_a_query() {
        let cases = [
            (r#"{"purge":true,"force":false,"vmid":100,"x":1.5}"#, "", "force=0&purge=1&vmid=100&x=1.5"),
            (r#"{"a":["b","c d",3],"e":[]}"#, "", "a=b&a=c%20d&a=3"),
            (r#"{"a":null,"ü":"&="}"#, "", "%C3%BC=%26%3D&a"),
            (r#"{"a":["b","c"],"d":1}"#, "a=z", "d=1"),
            ("{}", "a=z", ""),
            (" null ", "", ""),
        ];
        for (body, own, added) in cases {
            let mut seen: Vec<_> =
                of_json(body.as_bytes(), own).unwrap().split('&').map(str::to_owned).collect();
            seen.sort_by_key(|pair| pair.split('=').next().unwrap_or_default().to_owned());
            assert_eq!(seen.join("&"), added, "{body}");
        }
    }

    #[test]
    fn what_a_query_cannot_hold_is_named() {
        let nested = |name: &str| ParameterError::Nested { name: name.to_owned() };
        let cases = [
            (r#"{"a":{"b":1}}"#, nested("a")),
            (r#"{"a":1,"b":[[1]]}"#, nested("b")),
            (r#"{"a":[{}]}"#, nested("a")),
            ("[1]", ParameterError::NoObject),
            ("\"a\"", ParameterError::NoObject),
            ("{\n\"a\":", ParameterError::Json { line: 2, column: 4 }),
        ];
        for (body, error) in cases {
            assert_eq!(of_json(body.as_bytes(), ""), Err(error), "{body}");
        }
        let many = |count: usize| "a=1&".repeat(count);
        assert!(of_form(many(256).as_bytes(), "").is_ok());
        assert_eq!(of_form(many(257).as_bytes(), ""), Err(ParameterError::TooMany { limit: 256 }));
        let list = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(256));
        assert_eq!(of_json(list.as_bytes(), ""), Err(ParameterError::TooMany { limit: 256 }));
    }
}

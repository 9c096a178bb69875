//! The field that only nodegate may set is found wherever another reader finds it.
//!
//! An input is a line with the content type, then the body.

use std::sync::LazyLock;

use nodegate::testing::http::ReservedField;
use serde_json::Value;

const NAME: &str = "tmpfilename";

static FIELD: LazyLock<ReservedField> = LazyLock::new(|| ReservedField::new(NAME));

pub(crate) fn reserved_field(bytes: &[u8]) {
    let Some(line_end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (content_type, body) = (&bytes[..line_end], &bytes[line_end + 1..]);
    let found = FIELD.is_in_body(content_type, body);
    let is_json = is_type(content_type, "application/json");
    if object_has_it(body) || !is_json && (form_has_it(body) || part_has_it(body) && is_parts(content_type)) {
        assert!(found, "the field is overlooked");
    }
    let may_be_escaped = body.iter().any(|byte| b"%\\\"".contains(byte));
    if !may_be_escaped && !body.to_ascii_lowercase().windows(NAME.len()).any(|it| it == NAME.as_bytes()) {
        assert!(!found, "a field that is not there is found");
    }
}

fn is_type(content_type: &[u8], expected: &str) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split([';', ',']).next().unwrap().trim_ascii() == expected
}

fn is_parts(content_type: &[u8]) -> bool {
    is_type(content_type, "multipart/form-data")
}

/// Members of an object, also where it repeats them.
fn object_has_it(body: &[u8]) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return false };
    members.keys().any(|name| name.eq_ignore_ascii_case(NAME))
}

/// Pairs as the URL standard reads them, with both separators.
fn form_has_it(body: &[u8]) -> bool {
    let pairs: Vec<u8> = body.iter().map(|byte| if *byte == b';' { b'&' } else { *byte }).collect();
    form_urlencoded::parse(&pairs).any(|(name, _)| name.eq_ignore_ascii_case(NAME))
}

/// Lines that name a part, with a plain name.
fn part_has_it(body: &[u8]) -> bool {
    let name = format!("; name=\"{NAME}\"");
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    text.split(['\r', '\n']).any(|line| line.starts_with("content-disposition:") && line.contains(&name))
}

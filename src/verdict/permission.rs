//! The answer to a call for the permissions of a user.

use http::StatusCode;
use serde_json::Value;

use super::AnswerView;
use super::api_answer::ApiAnswer;

/// Whether the answer grants `privilege` on `object`. The value only says whether objects below inherit the privilege, so
/// its presence counts.
pub fn is_granted(answer: &AnswerView<'_>, object: &str, privilege: &str) -> bool {
    let read = answer.body.filter(|_| answer.status == StatusCode::OK);
    read.and_then(|body| ApiAnswer::read(answer.headers, body)).is_some_and(|read| {
        let granted = read.member(["data", object, privilege]).map(Value::to_string);
        read.failure().is_none() && matches!(granted.as_deref(), Some("0" | "1" | "\"0\"" | "\"1\""))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_privilege_is_granted_where_it_is_named() {
        let granted = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let view = AnswerView { status, headers: &HeaderMap::new(), body: Some(body.as_bytes()) };
            is_granted(&view, "/s/a.b", "Write")
        };
        for value in ["0", "1", "\"0\"", "\"1\""] {
            assert!(granted(200, &format!(r#"{{"data":{{"/s/a.b":{{"Write":{value}}}}}}}"#)), "{value}");
        }
        for (status, body) in [
            (200, r#"{"data":{"/s/a.b":{"Write":null}}}"#),
            (200, r#"{"data":{"/s/a.b":{"Write":2}}}"#),
            (200, r#"{"data":{"/s/a.b":{"Read":1}}}"#),
            (200, r#"{"data":{"/s/a":{"b":{"Write":1}}}}"#),
            (200, r#"{"success":0,"data":{"/s/a.b":{"Write":1}}}"#),
            (200, "[1]"),
            (200, ""),
            (203, r#"{"data":{"/s/a.b":{"Write":1}}}"#),
            (403, r#"{"data":{"/s/a.b":{"Write":1}}}"#),
        ] {
            assert!(!granted(status, body), "{status} {body}");
        }
    }
}

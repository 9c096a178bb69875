//! The body of an answer for the comparison: a value if it has a structure, otherwise length and digest.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use openssl::sha::Sha256;
use serde_json::Value;

use crate::verdict::api_answer::ApiAnswer;

/// Longer bodies are compared by length and digest, of any type.
const MAX_STRUCTURED_BYTES: usize = 16 << 20;
/// Bytes of a digest that are shown.
const DIGEST_BYTES: usize = 6;
/// Bytes kept of a body that is compared by its digest.
const START_BYTES: usize = 4096;

#[derive(Debug)]
pub(in crate::cli) enum ComparedBody {
    Json(Value),
    /// the text of a page
    Html(String),
    Opaque {
        length: u64,
        digest: [u8; 32],
        /// the first bytes
        start: Vec<u8>,
    },
}

/// The type of a body, from its head.
#[derive(Clone, Copy, Eq, PartialEq)]
enum ComparedKind {
    Json,
    Html,
    Other,
}

/// Takes a body piece by piece.
pub(crate) struct BodyReader {
    kind: ComparedKind,
    /// the body so far; cut once it is too long to be read
    held: Vec<u8>,
    digest: Sha256,
    length: u64,
}

impl BodyReader {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let kind = match essence.as_str() {
            _ if headers.contains_key(CONTENT_ENCODING) => ComparedKind::Other,
            "application/json" => ComparedKind::Json,
            "text/html" => ComparedKind::Html,
            _ => ComparedKind::Other,
        };
        Self { kind, held: Vec::new(), digest: Sha256::new(), length: 0 }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.kind != ComparedKind::Other || self.held.len() < START_BYTES {
            self.held.extend_from_slice(bytes);
        }
        if self.kind != ComparedKind::Other && self.held.len() > MAX_STRUCTURED_BYTES {
            self.kind = ComparedKind::Other;
            self.held.truncate(START_BYTES);
            self.held.shrink_to_fit();
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(in crate::cli) fn finish(self) -> ComparedBody {
        let Self { kind, held, digest, length } = self;
        match kind {
            ComparedKind::Json if let Ok(value) = serde_json::from_slice(&held) => {
                return ComparedBody::Json(value);
            }
            ComparedKind::Html if let Ok(text) = std::str::from_utf8(&held) => {
                return ComparedBody::Html(text.to_owned());
            }
            ComparedKind::Json | ComparedKind::Html | ComparedKind::Other => (),
        }
        let mut start = held;
        start.truncate(START_BYTES);
        ComparedBody::Opaque { length, digest: digest.finish(), start }
    }
}

impl ComparedBody {
    /// Whether the body reports a failure. The HTTP status may be 200.
    pub(crate) fn tells_of_failure(&self) -> bool {
        match self {
            Self::Json(Value::Object(members)) => ApiAnswer::from(members.clone()).failure().is_some(),
            Self::Json(_) | Self::Html(_) | Self::Opaque { .. } => false,
        }
    }

    /// The text for a body that is compared by its digest.
    pub(in crate::cli) fn summary(&self) -> String {
        match self {
            Self::Json(_) => "JSON".to_owned(),
            Self::Html(_) => "a page".to_owned(),
            Self::Opaque { length, digest, start: _ } => {
                let digest: String = digest
                    .iter()
                    .take(DIGEST_BYTES)
                    .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
                format!("{length} bytes, sha256 {digest}…")
            }
        }
    }

    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_report_a_failure() {
        let fails = |kind: &str, body: &str| read(kind, body.as_bytes()).tells_of_failure();
        assert!(fails("application/json", r#"{"success":0,"status":401,"data":null}"#));
        for (kind, body) in [
            ("application/json", r#"{"success":1,"data":null}"#),
            ("application/json", r#"{"data":{"success":0}}"#),
            ("application/json", "[0]"),
            ("text/html", "<p>success</p>"),
            ("image/png", r#"{"success":0}"#),
        ] {
            assert!(!fails(kind, body), "{body}");
        }
    }

    fn read(kind: &str, body: &[u8]) -> ComparedBody {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        let mut reader = BodyReader::new(&headers);
        for piece in body.chunks(4096) {
            reader.add(piece);
        }
        reader.finish()
    }

    #[test]
    fn a_body_is_read_by_its_type() {
        assert!(matches!(read("application/json;charset=UTF-8", b"{\"a\":1}"), ComparedBody::Json(_)));
        assert!(matches!(read("Text/HTML; charset=UTF-8", b"<p>"), ComparedBody::Html(_)));
        assert!(read("application/json", b"{\"a\":").is_opaque(), "what is malformed has no structure");
        assert!(read("text/html", b"\xff").is_opaque());
        assert!(read("application/json", &vec![b' '; MAX_STRUCTURED_BYTES + 1]).is_opaque());
        assert_eq!(read("application/octet-stream", b"hello").summary(), "5 bytes, sha256 2cf24dba5fb0…");
    }
}

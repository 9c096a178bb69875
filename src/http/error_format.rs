//! The body that reports a failure to the client.

use http::StatusCode;
use serde_json::{Value, json};

pub use crate::config::grammar::ErrorFormat;

const JSON: &str = "application/json;charset=UTF-8";
const TEXT: &str = "text/plain;charset=UTF-8";

/// A failure in the form that its client reads.
pub struct ErrorBody {
    pub content_type: &'static str,
    pub text: String,
}

impl ErrorFormat {
    pub fn failure(self, status: StatusCode, message: &str) -> ErrorBody {
        let json = |body: Value| ErrorBody { content_type: JSON, text: body.to_string() };
        match self {
            Self::Text => ErrorBody { content_type: TEXT, text: format!("{message}\n") },
            Self::Json => json(json!({ "data": null, "message": message })),
            Self::StatusInBody => {
                json(json!({ "data": null, "success": 0, "status": status.as_u16(), "message": message }))
            }
        }
    }
}

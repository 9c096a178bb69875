//! The body that reports a failure to the client.

use http::StatusCode;
use serde_json::json;

pub use crate::config::grammar::ErrorFormat;

const JSON: &str = "application/json;charset=UTF-8";

impl ErrorFormat {
    /// The content type and the body.
    pub fn failure(self, status: StatusCode, message: &str) -> (&'static str, String) {
        match self {
            Self::Text => ("text/plain;charset=UTF-8", format!("{message}\n")),
            Self::Json => (JSON, json!({ "data": null, "message": message }).to_string()),
            Self::StatusInBody => {
                let body =
                    json!({ "data": null, "success": 0, "status": status.as_u16(), "message": message });
                (JSON, body.to_string())
            }
        }
    }
}

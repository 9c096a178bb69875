//! The form in which a client is told of a failure.

use http::StatusCode;
use serde_json::json;

const JSON: &str = "application/json;charset=UTF-8";

/// In which form the client expects to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorFormat {
    /// pages and files
    Text,
    /// `{"data":null,"message":…}`
    Json,
    /// always 200, with `success` and `status` in the body
    ExtJs,
}

impl ErrorFormat {
    /// By the raw path, so that it is known even where the path cannot be read.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/api2/").map(|rest| rest.split('/').next().unwrap_or_default()) {
            Some("json") => Self::Json,
            Some("extjs") => Self::ExtJs,
            Some(_) | None => Self::Text,
        }
    }

    /// The type and the text of a body that tells of a failure.
    pub fn failure(self, status: StatusCode, message: &str) -> (&'static str, String) {
        match self {
            Self::Text => ("text/plain;charset=UTF-8", format!("{message}\n")),
            Self::Json => (JSON, json!({ "data": null, "message": message }).to_string()),
            Self::ExtJs => {
                let told =
                    json!({ "data": null, "success": 0, "status": status.as_u16(), "message": message });
                (JSON, told.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_format() {
        assert_eq!(ErrorFormat::of("/api2/json/x"), ErrorFormat::Json);
        assert_eq!(ErrorFormat::of("/api2/extjs"), ErrorFormat::ExtJs);
        assert_eq!(ErrorFormat::of("/api2/html/x"), ErrorFormat::Text);
        assert_eq!(ErrorFormat::of("/x"), ErrorFormat::Text);
    }
}

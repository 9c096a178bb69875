//! The bounds of a request.

use http::StatusCode;

use crate::metrics::labels::LimitLabel;

/// A request exceeds a bound of the settings.
#[derive(Debug, thiserror::Error)]
pub enum BoundExceeded {
    #[error("for data too large: the body may have {limit} bytes")]
    Body { limit: usize },
    #[error("http header too large: {what} (limit {limit})")]
    Head { what: &'static str, limit: usize },
    #[error("URL too long: path and query may have {limit} bytes")]
    Uri { limit: usize },
    #[error("the body did not arrive within {seconds} s{}", rate_text(*.rate))]
    BodyTime { seconds: u64, rate: u64 },
}

fn rate_text(rate: u64) -> String {
    if rate == 0 { String::new() } else { format!(", or with less than {rate} bytes a second") }
}

impl BoundExceeded {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Body { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Head { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Uri { .. } => StatusCode::URI_TOO_LONG,
            Self::BodyTime { .. } => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The label in the metrics.
    pub fn label(&self) -> LimitLabel {
        match self {
            Self::Body { .. } => LimitLabel::Body,
            Self::Head { .. } => LimitLabel::Head,
            Self::Uri { .. } => LimitLabel::Url,
            Self::BodyTime { .. } => LimitLabel::BodyTime,
        }
    }
}

//! The reasons why an upload fails, and the answers to them.

use std::io;

use http::StatusCode;

use crate::http::error::{HandlerError, ResponseError};
use crate::limits::LimitExceeded;

/// The reason why an upload fails.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("an upload must be multipart/form-data with a boundary")]
    NotMultipart,
    #[error("the form {0}")]
    Form(String),
    #[error("an upload is not answered in the format '{0}'")]
    Format(String),
    #[error("parameter '{0}' is set only by the server")]
    Reserved(String),
    #[error("Permission check failed ({path}, {privilege})")]
    Denied { path: String, privilege: String },
    #[error("the daemon did not return the permissions: {reason}")]
    PermissionsUnknown { status: StatusCode, reason: String },
    #[error("upload too large: {limit} bytes are allowed")]
    TooLarge { limit: u64 },
    #[error("not enough space for the upload: {free} bytes are free{}", wanted_text(*.wanted))]
    NoSpace { wanted: Option<u64>, free: u64 },
    #[error("the upload stopped: no byte arrived for {0} s")]
    Stalled(u64),
    #[error("the upload is too slow: fewer than {0} bytes a second arrived")]
    Slow(u64),
    #[error("the upload ended early")]
    Broken,
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    #[error("the upload cannot be stored: {0}")]
    Spool(#[source] io::Error),
}

fn wanted_text(wanted: Option<u64>) -> String {
    wanted.map_or_else(String::new, |wanted| format!(", {wanted} are needed"))
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { wanted: None, free: 0 }
        } else {
            Self::Spool(error)
        }
    }
}

impl UploadError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotMultipart | Self::Form(_) | Self::Reserved(_) | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Format(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::PermissionsUnknown { status, .. } => *status,
            // A client that announced the length gets the error before it sends the body.
            Self::TooLarge { .. } | Self::NoSpace { wanted: Some(_), .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSpace { wanted: None, .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Stalled(_) | Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Limit(exceeded) => exceeded.status(),
            Self::Spool(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<UploadError> for ResponseError {
    fn from(error: UploadError) -> Self {
        if let UploadError::Limit(exceeded) = error {
            return Self::LimitExceeded(exceeded);
        }
        let is_after_upstream = matches!(error, UploadError::PermissionsUnknown { .. });
        HandlerError { is_after_upstream, ..HandlerError::new(error.status(), error) }.into()
    }
}

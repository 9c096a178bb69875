//! The reasons why a credential is refused, and the answers that clients get.

use http::StatusCode;

use crate::auth::fetch_site::ForeignPage;
use crate::auth::ticket::TicketError;
use crate::fs::cached_file::FileError;
use crate::http::error::{HandlerError, ResponseError};

/// The reason why a request is not authenticated. The variants with a ticket name a cause for the log that the
/// client does not get.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("No ticket")]
    NoCredential,
    #[error("ticket refused: {0}")]
    Ticket(#[from] TicketError),
    #[error("ticket refused again: {0}")]
    SameTicket(TicketError),
    #[error("ticket not verified: its client is over the limit of failed logins")]
    Unverified,
    #[error("the API token has no valid form")]
    ApiToken,
    #[error("Permission denied - invalid csrf token")]
    Csrf,
    #[error(transparent)]
    ForeignPage(#[from] ForeignPage),
    #[error("cannot verify tickets: {0}")]
    KeyFile(#[from] FileError),
}

impl From<AuthError> for ResponseError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NoCredential => Self::NoCredential,
            AuthError::KeyFile(_) => {
                Self::Internal("cannot verify tickets: a key file cannot be read".to_owned())
            }
            AuthError::ForeignPage(_) => HandlerError::new(StatusCode::FORBIDDEN, error).into(),
            AuthError::Ticket(_)
            | AuthError::SameTicket(_)
            | AuthError::Unverified
            | AuthError::ApiToken
            | AuthError::Csrf => HandlerError::new(StatusCode::UNAUTHORIZED, error).into(),
        }
    }
}

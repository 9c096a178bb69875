//! Verdicts on the answers of daemons that nodegate acts on. An answer shows success in a form that nodegate reads, or it
//! counts as a failure: an unknown format must never be a way around a limit.

pub mod api_answer;
pub mod console;
pub mod login;
pub mod permission;
pub mod shown;
pub mod token;
pub mod upload;

use http::{HeaderMap, StatusCode};

/// A daemon's answer, as far as nodegate has read it.
#[derive(Clone, Copy)]
pub struct AnswerView<'a> {
    /// of the answer
    pub status: StatusCode,
    /// of the answer
    pub headers: &'a HeaderMap,
    /// `None` for a body that is not held as a whole
    pub body: Option<&'a [u8]>,
}

/// The verdict of an answer on the credential of its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialVerdict {
    /// the daemon accepted the credential
    Accepted,
    /// the daemon rejected the credential
    Refused,
    /// neither; it counts as a failure
    Unclear,
}

impl AnswerView<'_> {
    fn is_redirect_or_success(&self) -> bool {
        self.status.is_success() || self.status.is_redirection()
    }
}

//! What daemons' answers say, where nodegate acts on them. An answer shows success in a form that is read here, or it
//! counts as a failure: a format that nodegate does not know must never be a way around a limit.

pub mod api_answer;
pub mod console;
pub mod login;
pub mod permission;
pub mod shown;
pub mod token;
pub mod upload;

use http::{HeaderMap, StatusCode};

/// A daemon's answer, as far as it was read.
#[derive(Clone, Copy)]
pub struct AnswerView<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    /// `None` for a body that is not held as a whole
    pub body: Option<&'a [u8]>,
}

/// What an answer says about the credential that came with the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Accepted,
    Refused,
    /// neither; it counts as a failure
    Unclear,
}

impl AnswerView<'_> {
    fn is_redirect_or_success(&self) -> bool {
        self.status.is_success() || self.status.is_redirection()
    }
}

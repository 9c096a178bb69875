//! API tokens. Only the daemon can verify them, and it does so with every call.

use http::StatusCode;

use super::api_answer::ApiAnswer;
use super::{AnswerView, CredentialVerdict};

/// The verification of a token that stands behind an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenCheck {
    /// by the daemon of this node, before anything else
    Daemon,
    /// by another node, which may refuse a client or a call with 403 before it verifies the token
    Peer,
    /// none: the call needs no login
    Skipped,
}

/// The verdict on the token of a call. In a format for pages the daemon redirects clients with a bad token to the login
/// page.
pub fn verdict(answer: &AnswerView<'_>, check: TokenCheck) -> CredentialVerdict {
    let read = answer.body.filter(|_| of_status(answer.status) == CredentialVerdict::Accepted);
    let failure = read.and_then(|body| ApiAnswer::read(answer.headers, body)).and_then(|read| read.failure());
    let status = failure.unwrap_or(answer.status);
    match check {
        TokenCheck::Skipped => CredentialVerdict::Unclear,
        TokenCheck::Peer if status == StatusCode::FORBIDDEN => CredentialVerdict::Unclear,
        TokenCheck::Peer | TokenCheck::Daemon => of_status(status),
    }
}

fn of_status(status: StatusCode) -> CredentialVerdict {
    match status {
        StatusCode::UNAUTHORIZED => CredentialVerdict::Refused,
        StatusCode::FORBIDDEN | StatusCode::SWITCHING_PROTOCOLS => CredentialVerdict::Accepted,
        status if status.is_redirection() => CredentialVerdict::Refused,
        status if status.is_success() => CredentialVerdict::Accepted,
        _ => CredentialVerdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn checked(check: TokenCheck, status: u16, body: Option<&str>) -> CredentialVerdict {
        let status = StatusCode::from_u16(status).unwrap();
        verdict(&AnswerView { status, headers: &HeaderMap::new(), body: body.map(str::as_bytes) }, check)
    }

    fn of(status: u16, body: Option<&str>) -> CredentialVerdict {
        checked(TokenCheck::Daemon, status, body)
    }

    #[test]
    fn another_nodes_403_proves_no_token() {
        let of = |status, body| checked(TokenCheck::Peer, status, body);
        assert_eq!(of(403, None), CredentialVerdict::Unclear);
        assert_eq!(of(200, Some("{\"success\":0,\"status\":403}")), CredentialVerdict::Unclear);
        assert_eq!(of(200, Some("{\"data\":1}")), CredentialVerdict::Accepted);
        assert_eq!(of(401, None), CredentialVerdict::Refused);
    }

    #[test]
    fn an_open_call_proves_no_token() {
        for status in [101, 200, 204, 301, 401, 403, 500] {
            assert_eq!(checked(TokenCheck::Skipped, status, None), CredentialVerdict::Unclear, "{status}");
        }
    }

    #[test]
    fn a_reached_call_verifies_its_token() {
        for status in [101, 200, 204, 403] {
            assert_eq!(of(status, None), CredentialVerdict::Accepted, "{status}");
        }
        for status in [301, 302, 401] {
            assert_eq!(of(status, Some("{}")), CredentialVerdict::Refused, "{status}");
        }
        for status in [400, 404, 500, 501, 596] {
            assert_eq!(of(status, None), CredentialVerdict::Unclear, "{status}");
        }
    }

    #[test]
    fn the_body_may_say_less_than_the_status() {
        let of = |body| of(200, Some(body));
        assert_eq!(of("{\"data\":1}"), CredentialVerdict::Accepted);
        assert_eq!(of("no JSON"), CredentialVerdict::Accepted);
        assert_eq!(of("{\"success\":0,\"status\":401}"), CredentialVerdict::Refused);
        assert_eq!(of("{\"success\":0,\"status\":403}"), CredentialVerdict::Accepted);
        assert_eq!(of("{\"success\":0}"), CredentialVerdict::Unclear);
    }
}

//! API tokens. Only the daemon can verify them, and it does so with every call.

use http::StatusCode;

use super::api_answer::ApiAnswer;
use super::{AnswerView, Verdict};

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
pub fn verdict(answer: &AnswerView<'_>, check: TokenCheck) -> Verdict {
    let read = answer.body.filter(|_| of_status(answer.status) == Verdict::Accepted);
    let failure = read.and_then(|body| ApiAnswer::read(answer.headers, body)).and_then(|read| read.failure());
    let status = failure.unwrap_or(answer.status);
    match check {
        TokenCheck::Skipped => Verdict::Unclear,
        TokenCheck::Peer if status == StatusCode::FORBIDDEN => Verdict::Unclear,
        TokenCheck::Peer | TokenCheck::Daemon => of_status(status),
    }
}

fn of_status(status: StatusCode) -> Verdict {
    match status {
        StatusCode::UNAUTHORIZED => Verdict::Refused,
        StatusCode::FORBIDDEN | StatusCode::SWITCHING_PROTOCOLS => Verdict::Accepted,
        status if status.is_redirection() => Verdict::Refused,
        status if status.is_success() => Verdict::Accepted,
        _ => Verdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderMap;

    use super::*;

    fn checked(check: TokenCheck, status: u16, body: Option<&str>) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        verdict(&AnswerView { status, headers: &HeaderMap::new(), body: body.map(str::as_bytes) }, check)
    }

    fn of(status: u16, body: Option<&str>) -> Verdict {
        checked(TokenCheck::Daemon, status, body)
    }

    #[test]
    fn another_nodes_403_proves_no_token() {
        let of = |status, body| checked(TokenCheck::Peer, status, body);
        assert_eq!(of(403, None), Verdict::Unclear);
        assert_eq!(of(200, Some("{\"success\":0,\"status\":403}")), Verdict::Unclear);
        assert_eq!(of(200, Some("{\"data\":1}")), Verdict::Accepted);
        assert_eq!(of(401, None), Verdict::Refused);
    }

    #[test]
    fn an_open_call_proves_no_token() {
        for status in [101, 200, 204, 301, 401, 403, 500] {
            assert_eq!(checked(TokenCheck::Skipped, status, None), Verdict::Unclear, "{status}");
        }
    }

    #[test]
    fn a_token_is_good_where_the_call_was_reached() {
        for status in [101, 200, 204, 403] {
            assert_eq!(of(status, None), Verdict::Accepted, "{status}");
        }
        for status in [301, 302, 401] {
            assert_eq!(of(status, Some("{}")), Verdict::Refused, "{status}");
        }
        for status in [400, 404, 500, 501, 596] {
            assert_eq!(of(status, None), Verdict::Unclear, "{status}");
        }
    }

    #[test]
    fn the_body_may_say_less_than_the_status() {
        let of = |body| of(200, Some(body));
        assert_eq!(of("{\"data\":1}"), Verdict::Accepted);
        assert_eq!(of("no JSON"), Verdict::Accepted);
        assert_eq!(of("{\"success\":0,\"status\":401}"), Verdict::Refused);
        assert_eq!(of("{\"success\":0,\"status\":403}"), Verdict::Accepted);
        assert_eq!(of("{\"success\":0}"), Verdict::Unclear);
    }
}

//! API tokens. Only the daemon can verify them, and it does so with every call.

use http::StatusCode;

use super::api_answer::ApiAnswer;
use super::{AnswerView, Verdict};

/// The verdict on the token of a call. The daemon verifies the token first, so a 403 shows that it is good. In a format
/// for pages the daemon redirects clients with a bad token to the login page.
pub fn verdict(answer: &AnswerView<'_>) -> Verdict {
    let by_http = of_status(answer.status);
    let read = answer.body.filter(|_| by_http == Verdict::Accepted);
    let told = read.and_then(|body| ApiAnswer::read(answer.headers, body)).and_then(|read| read.failure());
    told.map_or(by_http, of_status)
}

/// Whether the status of an answer refuses the token.
pub fn is_refused(status: StatusCode) -> bool {
    of_status(status) == Verdict::Refused
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

    fn of(status: u16, body: Option<&str>) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        verdict(&AnswerView { status, headers: &HeaderMap::new(), body: body.map(str::as_bytes) })
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

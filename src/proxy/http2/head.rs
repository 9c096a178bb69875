//! Converts heads between HTTP/2 and the form of HTTP/1.1, which all other code uses (RFC 9113 sections 8.2 and 8.3).

use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, response};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers of a connection. HTTP/2 has frames instead.
const CONNECTION_HEADERS: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// Converts a request: `:authority` becomes Host, cookies become one line, the target keeps only its path. If Host and
/// `:authority` differ, both stay, and the request is rejected like one of HTTP/1.1.
pub fn request(head: &mut Parts) {
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority {
        if !head.headers.contains_key(HOST) {
            head.headers.extend(HeaderValue::try_from(&authority).ok().map(|host| (HOST, host)));
        }
        let host = head.headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        if host.eq_ignore_ascii_case(authority.as_bytes()) && head.method != Method::CONNECT {
            let path = head.uri.path_and_query().cloned();
            head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
    }
    join_cookies(&mut head.headers);
}

/// A client may send each cookie in its own line.
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return };
    let mut joined = [first, second].join(&b"; "[..]);
    for line in lines {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line);
    }
    headers.remove(COOKIE);
    headers.extend(HeaderValue::try_from(joined).ok().map(|cookie| (COOKIE, cookie)));
}

/// Bytes of the body, if the head announces them.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the client sends its body only after 100 Continue.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether no value begins or ends with white space, which would make the request malformed (RFC 9113 section 8.2.1).
pub(super) fn has_trimmed_fields(headers: &HeaderMap) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    headers
        .values()
        .map(HeaderValue::as_bytes)
        .all(|value| !is_blank(value.first()) && !is_blank(value.last()))
}

/// Removes headers that HTTP/2 does not have from an answer. Returns whether they close the connection. A malformed
/// request ends only its stream (RFC 9113 section 8.1.1).
pub fn answer(head: &mut response::Parts, length: Option<u64>) -> bool {
    let asks_to_close = head.headers.get(CONNECTION).is_some_and(|value| value.as_bytes() == b"close");
    let closes = asks_to_close && head.status != StatusCode::BAD_REQUEST;
    for name in &CONNECTION_HEADERS {
        head.headers.remove(name);
    }
    if !head.headers.contains_key(DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        head.headers.extend(HeaderValue::try_from(now).ok().map(|now| (DATE, now)));
    }
    if let Some(length) = length.filter(|_| !is_bare(head.status)) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    closes
}

/// Whether answers with this status have no body.
pub(super) fn is_bare(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn parts(uri: &str, lines: &[(HeaderName, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for (name, value) in lines {
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut head = request.into_parts().0;
        super::request(&mut head);
        head
    }

    #[test]
    fn the_authority_is_the_host() {
        let head = parts("https://node:8006/a?b=c", &[]);
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers[HOST]),
            ("/a?b=c", &HeaderValue::from_static("node:8006"))
        );
        let head = parts("https://node/a", &[(HOST, "NODE")]);
        assert_eq!((head.uri.to_string().as_str(), head.headers.get_all(HOST).iter().count()), ("/a", 1));
        let head = parts("https://node/a", &[(HOST, "other")]);
        assert_eq!(
            (head.uri.authority().unwrap().as_str(), &head.headers[HOST]),
            ("node", &HeaderValue::from_static("other"))
        );
    }

    #[test]
    fn crumbs_are_one_cookie() {
        let head = parts("https://node/", &[(COOKIE, "a=1"), (COOKIE, "b=2"), (COOKIE, "c=3")]);
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn nothing_of_the_connection_is_in_an_answer() {
        let mut answer = Response::new(()).into_parts().0;
        for name in &CONNECTION_HEADERS {
            answer.headers.insert(name, HeaderValue::from_static("close"));
        }
        assert!(super::answer(&mut answer, Some(7)));
        assert!(CONNECTION_HEADERS.iter().all(|name| !answer.headers.contains_key(name)));
        assert_eq!(answer.headers[CONTENT_LENGTH], "7");
        assert!(answer.headers.contains_key(DATE));
        assert!(!super::answer(&mut answer, None));
    }
}

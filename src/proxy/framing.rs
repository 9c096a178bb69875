//! The end of a body whose length is unknown.

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Method, Response, Version};
use http_body::Body as _;

use crate::http::body::ResponseBody;
use crate::upstream::request::is_from_nodegate;

/// Closes the connection after the body for clients that get no chunks: clients with HTTP/1.0, and the original
/// proxies on other nodes, which decode the chunks and still forward `Transfer-Encoding`.
///
/// Such an answer has HTTP/1.0, as RFC 9110 section 6.2 allows for clients with a known fault.
pub(super) fn settle(head: &Parts, response: &mut Response<ResponseBody>, comes_from_node: bool) {
    let takes_chunks = match head.version {
        Version::HTTP_11 => !comes_from_node || is_from_nodegate(&head.headers),
        version => version > Version::HTTP_11,
    };
    if !takes_chunks && !has_known_end(head, response) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        *response.version_mut() = Version::HTTP_10;
    } else if head.version == Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
        *response.version_mut() = Version::HTTP_10; // else the library promises keep-alive as well
    }
}

fn has_known_end(head: &Parts, response: &Response<ResponseBody>) -> bool {
    head.method == Method::HEAD
        || response.headers().contains_key(CONTENT_LENGTH)
        || response.body().size_hint().exact().is_some()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::Request;
    use http::header::USER_AGENT;

    use super::*;
    use crate::http::body::{self, PieceStream};

    fn is_delimited(version: Version, agent: &str, comes_from_node: bool, body: ResponseBody) -> bool {
        let request = Request::builder().version(version).header(USER_AGENT, agent).body(()).unwrap();
        let mut response = Response::new(body);
        settle(&request.into_parts().0, &mut response, comes_from_node);
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        assert_eq!(closes, response.version() == Version::HTTP_10);
        closes
    }

    struct Endless;

    impl PieceStream for Endless {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
            Poll::Pending
        }
    }

    #[test]
    fn only_clients_that_read_chunks_get_them() {
        const ANY_EVENT: &str =
            "Mozilla/5.0 (compatible; U; AnyEvent-HTTP/2.25; +http://software.schmorp.de/pkg/AnyEvent)";
        for (version, agent, comes_from_node, expected) in [
            (Version::HTTP_11, "curl/8", false, false),
            (Version::HTTP_11, ANY_EVENT, false, false),
            (Version::HTTP_11, ANY_EVENT, true, true),
            (Version::HTTP_11, "", true, true),
            (Version::HTTP_11, "nodegate/0.0.1", true, false),
            (Version::HTTP_11, "nodegate", true, true),
            (Version::HTTP_10, "curl/8", false, true),
            (Version::HTTP_10, "nodegate/0.0.1", true, true),
            (Version::HTTP_2, ANY_EVENT, true, false),
        ] {
            assert_eq!(
                is_delimited(version, agent, comes_from_node, ResponseBody::streamed(Endless)),
                expected,
                "{version:?} {agent}"
            );
            assert!(!is_delimited(version, agent, comes_from_node, body::full("length known")));
        }
    }
}

//! A request as it goes to a daemon: HTTP/1.1, every byte of its head written here.

use std::io::Cursor;

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, Method};

/// A head of usual size, so that it does not grow; the allocator has this much at hand.
const USUAL: usize = 1000;

/// One request with its whole body.
#[derive(Clone)]
pub struct Outgoing {
    method: Method,
    head: Vec<u8>,
    body: Bytes,
}

impl Outgoing {
    /// The request line; `None` if `target` could end it early.
    pub fn new(method: Method, target: &str) -> Option<Self> {
        if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let mut head = Vec::with_capacity(USUAL);
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        Some(Self { method, head, body: Bytes::new() })
    }

    /// Adds a header line. A `HeaderValue` holds no line end.
    pub fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.head.extend_from_slice(part);
        }
    }

    /// The body with the header that tells its length.
    pub fn body(&mut self, body: Bytes) {
        self.header(&http::header::CONTENT_LENGTH, &HeaderValue::from(body.len()));
        self.body = body;
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// What goes over the wire: the head, closed by an empty line, and the body.
    pub(super) fn into_wire(mut self) -> impl Buf {
        self.head.extend_from_slice(b"\r\n");
        Cursor::new(self.head).chain(self.body)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_written_as_it_is_sent() {
        let mut request = Outgoing::new(Method::POST, "/api2/json/x?a=b").unwrap();
        request.header(&http::header::HOST, &HeaderValue::from_static("node"));
        request.body(Bytes::from_static(b"a=1"));
        let mut wire = request.into_wire();
        let wire = wire.copy_to_bytes(wire.remaining());
        assert_eq!(wire, "POST /api2/json/x?a=b HTTP/1.1\r\nhost: node\r\ncontent-length: 3\r\n\r\na=1");
    }

    #[test]
    fn a_target_cannot_end_its_line() {
        for target in ["/a b", "/a\r\nb", "/a\tb", "/\x7f", "/\0"] {
            assert!(Outgoing::new(Method::GET, target).is_none(), "{target:?}");
        }
    }
}

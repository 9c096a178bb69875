//! An HTTP/1.1 request to a daemon. This module writes every byte of its head.

use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::upstream::local::WorkerReservation;
use crate::upstream::scheduler::ScheduledCall;

/// Capacity for most heads; glibc serves this size from its thread cache.
const HEAD_CAPACITY: usize = 1000;

/// User agent of requests to other nodes. A `const` that holds `Bytes` would be made again at each use.
static NODEGATE: HeaderValue = HeaderValue::from_static(concat!("nodegate/", env!("CARGO_PKG_VERSION")));

/// A request with its whole body.
pub struct UpstreamRequest {
    method: Method,
    /// for the head of the response, and between two reads of its body
    timeout: Duration,
    head: Vec<u8>,
    body: Bytes,
    /// of a daemon of this machine
    worker: WorkerReservation,
}

impl UpstreamRequest {
    /// Writes the request line. Returns `None` if `target` holds a byte that could end the line.
    pub fn new(method: Method, target: &str, timeout: Duration) -> Option<Self> {
        if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let mut head = Vec::with_capacity(HEAD_CAPACITY);
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        Some(Self { method, timeout, head, body: Bytes::new(), worker: WorkerReservation::default() })
    }

    /// Adds a header line. A `HeaderValue` holds no line end.
    pub fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.head.extend_from_slice(part);
        }
    }

    /// Sets the body and its `Content-Length`.
    pub fn body(&mut self, body: Bytes) {
        self.header(&http::header::CONTENT_LENGTH, &HeaderValue::from(body.len()));
        self.body = body;
    }

    /// Sets whose turn the request takes if it goes to a daemon of this machine, and what it may cost.
    pub fn schedule(&mut self, call: Box<ScheduledCall>) {
        self.worker.call = Some(call);
    }

    pub(super) fn worker(&mut self) -> &mut WorkerReservation {
        &mut self.worker
    }

    /// Identifies nodegate, which accepts any framing of a response (`is_from_nodegate`).
    pub fn add_user_agent(&mut self) {
        self.header(&USER_AGENT, &NODEGATE);
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Ends the head with an empty line.
    pub(super) fn encode(mut self) -> EncodedRequest {
        self.head.extend_from_slice(b"\r\n");
        EncodedRequest { head: self.head, body: self.body, sent: 0 }
    }
}

/// Whether a nodegate of any version sent the request. Any client can claim it, so it only decides the framing of the
/// response to that client.
pub fn is_from_nodegate(headers: &HeaderMap) -> bool {
    headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"nodegate/"))
}

/// An encoded request and the number of its bytes that were sent.
pub(super) struct EncodedRequest {
    head: Vec<u8>,
    body: Bytes,
    sent: usize,
}

impl EncodedRequest {
    /// Starts again from the first byte.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    fn left_of_head(&self) -> &[u8] {
        self.head.get(self.sent..).unwrap_or_default()
    }

    fn left_of_body(&self) -> &[u8] {
        self.body.get(self.sent.saturating_sub(self.head.len())..).unwrap_or_default()
    }
}

impl Buf for EncodedRequest {
    fn remaining(&self) -> usize {
        self.left_of_head().len() + self.left_of_body().len()
    }

    fn chunk(&self) -> &[u8] {
        let head = self.left_of_head();
        if head.is_empty() { self.left_of_body() } else { head }
    }

    fn advance(&mut self, count: usize) {
        self.sent += count.min(self.remaining());
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [self.left_of_head(), self.left_of_body()];
        let there = parts.into_iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(there).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_it_is_sent() {
        let mut request = UpstreamRequest::new(Method::POST, "/api2/json/x?a=b", Duration::ZERO).unwrap();
        request.header(&http::header::HOST, &HeaderValue::from_static("node"));
        request.body(Bytes::from_static(b"a=1"));
        let mut wire = request.encode();
        let all = "POST /api2/json/x?a=b HTTP/1.1\r\nhost: node\r\ncontent-length: 3\r\n\r\na=1";
        for step in [1, 7, 1000] {
            let mut sent = Vec::new();
            while wire.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = wire.chunks_vectored(&mut slices);
                let next: Vec<u8> =
                    slices.iter().take(count).flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!(next.len(), wire.remaining());
                sent.extend(next.iter().take(step));
                wire.advance(step);
            }
            assert_eq!(String::from_utf8(sent).unwrap(), all);
            wire.rewind();
        }
        assert_eq!(wire.copy_to_bytes(wire.remaining()), all);
    }

    #[test]
    fn a_target_cannot_end_its_line() {
        for target in ["/a b", "/a\r\nb", "/a\tb", "/\x7f", "/\0"] {
            assert!(UpstreamRequest::new(Method::GET, target, Duration::ZERO).is_none(), "{target:?}");
        }
    }
}

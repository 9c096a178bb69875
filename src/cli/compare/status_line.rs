//! The reason phrase of a response, read beside hyper: its client drops a phrase with bytes beyond ASCII, and such a
//! phrase carries the message of a failed call.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::InspectReader;

const MAX_BYTES: usize = 4096;

/// The line so far.
#[derive(Clone, Default)]
pub(crate) struct StatusLine(Arc<Mutex<Vec<u8>>>);

impl StatusLine {
    /// The stream, which copies its first line here.
    pub(crate) fn record<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> impl AsyncRead + AsyncWrite + Unpin + use<S> {
        let line = self.clone();
        InspectReader::new(stream, move |bytes: &[u8]| line.add(bytes))
    }

    /// The text behind `HTTP/1.1 200 `.
    pub(crate) fn reason(&self) -> String {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        text.splitn(3, ' ').nth(2).unwrap_or_default().trim().to_owned()
    }

    fn add(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.contains(&b'\n') && line.len() < MAX_BYTES {
            line.extend_from_slice(bytes.get(..MAX_BYTES).unwrap_or(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_kept_with_all_its_bytes() {
        let line = StatusLine::default();
        for piece in ["HTTP/1.1 500 no such us", "er ('müller')\r\nDate: x\r\n", "\r\nbody\n"] {
            line.add(piece.as_bytes());
        }
        assert_eq!(line.reason(), "no such user ('müller')");
        let empty = StatusLine::default();
        empty.add(b"HTTP/1.1 200\r\n");
        assert_eq!(empty.reason(), "");
    }
}

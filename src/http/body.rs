//! The body of every answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::upstream::client::UpstreamBody;

/// The pieces of a streamed body. [`ResponseBody`] makes a `http_body::Body` of them.
pub trait PieceStream {
    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// The bytes that follow, if their number is known.
    fn length(&self) -> Option<u64> {
        None
    }

    fn has_ended(&self) -> bool {
        self.length() == Some(0)
    }
}

/// Usually complete bytes, otherwise a stream whose length may be unknown when the head is sent.
pub enum ResponseBody {
    Full(Bytes),
    Streamed(Box<dyn PieceStream>),
}

impl PieceStream for UpstreamBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let polled = self.poll_piece(context);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.report(error);
        }
        polled
    }

    fn length(&self) -> Option<u64> {
        self.length()
    }

    fn has_ended(&self) -> bool {
        self.has_ended()
    }
}

pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    ResponseBody::Full(bytes.into())
}

pub fn empty() -> ResponseBody {
    ResponseBody::Full(Bytes::new())
}

impl ResponseBody {
    pub fn streamed(stream: impl PieceStream + 'static) -> Self {
        Self::Streamed(Box::new(stream))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(stream) => stream.poll_piece(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Streamed(stream) => stream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Streamed(stream) => stream.length().map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

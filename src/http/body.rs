//! The body of every answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

type StreamedBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error>>>;

/// Usually complete bytes, otherwise a stream whose length may be unknown when the head is sent.
pub enum ResponseBody {
    Full(Bytes),
    Streamed(StreamedBody),
}

pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    ResponseBody::Full(bytes.into())
}

pub fn empty() -> ResponseBody {
    ResponseBody::Full(Bytes::new())
}

impl ResponseBody {
    pub fn boxed(stream: impl http_body::Body<Data = Bytes, Error = io::Error> + 'static) -> Self {
        Self::Streamed(Box::pin(stream))
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
            Self::Streamed(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Streamed(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Streamed(stream) => stream.size_hint(),
        }
    }
}

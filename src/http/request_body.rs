//! The body of a request of any HTTP version, read already or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// A body on its way.
pub enum RequestBody {
    Http1(hyper::body::Incoming),
    Http2(StreamBody),
    /// read already, and put back
    Whole(Full<Bytes>),
}

/// The DATA frames of one stream. A client may send more of them once these have been taken.
pub struct StreamBody {
    stream: RecvStream,
    /// bytes to come, if the head announced them; `h2` rejects any others
    length: Option<u64>,
    /// set when a client that waits for 100 Continue is to get it
    wanted: Option<Arc<AtomicBool>>,
}

impl StreamBody {
    pub fn new(stream: RecvStream, length: Option<u64>, wanted: Option<Arc<AtomicBool>>) -> Self {
        Self { stream, length, wanted }
    }

    /// A client that waits for 100 Continue no longer gets it.
    pub fn suppress_continue(&mut self) {
        self.wanted = None;
    }

    /// Drops trailers.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.stream.poll_data(context);
        if let Some(wanted) = self.wanted.take().filter(|_| polled.is_pending()) {
            wanted.store(true, Ordering::Relaxed);
        }
        let Some(data) = ready!(polled) else { return Poll::Ready(None) };
        let data = data.map_err(io::Error::other).and_then(|data| {
            self.stream.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            let taken = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.length = self.length.map(|length| length.saturating_sub(taken));
            Ok(Frame::data(data))
        });
        Poll::Ready(Some(data))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(context).map_err(io::Error::other),
            Self::Http2(body) => body.poll_data(context),
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.length.map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::Whole(body) => body.size_hint(),
        }
    }
}

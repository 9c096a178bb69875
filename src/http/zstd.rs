//! Answers of daemons in zstd (RFC 8878), packed here on their way to a client that wants it most.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as _, Frame};
use tokio::sync::{Semaphore, SemaphorePermit};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use super::body::{self, ResponseBody};
use crate::http::compression::ContentCoding;

/// Fast: an answer is packed for one client, and while its worker does that it does nothing else.
const LEVEL: i32 = 1;
/// Bytes up to which packing saves next to nothing.
const TOO_SMALL: usize = 1024;
/// Log of the window of a streamed answer, which bounds the memory that packing it takes to some 300 kB.
const WINDOW: u32 = 16;
/// Streamed answers that are packed at the same time; more than these go out as they are.
static STREAMS: Semaphore = Semaphore::const_new(64);
/// Packed bytes that are sent though more might come.
const PIECE: usize = 32 << 10;

/// The answer in zstd if that makes it smaller, or as it was.
pub fn zstd(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    if !is_packable(&response) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let (mut head, body) = response.into_parts();
    let (body, is_packed) = match body {
        ResponseBody::Full(plain) => match pack_whole(&plain) {
            Some(packed) => (body::full(packed), true),
            None => (ResponseBody::Full(plain), false),
        },
        ResponseBody::Streamed(_) => match ZstdBody::slot() {
            Some((slot, encoder)) => {
                (ResponseBody::boxed(ZstdBody { plain: body, encoder: Some(encoder), _slot: slot }), true)
            }
            None => (body, false),
        },
    };
    if is_packed {
        head.headers.remove(CONTENT_LENGTH);
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(ContentCoding::Zstd.token()));
    }
    Response::from_parts(head, body)
}

/// Text that is whole and not coded yet. A tag would name other bytes than those that are sent.
fn is_packable(response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    let is_text = |kind: &HeaderValue| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/json") || kind.starts_with(b"text/")
    };
    let is_small = matches!(response.body(), ResponseBody::Full(bytes) if bytes.len() <= TOO_SMALL);
    // A download of known length shows its progress.
    let is_download =
        headers.contains_key(CONTENT_DISPOSITION) && response.body().size_hint().exact().is_some();
    !is_small
        && !is_download
        && headers.get(CONTENT_TYPE).is_some_and(is_text)
        && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && ![CONTENT_ENCODING, CONTENT_RANGE, ETAG].iter().any(|name| headers.contains_key(name))
}

fn pack_whole(plain: &[u8]) -> Option<Bytes> {
    let packed = zstd::bulk::compress(plain, LEVEL).ok()?;
    (packed.len() < plain.len()).then(|| packed.into())
}

/// A body that is packed as it comes. What the daemon pauses after goes out.
struct ZstdBody {
    plain: ResponseBody,
    /// `None` once its end is out
    encoder: Option<Encoder<'static, Vec<u8>>>,
    _slot: SemaphorePermit<'static>,
}

impl ZstdBody {
    fn slot() -> Option<(SemaphorePermit<'static>, Encoder<'static, Vec<u8>>)> {
        let slot = STREAMS.try_acquire().ok()?;
        let mut encoder = Encoder::new(Vec::new(), LEVEL).ok()?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW)).ok()?;
        Some((slot, encoder))
    }

    /// What is packed already; with `flush` everything that has come.
    fn take(&mut self, flush: bool) -> io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if flush {
            encoder.flush()?;
        }
        let packed = std::mem::take(encoder.get_mut());
        Ok((!packed.is_empty()).then(|| packed.into()))
    }

    fn end(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        let packed = encoder.finish()?;
        Ok((!packed.is_empty()).then(|| packed.into()))
    }
}

impl http_body::Body for ZstdBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let packed = loop {
            let Self { plain, encoder: Some(encoder), .. } = &mut *self else { return Poll::Ready(None) };
            match Pin::new(plain).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let written = encoder.write_all(&frame.into_data().unwrap_or_default());
                    if written.is_err() || encoder.get_ref().len() >= PIECE {
                        break written.and_then(|()| self.take(false));
                    }
                }
                Poll::Ready(Some(Err(error))) => break Err(error),
                Poll::Ready(None) => break self.end(),
                Poll::Pending => match self.take(true) {
                    Ok(None) => return Poll::Pending,
                    packed => break packed,
                },
            }
        };
        Poll::Ready(packed.map(|packed| packed.map(Frame::data)).transpose())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use http_body_util::BodyExt as _;
    use http_body_util::channel::Channel;

    use super::*;

    fn json(body: ResponseBody) -> Response<ResponseBody> {
        Response::builder().header(CONTENT_TYPE, "application/json;charset=UTF-8").body(body).unwrap()
    }

    fn text() -> String {
        "{\"vmid\":100,\"status\":\"running\"},".repeat(2000)
    }

    #[tokio::test]
    async fn what_is_worth_it_is_packed() {
        let response = zstd(json(body::full(text())));
        assert_eq!(response.headers()[CONTENT_ENCODING], "zstd");
        assert_eq!(response.headers()[VARY], "Accept-Encoding");
        let packed = response.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() < text().len() / 5, "{}", packed.len());
        assert_eq!(zstd::decode_all(&*packed).unwrap(), text().as_bytes());
    }

    #[test]
    fn what_is_not_stays_as_it_is() {
        let mut state = 1_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_be_bytes()
        };
        let noise: Vec<u8> = (0..1000).flat_map(|_| next()).collect();
        let mut coded = json(body::full(text()));
        coded.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let mut tagged = json(body::full(text()));
        tagged.headers_mut().insert(ETAG, HeaderValue::from_static("\"1\""));
        let mut image = json(body::full(text()));
        image.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        let same = [json(body::full("x".repeat(TOO_SMALL))), json(body::full(noise)), tagged, image, coded];
        for response in same {
            let before = response.headers().get(CONTENT_ENCODING).cloned();
            assert_eq!(zstd(response).headers().get(CONTENT_ENCODING), before.as_ref());
        }
    }

    #[tokio::test]
    async fn received_bytes_are_flushed_when_the_daemon_pauses() {
        let (mut daemon, stream) = Channel::<Bytes, io::Error>::new(1);
        let mut packed = zstd(json(ResponseBody::boxed(stream))).into_body();
        let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
        for piece in ["one", "two"] {
            daemon.send_data(Bytes::from_static(piece.as_bytes())).await.unwrap();
            let frame = packed.frame().await.unwrap().unwrap().into_data().unwrap();
            decoder.write_all(&frame).unwrap();
            decoder.flush().unwrap();
            assert!(decoder.get_ref().ends_with(piece.as_bytes()));
        }
        drop(daemon);
        while let Some(frame) = packed.frame().await {
            decoder.write_all(&frame.unwrap().into_data().unwrap()).unwrap();
        }
        decoder.flush().unwrap();
        assert_eq!(decoder.get_ref(), b"onetwo");
    }

    #[tokio::test]
    async fn a_broken_answer_is_broken_here_too() {
        let (daemon, stream) = Channel::<Bytes, io::Error>::new(1);
        let packed = zstd(json(ResponseBody::boxed(stream))).into_body();
        daemon.abort(io::ErrorKind::UnexpectedEof.into());
        assert!(packed.collect().await.is_err());
    }
}

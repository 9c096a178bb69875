//! Compresses answers of daemons with zstd (RFC 8878), for clients that prefer it.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use super::body::{self, PieceStream, ResponseBody};
use crate::http::compression::ContentCoding;
use crate::limits::compression_slots::CompressionSlots;

/// A fast level, because the worker does nothing else while it compresses.
const LEVEL: i32 = 1;
/// Up to so many bytes compression saves almost nothing.
const MIN_BYTES: usize = 1024;
/// Log of the window of a streamed answer. It bounds the encoder's memory to some 300 kB.
const WINDOW: u32 = 16;
/// So many compressed bytes are sent without waiting for more.
const PIECE_BYTES: usize = 32 << 10;

/// The answer in zstd if that makes it smaller. A streamed answer without a slot stays unchanged.
pub fn zstd(mut response: Response<ResponseBody>, slots: &CompressionSlots) -> Response<ResponseBody> {
    if !is_compressible(&response) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let (mut head, body) = response.into_parts();
    let (body, is_packed) = match body {
        ResponseBody::Full(plain) => match pack_whole(&plain) {
            Some(compressed) => (body::full(compressed), true),
            None => (ResponseBody::Full(plain), false),
        },
        ResponseBody::Streamed(_) => match slots.try_acquire().zip(stream_encoder()) {
            Some((slot, encoder)) => {
                (ResponseBody::streamed(ZstdBody { plain: body, encoder: Some(encoder), _slot: slot }), true)
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

/// Complete text without a content coding. An `ETag` would name other bytes than nodegate sends.
fn is_compressible(response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    let is_text = |kind: &HeaderValue| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/json") || kind.starts_with(b"text/")
    };
    let is_small = matches!(response.body(), ResponseBody::Full(bytes) if bytes.len() <= MIN_BYTES);
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
    let compressed = zstd::bulk::compress(plain, LEVEL).ok()?;
    (compressed.len() < plain.len()).then(|| compressed.into())
}

fn stream_encoder() -> Option<Encoder<'static, Vec<u8>>> {
    let mut encoder = Encoder::new(Vec::new(), LEVEL).ok()?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW)).ok()?;
    Some(encoder)
}

/// A body that is compressed as it arrives. When the daemon pauses, nodegate flushes.
struct ZstdBody {
    plain: ResponseBody,
    /// `None` after the end
    encoder: Option<Encoder<'static, Vec<u8>>>,
    _slot: OwnedSemaphorePermit,
}

impl ZstdBody {
    /// The compressed bytes so far; with `flush` all bytes that have arrived.
    fn take(&mut self, flush: bool) -> io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if flush {
            encoder.flush()?;
        }
        let compressed = std::mem::take(encoder.get_mut());
        Ok((!compressed.is_empty()).then(|| compressed.into()))
    }

    fn end(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        let compressed = encoder.finish()?;
        Ok((!compressed.is_empty()).then(|| compressed.into()))
    }
}

impl PieceStream for ZstdBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let compressed = loop {
            let Self { plain, encoder: Some(encoder), .. } = self else { return Poll::Ready(None) };
            match Pin::new(plain).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let written = encoder.write_all(&frame.into_data().unwrap_or_default());
                    if written.is_err() || encoder.get_ref().len() >= PIECE_BYTES {
                        break written.and_then(|()| self.take(false));
                    }
                }
                Poll::Ready(Some(Err(error))) => break Err(error),
                Poll::Ready(None) => break self.end(),
                Poll::Pending => match self.take(true) {
                    Ok(None) => return Poll::Pending,
                    compressed => break compressed,
                },
            }
        };
        Poll::Ready(compressed.transpose())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    impl PieceStream for Receiver<io::Result<Bytes>> {
        fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
            self.poll_recv(context)
        }
    }

    fn json(body: ResponseBody) -> Response<ResponseBody> {
        Response::builder().header(CONTENT_TYPE, "application/json;charset=UTF-8").body(body).unwrap()
    }

    fn packed(response: Response<ResponseBody>) -> Response<ResponseBody> {
        super::zstd(response, &CompressionSlots::default())
    }

    fn text() -> String {
        "{\"vmid\":100,\"status\":\"running\"},".repeat(2000)
    }

    #[tokio::test]
    async fn what_is_worth_it_is_packed() {
        let response = packed(json(body::full(text())));
        assert_eq!(response.headers()[CONTENT_ENCODING], "zstd");
        assert_eq!(response.headers()[VARY], "Accept-Encoding");
        let compressed = response.into_body().collect().await.unwrap().to_bytes();
        assert!(compressed.len() < text().len() / 5, "{}", compressed.len());
        assert_eq!(zstd::decode_all(&*compressed).unwrap(), text().as_bytes());
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
        let same = [json(body::full("x".repeat(MIN_BYTES))), json(body::full(noise)), tagged, image, coded];
        for response in same {
            let before = response.headers().get(CONTENT_ENCODING).cloned();
            assert_eq!(packed(response).headers().get(CONTENT_ENCODING), before.as_ref());
        }
    }

    #[tokio::test]
    async fn received_bytes_are_flushed_when_the_daemon_pauses() {
        let (daemon, stream) = channel(1);
        let mut compressed = packed(json(ResponseBody::streamed(stream))).into_body();
        let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
        for piece in ["one", "two"] {
            daemon.send(Ok(Bytes::from_static(piece.as_bytes()))).await.unwrap();
            let frame = compressed.frame().await.unwrap().unwrap().into_data().unwrap();
            decoder.write_all(&frame).unwrap();
            decoder.flush().unwrap();
            assert!(decoder.get_ref().ends_with(piece.as_bytes()));
        }
        drop(daemon);
        while let Some(frame) = compressed.frame().await {
            decoder.write_all(&frame.unwrap().into_data().unwrap()).unwrap();
        }
        decoder.flush().unwrap();
        assert_eq!(decoder.get_ref(), b"onetwo");
    }

    #[tokio::test]
    async fn a_broken_answer_is_broken_here_too() {
        let (daemon, stream) = channel(1);
        let compressed = packed(json(ResponseBody::streamed(stream))).into_body();
        daemon.send(Err(io::ErrorKind::UnexpectedEof.into())).await.unwrap();
        assert!(compressed.collect().await.is_err());
    }
}

//! Reads streamed `multipart/form-data`: small fields stay in memory, the file goes to the spool.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use http::header::CONTENT_DISPOSITION;
use http_body_util::BodyExt as _;
use multer::{Field, Multipart};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::UploadError;
use super::fields::FormFields;
use super::parameters::HeaderParameters;
use super::spool::{SpaceClaim, SpoolFile, SpoolWriter};
use crate::limits::min_rate::{MinRate, RateTracker};

const MAX_PARTS: usize = 32;
/// Bytes of a field's value.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Bytes without progress of the parser: before the first boundary, or in the head of a part.
const MAX_UNPARSED_BYTES: usize = 128 << 10;
/// Bytes behind the end of the form.
const MAX_EPILOGUE_BYTES: usize = 64 << 10;

/// The reason why the body ends. It is passed through the parser's error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum BodyInterrupted {
    #[error("no byte arrived for {0:?}")]
    Stalled(Duration),
    #[error("fewer than {0} bytes a second arrived")]
    Slow(u64),
    #[error("the body ended early")]
    Broken,
    #[error("no boundary")]
    Unparsed,
}

impl From<multer::Error> for UploadError {
    fn from(error: multer::Error) -> Self {
        if let multer::Error::StreamReadFailed(cause) = &error
            && let Some(interrupted) = cause.downcast_ref::<BodyInterrupted>()
        {
            return match interrupted {
                BodyInterrupted::Stalled(grace) => Self::Stalled(grace.as_secs()),
                BodyInterrupted::Slow(rate) => Self::Slow(*rate),
                BodyInterrupted::Broken => Self::Broken,
                BodyInterrupted::Unparsed => Self::Form("is not a multipart form".to_owned()),
            };
        }
        tracing::debug!(%error, "a form cannot be read");
        Self::Form("is malformed or ends early".to_owned())
    }
}

/// The boundary in `Content-Type`.
pub fn find_boundary(content_type: Option<&[u8]>) -> Result<String, UploadError> {
    let parameters =
        content_type.and_then(HeaderParameters::parse).filter(|it| it.word == "multipart/form-data");
    let parameters = parameters.ok_or(UploadError::NotMultipart)?;
    let boundary = parameters.value("boundary").filter(|it| (1..=200).contains(&it.len()));
    Ok(boundary.ok_or(UploadError::NotMultipart)?.to_owned())
}

/// The body of an upload, and the space for its file.
pub struct FormReader<'r, B> {
    /// the body of the request
    pub body: &'r mut B,
    /// from `Content-Type`
    pub boundary: String,
    /// the name of the part with the file
    pub file_part: &'r str,
    /// the parameters of the query
    pub fields: FormFields,
    /// claimed for the file
    pub space: SpaceClaim,
    /// bytes of the file, if the profile limits them
    pub limit: Option<u64>,
    /// longest pause of the client, and its minimum rate
    pub min_rate: MinRate,
}

/// A complete form. Its fields contain the client's file name under the name of the file part.
pub struct UploadForm {
    /// the parameters of the query
    pub fields: FormFields,
    pub file: SpoolFile,
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> FormReader<'_, B> {
    /// Reads the body to its end.
    pub async fn read(self) -> Result<UploadForm, UploadError> {
        let Self { body, boundary, file_part, mut fields, space, limit, min_rate } = self;
        let unparsed = Arc::new(AtomicUsize::new(0));
        let mut parts = Multipart::new(BodyPieces::new(body, Arc::clone(&unparsed), min_rate), boundary);
        let mut space = Some(space);
        let mut file = None;
        let mut count = 0;
        while let Some(mut part) = parts.next_field().await? {
            unparsed.store(0, Ordering::Relaxed);
            count += 1;
            if count > MAX_PARTS {
                return Err(UploadError::Form(format!("has more than {MAX_PARTS} parts")));
            }
            let disposition = parse_disposition(part.headers())?;
            let name = disposition.value("name").unwrap_or_default();
            if name == file_part {
                fields.add(name, &file_name(&disposition)?)?;
                // A second part of this name has no space left, but `add` has rejected it before.
                let space = space.take().ok_or(UploadError::Broken)?;
                let spool = SpoolWriter::create(space, limit)?;
                file = Some(store_file(&mut part, spool, &unparsed).await?);
            } else {
                fields.check_name(name)?;
                fields.add(name, &read_value(&mut part, name, &unparsed).await?)?;
            }
        }
        drop(parts);
        read_epilogue(body, min_rate.grace).await?;
        let file = file.ok_or_else(|| UploadError::Form(format!("has no file in a part '{file_part}'")))?;
        Ok(UploadForm { fields, file })
    }
}

fn parse_disposition(headers: &HeaderMap) -> Result<HeaderParameters, UploadError> {
    headers
        .get(CONTENT_DISPOSITION)
        .and_then(|value| HeaderParameters::parse(value.as_bytes()))
        .filter(|disposition| disposition.word == "form-data")
        .ok_or_else(|| UploadError::Form("has a part without a clear Content-Disposition".to_owned()))
}

fn file_name(disposition: &HeaderParameters) -> Result<String, UploadError> {
    let name = disposition.extended("filename").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| UploadError::Form("gives the file no readable name".to_owned()))?;
    if name.contains(char::is_control) {
        return Err(UploadError::Form("has control characters in the file's name".to_owned()));
    }
    Ok(name.into_owned())
}

async fn store_file(
    part: &mut Field<'_>,
    mut spool: SpoolWriter,
    unparsed: &AtomicUsize,
) -> Result<SpoolFile, UploadError> {
    while let Some(piece) = part.chunk().await? {
        unparsed.store(0, Ordering::Relaxed);
        spool.write(&piece).await?;
    }
    spool.finish().await
}

async fn read_value(part: &mut Field<'_>, name: &str, unparsed: &AtomicUsize) -> Result<String, UploadError> {
    let mut value = Vec::new();
    while let Some(piece) = part.chunk().await? {
        unparsed.store(0, Ordering::Relaxed);
        value.extend_from_slice(&piece);
        if value.len() > MAX_VALUE_BYTES {
            let message = format!("has more than {MAX_VALUE_BYTES} bytes in the field '{name}'");
            return Err(UploadError::Form(message));
        }
    }
    String::from_utf8(value).map_err(|_| UploadError::Form(format!("has no UTF-8 in the field '{name}'")))
}

/// Discards the bytes behind the last boundary. A body that ends early there is an aborted upload.
async fn read_epilogue<B>(body: &mut B, grace: Duration) -> Result<(), UploadError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut left = MAX_EPILOGUE_BYTES;
    loop {
        match timeout(grace, body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                left = left
                    .checked_sub(length)
                    .ok_or_else(|| UploadError::Form("goes on behind its end".to_owned()))?;
            }
            Ok(Some(Err(_))) => return Err(UploadError::Broken),
            Err(_) => return Err(UploadError::Stalled(grace.as_secs())),
        }
    }
}

/// The body in single pieces, because the parser buffers all available pieces before it parses them.
struct BodyPieces<'b, B> {
    body: &'b mut B,
    unparsed: Arc<AtomicUsize>,
    /// the last poll returned a piece, so the next one is pending
    gave_piece: bool,
    /// begin of the current pause
    paused_since: Option<Instant>,
    received: RateTracker,
    min_rate: MinRate,
    deadline: Pin<Box<Sleep>>,
}

impl<'b, B> BodyPieces<'b, B> {
    fn new(body: &'b mut B, unparsed: Arc<AtomicUsize>, min_rate: MinRate) -> Self {
        Self {
            body,
            unparsed,
            gave_piece: false,
            paused_since: None,
            received: RateTracker::new(min_rate),
            min_rate,
            deadline: Box::pin(sleep(min_rate.grace)),
        }
    }

    /// A pause begins with the first pending poll, so the time of a slow disk does not count.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyInterrupted>>> {
        let MinRate { grace, rate } = self.min_rate;
        let left = self.received.next_wait();
        if self.paused_since.is_none() {
            let now = Instant::now();
            self.paused_since = Some(now);
            self.deadline.as_mut().reset(now + left);
        }
        self.deadline.as_mut().poll(context).map(|()| {
            Some(Err(if left < grace {
                BodyInterrupted::Slow(rate)
            } else {
                BodyInterrupted::Stalled(grace)
            }))
        })
    }

    fn record_piece(&mut self, piece: &Bytes) {
        self.received.add_bytes(piece.len());
        if let Some(since) = self.paused_since.take() {
            self.received.add_wait(since.elapsed());
        }
    }
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> Stream for BodyPieces<'_, B> {
    type Item = Result<Bytes, BodyInterrupted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.gave_piece) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = match Pin::new(&mut *self.body).poll_frame(context) {
            Poll::Pending => return self.poll_deadline(context),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyInterrupted::Broken))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.gave_piece = true;
        // Trailers are the last frame, and are dropped.
        let Ok(piece) = frame.into_data() else { return Poll::Ready(None) };
        self.record_piece(&piece);
        if self.unparsed.fetch_add(piece.len(), Ordering::Relaxed) > MAX_UNPARSED_BYTES {
            return Poll::Ready(Some(Err(BodyInterrupted::Unparsed)));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

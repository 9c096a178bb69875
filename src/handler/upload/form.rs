//! `multipart/form-data` as it arrives: small fields are kept, the file goes to the spool.

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
use crate::limits::min_rate::MinRate;

const PARTS: usize = 32;
/// Bytes of a field's value.
const VALUE: usize = 64 << 10;
/// Bytes that may pass without the parser getting anywhere: before the first boundary, in the head of a part.
const UNPARSED: usize = 128 << 10;
/// Bytes behind the end of the form.
const EPILOGUE: usize = 64 << 10;

/// Why there are no more pieces of the body. Travels through the parser's own error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum BodyInterrupted {
    #[error("nothing came for {0:?}")]
    Stalled(Duration),
    #[error("less than {0} bytes a second came")]
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
                BodyInterrupted::Stalled(patience) => Self::Stalled(patience.as_secs()),
                BodyInterrupted::Slow(rate) => Self::Slow(*rate),
                BodyInterrupted::Broken => Self::Broken,
                BodyInterrupted::Unparsed => Self::Form("is no multipart form".to_owned()),
            };
        }
        tracing::debug!(%error, "a form cannot be read");
        Self::Form("is malformed or ends early".to_owned())
    }
}

/// The boundary that `Content-Type` names.
pub fn boundary(content_type: Option<&[u8]>) -> Result<String, UploadError> {
    let parameters =
        content_type.and_then(HeaderParameters::parse).filter(|it| it.word == "multipart/form-data");
    let parameters = parameters.ok_or(UploadError::NotMultipart)?;
    let boundary = parameters.value("boundary").filter(|it| (1..=200).contains(&it.len()));
    Ok(boundary.ok_or(UploadError::NotMultipart)?.to_owned())
}

/// What is to be read, and where the file goes.
pub struct FormReader<'r, B> {
    pub body: &'r mut B,
    pub boundary: String,
    /// the part with the file
    pub file_part: &'r str,
    pub fields: FormFields,
    pub room: SpaceClaim,
    /// bytes of the file, where the profile limits them
    pub limit: Option<u64>,
    /// how long the client may send nothing, and how fast it must be on the whole
    pub pace: MinRate,
}

/// A whole form; its fields have the client's file name under the name of the file part.
pub struct UploadForm {
    pub fields: FormFields,
    pub file: SpoolFile,
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> FormReader<'_, B> {
    /// Reads the body to its end.
    pub async fn read(self) -> Result<UploadForm, UploadError> {
        let Self { body, boundary, file_part, mut fields, room, limit, pace } = self;
        let unparsed = Arc::new(AtomicUsize::new(0));
        let mut parts = Multipart::new(BodyPieces::new(body, Arc::clone(&unparsed), pace), boundary);
        let mut room = Some(room);
        let mut file = None;
        let mut count = 0;
        while let Some(mut part) = parts.next_field().await? {
            unparsed.store(0, Ordering::Relaxed);
            count += 1;
            if count > PARTS {
                return Err(UploadError::Form(format!("has more than {PARTS} parts")));
            }
            let disposition = disposition(part.headers())?;
            let name = disposition.value("name").unwrap_or_default();
            if name == file_part {
                fields.add(name, &file_name(&disposition)?)?;
                // Not there any more only for a name that came twice, which `add` has refused.
                let room = room.take().ok_or(UploadError::Broken)?;
                let spool = SpoolWriter::create(room, limit)?;
                file = Some(store(&mut part, spool, &unparsed).await?);
            } else {
                FormFields::check_name(name, &fields)?;
                fields.add(name, &value(&mut part, name, &unparsed).await?)?;
            }
        }
        drop(parts);
        read_epilogue(body, pace.grace).await?;
        let file = file.ok_or_else(|| UploadError::Form(format!("has no file in a part '{file_part}'")))?;
        Ok(UploadForm { fields, file })
    }
}

fn disposition(headers: &HeaderMap) -> Result<HeaderParameters, UploadError> {
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

async fn store(
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

async fn value(part: &mut Field<'_>, name: &str, unparsed: &AtomicUsize) -> Result<String, UploadError> {
    let mut value = Vec::new();
    while let Some(piece) = part.chunk().await? {
        unparsed.store(0, Ordering::Relaxed);
        value.extend_from_slice(&piece);
        if value.len() > VALUE {
            return Err(UploadError::Form(format!("has more than {VALUE} bytes in the field '{name}'")));
        }
    }
    String::from_utf8(value).map_err(|_| UploadError::Form(format!("has no UTF-8 in the field '{name}'")))
}

/// What may stand behind the last boundary means nothing, but a body that ends early there is one given up.
async fn read_epilogue<B>(body: &mut B, patience: Duration) -> Result<(), UploadError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut left = EPILOGUE;
    loop {
        match timeout(patience, body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                left = left
                    .checked_sub(length)
                    .ok_or_else(|| UploadError::Form("goes on behind its end".to_owned()))?;
            }
            Ok(Some(Err(_))) => return Err(UploadError::Broken),
            Err(_) => return Err(UploadError::Stalled(patience.as_secs())),
        }
    }
}

/// The body, one piece at a time: the parser takes in all that it is given before it looks at it.
struct BodyPieces<'b, B> {
    body: &'b mut B,
    unparsed: Arc<AtomicUsize>,
    /// the last poll gave a piece; the next one gives none
    gave: bool,
    /// since when nothing has come
    waits: Option<Instant>,
    /// what all waits before took together
    waited: Duration,
    received: u64,
    pace: MinRate,
    deadline: Pin<Box<Sleep>>,
}

impl<'b, B> BodyPieces<'b, B> {
    fn new(body: &'b mut B, unparsed: Arc<AtomicUsize>, pace: MinRate) -> Self {
        let deadline = Box::pin(sleep(pace.grace));
        Self { body, unparsed, gave: false, waits: None, waited: Duration::ZERO, received: 0, pace, deadline }
    }

    /// Time counts from the first poll that finds nothing, so that a slow disk is not the client's fault.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyInterrupted>>> {
        let left = self.pace.time_for(self.received).map(|time| time.saturating_sub(self.waited));
        let left = left.unwrap_or(Duration::MAX);
        if self.waits.is_none() {
            let now = Instant::now();
            self.waits = Some(now);
            self.deadline.as_mut().reset(now + left.min(self.pace.grace));
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) if left < self.pace.grace => {
                Poll::Ready(Some(Err(BodyInterrupted::Slow(self.pace.rate))))
            }
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyInterrupted::Stalled(self.pace.grace)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn note(&mut self, piece: &Bytes) {
        self.received += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if let Some(since) = self.waits.take() {
            self.waited += since.elapsed();
        }
    }
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> Stream for BodyPieces<'_, B> {
    type Item = Result<Bytes, BodyInterrupted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.gave) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = match Pin::new(&mut *self.body).poll_frame(context) {
            Poll::Pending => return self.poll_deadline(context),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyInterrupted::Broken))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.gave = true;
        // Trailers come last and mean nothing here.
        let Ok(piece) = frame.into_data() else { return Poll::Ready(None) };
        self.note(&piece);
        if self.unparsed.fetch_add(piece.len(), Ordering::Relaxed) > UNPARSED {
            return Poll::Ready(Some(Err(BodyInterrupted::Unparsed)));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

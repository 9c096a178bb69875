//! The answer with a file: its coding, its range, or 304.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    LAST_MODIFIED, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::conditional::{ByteExtent, Validators};
use super::contents::ContentCache;
use super::open::FoundFile;
use super::stream::FileBody;
use super::{LocatedFile, StaticError};
use crate::http::body::{ResponseBody, empty, full};
use crate::http::compression::{ContentCoding, negotiate_own};

/// Compression of a smaller file saves almost nothing.
const MIN_COMPRESSED_BYTES: u64 = 1025;

/// Compression of a larger file takes too much time, and too much memory of the content cache.
const MAX_COMPRESSED_BYTES: u64 = 32 << 20;

/// Larger files are streamed instead of cached.
const MAX_CACHED_BYTES: u64 = 1 << 20;

/// One request for an existing file.
pub(super) struct FileExchange<'r> {
    pub(super) located: &'r LocatedFile,
    pub(super) found: FoundFile,
    pub(super) method_is_head: bool,
    pub(super) headers: &'r HeaderMap,
    pub(super) now: SystemTime,
}

impl FileExchange<'_> {
    /// A range is a part of the uncompressed file, and only GET has one (RFC 9110, section 14.2).
    pub(super) async fn answer(
        &self,
        contents: &ContentCache,
    ) -> Result<Response<ResponseBody>, StaticError> {
        self.verify_preconditions()?;
        let is_ranged = !self.method_is_head && self.headers.contains_key(RANGE);
        if !is_ranged
            && let Some(coding) = self.negotiate_coding()
            && let Some(response) = self.answer_coded(coding, contents).await?
        {
            return Ok(response);
        }
        self.answer_plain(contents).await
    }

    /// A client that has the file in any coding has this version.
    fn verify_preconditions(&self) -> Result<(), StaticError> {
        let codings = [None, self.negotiate_coding()];
        let are_unwanted = |coding| self.validators(coding).are_unwanted(self.headers);
        if codings.into_iter().all(are_unwanted) { Err(StaticError::PreconditionFailed) } else { Ok(()) }
    }

    fn negotiate_coding(&self) -> Option<ContentCoding> {
        let is_size = (MIN_COMPRESSED_BYTES..=MAX_COMPRESSED_BYTES).contains(&self.found.version.size);
        if self.located.varies && is_size { negotiate_own(self.headers) } else { None }
    }

    /// `None` if the file is no smaller in this coding.
    async fn answer_coded(
        &self,
        coding: ContentCoding,
        contents: &ContentCache,
    ) -> Result<Option<Response<ResponseBody>>, StaticError> {
        let validators = self.validators(Some(coding));
        // A client with this tag got this coding before, so 304 needs no compression.
        if validators.are_listed(self.headers) {
            return Ok(Some(self.not_modified(&validators)));
        }
        let coded = contents.coded(&self.found, coding).await;
        let Some(bytes) = coded.map_err(StaticError::Unreadable)? else {
            return Ok(None);
        };
        if validators.satisfy(self.headers) {
            return Ok(Some(self.not_modified(&validators)));
        }
        let length = HeaderValue::from(bytes.len());
        let body = if self.method_is_head { empty() } else { full(bytes) };
        let mut response = self.found(StatusCode::OK, &validators, length, body);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        Ok(Some(response))
    }

    async fn answer_plain(&self, contents: &ContentCache) -> Result<Response<ResponseBody>, StaticError> {
        let validators = self.validators(None);
        if validators.satisfy(self.headers) {
            return Ok(self.not_modified(&validators));
        }
        let size = self.found.version.size;
        if self.method_is_head {
            return Ok(self.found(StatusCode::OK, &validators, size.into(), empty()));
        }
        let (status, Range { start, end }) = match validators.find_extent(self.headers, size) {
            ByteExtent::Whole => (StatusCode::OK, 0..size),
            ByteExtent::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            ByteExtent::Unsatisfiable => return Err(StaticError::RangeNotSatisfiable { size }),
        };
        let body = self.body(start..end, contents).await.map_err(StaticError::Unreadable)?;
        let mut response = self.found(status, &validators, (end - start).into(), body);
        if status == StatusCode::PARTIAL_CONTENT {
            set(response.headers_mut(), CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
        }
        Ok(response)
    }

    /// The bytes of `range`, which is within the file.
    async fn body(&self, range: Range<u64>, contents: &ContentCache) -> io::Result<ResponseBody> {
        if self.found.version.size > MAX_CACHED_BYTES {
            return Ok(ResponseBody::streamed(FileBody::new(Arc::clone(self.found.file()?), range)));
        }
        let kept = contents.plain(&self.found).await?;
        slice(&kept, &range).map(full)
    }

    fn validators(&self, coding: Option<ContentCoding>) -> Validators {
        Validators::new(&self.found.version, coding, self.now)
    }

    fn found(
        &self,
        status: StatusCode,
        validators: &Validators,
        length: HeaderValue,
        body: ResponseBody,
    ) -> Response<ResponseBody> {
        let mut response = self.respond(status, validators, body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.located.content_type.clone());
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }

    /// RFC 9110, section 15.4.5.
    fn not_modified(&self, validators: &Validators) -> Response<ResponseBody> {
        self.respond(StatusCode::NOT_MODIFIED, validators, empty())
    }

    fn respond(
        &self,
        status: StatusCode,
        validators: &Validators,
        body: ResponseBody,
    ) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        set(headers, ETAG, &validators.tag);
        if let Some(modified) = validators.modified {
            set(headers, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        if self.located.varies {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }
}

/// The callers format `text` from visible ASCII, so it is always a valid value.
fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// A part of `bytes`, in shared memory.
fn slice(bytes: &Bytes, range: &Range<u64>) -> io::Result<Bytes> {
    let start = usize::try_from(range.start).map_err(io::Error::other)?;
    let end = usize::try_from(range.end).map_err(io::Error::other)?;
    let part = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(bytes.slice_ref(part))
}

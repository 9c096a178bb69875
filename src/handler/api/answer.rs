//! The daemon's answer as the client gets it.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, DATE, EXPIRES, LOCATION, PRAGMA, SERVER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use smallvec::SmallVec;

use super::request::DownloadSource;
use crate::handler::download;
use crate::handler::page_title::PageTitle;
use crate::handler::spice_proxy_rewrite::AdvertisedProxy;
use crate::http::body::{self, ResponseBody};
use crate::http::error::ResponseError;
use crate::http::logged_body::FileAnswer;
use crate::state::shared::AppState;
use crate::upstream::client::{READ_BYTES, UpstreamClient, UpstreamResponse};

/// Headers that nodegate sets itself in every answer.
const REPLACED_HEADERS: [HeaderName; 5] = [DATE, SERVER, EXPIRES, CACHE_CONTROL, PRAGMA];

/// Bytes of an answer that are buffered.
#[derive(Clone, Copy)]
pub(super) struct AnswerBounds {
    /// An answer up to this length is read whole before its head is sent. If the daemon fails in the middle, the client
    /// gets a clean error.
    pub(super) whole: usize,
    /// for longer answers
    pub(super) piece: usize,
    /// an answer longer than `whole` is an error
    pub(super) is_limit: bool,
}

impl AnswerBounds {
    fn reads_whole(self, length: Option<u64>) -> bool {
        let fits = |length| usize::try_from(length).is_ok_and(|length| length <= self.whole);
        self.is_limit || length.is_some_and(fits)
    }
}

/// The rewrites of one answer.
#[derive(Clone, Copy, Default)]
pub(super) struct AnswerRewrites<'h> {
    pub(super) proxy: Option<&'h AdvertisedProxy>,
    pub(super) title: Option<&'h PageTitle>,
}

impl AnswerRewrites<'_> {
    pub(super) fn is_none(self) -> bool {
        self.proxy.is_none() && self.title.is_none()
    }

    fn rewrite(self, answer: Bytes) -> Bytes {
        let answer = match self.proxy {
            Some(proxy) => proxy.rewrite(answer),
            None => answer,
        };
        match self.title {
            Some(title) => title.rewrite(answer),
            None => answer,
        }
    }
}

/// Forwards one answer of `upstream` within bounds.
pub struct AnswerForwarder<'a> {
    pub(super) state: &'a AppState,
    pub(super) upstream: &'a UpstreamClient,
    pub(super) rewrites: AnswerRewrites<'a>,
    pub(super) bounds: AnswerBounds,
}

impl<'a> AnswerForwarder<'a> {
    /// A forwarder that rewrites nothing.
    pub fn new(state: &'a AppState, upstream: &'a UpstreamClient) -> Self {
        let bounds = AnswerBounds { whole: READ_BYTES, piece: READ_BYTES, is_limit: false };
        Self { state, upstream, rewrites: AnswerRewrites::default(), bounds }
    }

    /// The answer to the call of `source`.
    pub async fn forward(
        self,
        source: DownloadSource<'_>,
        answer: UpstreamResponse,
    ) -> Result<Response<ResponseBody>, ResponseError> {
        let Self { state, upstream, mut rewrites, bounds } = self;
        let UpstreamResponse { response, body: mut incoming, started } = answer;
        let (mut head, ()) = response.into_parts();
        if !upstream.is_local() && state.header_names.is_stream(&head.headers) {
            return Err(ResponseError::ForeignStream);
        }
        if head.status.is_informational() {
            return Err(upstream.invalid_response(started).into());
        }
        let named = download::open_named_file(state, source, &mut head)?;
        if named.is_some() || is_file(source, &head.headers) {
            head.extensions.insert(FileAnswer);
        }
        remove_own_headers(state, &mut head.headers);
        let is_plain = !head.headers.contains_key(CONTENT_ENCODING);
        rewrites.title = rewrites.title.filter(|_| is_plain);
        rewrites.proxy = rewrites.proxy.filter(|_| is_plain && head.status.is_success());
        let body = if let Some(named) = named {
            named
        } else if bounds.reads_whole(incoming.length()) {
            let whole = upstream.read_whole(&mut incoming, bounds.whole, started).await?;
            body::full(rewrites.rewrite(whole))
        } else {
            let pieces = incoming.with_read_bytes(bounds.piece);
            match rewrites.title {
                Some(title) => ResponseBody::streamed(title.rewrite_stream(pieces)),
                None => ResponseBody::streamed(pieces),
            }
        };
        head.version = Version::default(); // not the daemon's version
        Ok(Response::from_parts(head, body))
    }
}

/// Whether the daemon sends a file: the method may send files, and the answer is an attachment or lacks the headers
/// against caches.
fn is_file(source: DownloadSource<'_>, headers: &HeaderMap) -> bool {
    let looks_like_file = !headers.contains_key(CACHE_CONTROL) || headers.contains_key(CONTENT_DISPOSITION);
    looks_like_file && source.sends_files
}

/// Removes the headers that nodegate sets itself, and the daemon's own address.
fn remove_own_headers(state: &AppState, headers: &mut HeaderMap) {
    // Most are absent, and one pass over the names costs less than five look-ups.
    let present: SmallVec<[_; 5]> =
        REPLACED_HEADERS.iter().filter(|name| headers.keys().any(|known| known == *name)).collect();
    for name in present {
        headers.remove(name);
    }
    if let Some(name) = &state.header_names.stream {
        headers.remove(name);
    }
    let stripped = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .zip(state.header_names.location_prefix.as_deref())
        .and_then(|(location, prefix)| location.strip_prefix(prefix))
        .filter(|rest| rest.starts_with('/'))
        .and_then(|rest| HeaderValue::try_from(rest).ok());
    if let Some(location) = stripped {
        headers.insert(LOCATION, location);
    }
}

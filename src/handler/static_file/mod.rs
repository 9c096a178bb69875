//! Static files: the file that a path means, and the answer with it.
//!
//! Two checks limit the files that a request can name. [`StaticFiles::locate`] accepts only simple names, and opening
//! rejects every path that leads out of the directory.

mod answer;
mod conditional;
mod contents;
mod open;
pub(super) mod stream;
#[cfg(test)]
mod tests;
mod types;
pub mod versioned;

use std::cmp::Reverse;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Response};
use quick_cache::sync::Cache;

use self::answer::FileExchange;
use self::contents::ContentCache;
use self::open::{FoundFile, SeenFile};
use crate::config::product::{DirectoryRules, SingleFile};
use crate::http::body::ResponseBody;
use crate::http::error::ResponseError;
use crate::os::log_limit::{self, LogTopic};

/// The reason why there is no file. It names no path, so the client may see it.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// Missing, no regular file, or a link that leads out: 404.
    #[error("no such file")]
    NotFound,
    /// It exists and cannot be read: 500.
    #[error("unable to read file")]
    Unreadable(#[source] io::Error),
    /// 416, with `Content-Range: bytes */SIZE` (RFC 9110, section 15.5.17).
    #[error("range not satisfiable")]
    RangeNotSatisfiable { size: u64 },
    /// Another version than the client wants: 412 (RFC 9110, section 13.1).
    #[error("another version of the file is here")]
    PreconditionFailed,
}

/// The error of a request for a file.
#[derive(Debug)]
pub struct FileRequestError {
    /// of the request
    path: String,
    reason: StaticError,
}

impl From<FileRequestError> for ResponseError {
    fn from(FileRequestError { path, reason }: FileRequestError) -> Self {
        match reason {
            StaticError::NotFound => Self::NotFound(path),
            StaticError::RangeNotSatisfiable { size } => Self::Range { size },
            StaticError::PreconditionFailed => Self::PreconditionFailed,
            StaticError::Unreadable(_) => Self::Internal("the file cannot be read".to_owned()),
        }
    }
}

/// A file that may exist, and how to send it.
#[derive(Clone, Debug)]
pub struct LocatedFile {
    origin: Arc<FileOrigin>,
    name: FileName,
    content_type: HeaderValue,
    /// Whether the answer depends on `Accept-Encoding`.
    varies: bool,
}

/// The key of a file in the caches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileName {
    /// Index of its origin.
    origin: usize,
    /// Below the directory; empty for a single file.
    relative: String,
}

#[derive(Debug)]
enum FileOrigin {
    Directory(DirectoryRules),
    File(SingleFile),
}

impl LocatedFile {
    /// The URL of its directory or of itself, as in the profile.
    pub fn url(&self) -> &str {
        self.origin.url()
    }

    /// The path of a request for it.
    fn request_path(&self) -> String {
        format!("{}{}", self.url(), self.name.relative)
    }

    /// The file's path on disk.
    pub fn path(&self) -> PathBuf {
        match &*self.origin {
            FileOrigin::Directory(directory) => directory.path.join(&self.name.relative),
            FileOrigin::File(file) => file.path.clone(),
        }
    }
}

/// All files that a product serves, with the caches of their states and contents.
pub struct StaticFiles {
    /// The longest URL first.
    origins: Vec<Arc<FileOrigin>>,
    compression_enabled: bool,
    seen: Cache<FileName, Arc<SeenFile>>,
    contents: ContentCache,
}

/// Files whose last state is cached.
const MAX_SEEN_FILES: usize = 1024;

impl StaticFiles {
    pub fn new(directories: Vec<DirectoryRules>, files: Vec<SingleFile>, compression_enabled: bool) -> Self {
        let files = files.into_iter().map(FileOrigin::File);
        let origins = files.chain(directories.into_iter().map(FileOrigin::Directory));
        let mut origins: Vec<_> = origins.map(Arc::new).collect();
        origins.sort_by_key(|origin| Reverse(origin.url().len()));
        let (seen, contents) = (Cache::new(MAX_SEEN_FILES), ContentCache::new());
        Self { origins, compression_enabled, seen, contents }
    }

    /// The file of the longest URL with which `path` begins. Reads no disk.
    ///
    /// `path` was percent-decoded once and is not trusted. `None` is no static file: 404.
    pub fn locate(&self, path: &str) -> Option<LocatedFile> {
        let mut origins = self.origins.iter().enumerate();
        let (index, origin, relative) =
            origins.find_map(|(index, origin)| origin.relative(path).map(|rest| (index, origin, rest)))?;
        let name = match &**origin {
            FileOrigin::Directory(_) => relative.split('/').all(is_simple_name).then_some(relative)?,
            FileOrigin::File(_) => path,
        };
        let (content_type, compresses) = types::of_name(name);
        Some(LocatedFile {
            origin: Arc::clone(origin),
            name: FileName { origin: index, relative: relative.to_owned() },
            content_type: HeaderValue::from_static(content_type),
            varies: self.compression_enabled && compresses,
        })
    }

    /// The answer to a GET or HEAD for `located`: 200, 206 or 304. The caller adds the headers of all answers.
    ///
    /// # Errors
    /// There is no such file or range, or the file is unreadable; then the log has the reason.
    pub async fn serve(
        &self,
        located: &LocatedFile,
        method_is_head: bool,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, FileRequestError> {
        self.respond(located, method_is_head, headers).await.map_err(|reason| {
            let path = located.request_path();
            if let StaticError::Unreadable(error) = &reason {
                let message = format_args!("the static file of '{path}' cannot be read: {error}");
                log_limit::warn(LogTopic::Fault, &path, &message);
            }
            FileRequestError { path, reason }
        })
    }

    async fn respond(
        &self,
        located: &LocatedFile,
        method_is_head: bool,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, StaticError> {
        let now = SystemTime::now();
        let answer = async |found| {
            FileExchange { located, found, method_is_head, headers, now }.answer(&self.contents).await
        };
        // An unchanged file is opened only if its contents are not cached.
        if let Some(found) = self.seen.get(&located.name).and_then(|seen| seen.find_unchanged())
            && let Ok(response) = answer(found).await
        {
            return Ok(response);
        }
        let found = FoundFile::open(&located.origin, &located.name.relative)?;
        self.seen.insert(located.name.clone(), Arc::new(SeenFile::new(located.path(), found.version)));
        answer(found).await
    }
}

impl FileOrigin {
    /// The part of `path` behind this origin's URL. `None` if `path` has another URL.
    fn relative<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self {
            Self::Directory(directory) => path.strip_prefix(directory.url.as_str()),
            Self::File(single) => (path == single.url).then_some(""),
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Directory(directory) => &directory.url,
            Self::File(single) => &single.url,
        }
    }
}

/// Letters, digits, `.`, `_`, `-`, without a leading dot: no hidden file, no `.` and no `..`.
fn is_simple_name(name: &str) -> bool {
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_simple)
}

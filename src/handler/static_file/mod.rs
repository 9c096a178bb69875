//! Files from disk: which one a path means, and the answer with it.
//!
//! What a request can name is limited twice: [`StaticFiles::locate`] takes only simple names, and opening
//! refuses whatever leads out of the directory.

mod answer;
mod conditional;
mod contents;
mod open;
pub(super) mod stream;
#[cfg(test)]
mod tests;
pub mod types;

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
use crate::http::body::ResponseBody;

/// A URL prefix and the directory whose files it stands for, those of subdirectories included.
#[derive(Clone, Debug)]
pub struct StaticDirectory {
    /// Begins and ends with `/`.
    pub url: String,
    /// On disk, as seen by this process.
    pub path: PathBuf,
    /// Other directories into which symbolic links may lead out of `path`.
    pub links: Vec<PathBuf>,
}

/// One URL and the file that it stands for; links on its way are followed, wherever they lead.
#[derive(Clone, Debug)]
pub struct SingleFile {
    pub url: String,
    pub path: PathBuf,
}

/// What the ending of a name says about a file.
#[derive(Clone, Debug)]
pub struct FileType {
    /// Without the dot; compared without regard to case.
    pub ending: String,
    pub content_type: HeaderValue,
    /// Whether compressing such files pays.
    pub compress: bool,
}

/// Why there is no file to send. Names no path, so it may be shown.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// Missing, a directory, something special, or a link that leads out: 404.
    #[error("no such file")]
    NotFound,
    /// There, but it could not be read: 500.
    #[error("unable to read file")]
    Unreadable(#[source] io::Error),
    /// 416, with `Content-Range: bytes */SIZE` (RFC 9110, section 15.5.17).
    #[error("range not satisfiable")]
    RangeNotSatisfiable { size: u64 },
}

/// A file that may exist, and how to send it.
#[derive(Clone, Debug)]
pub struct LocatedFile {
    origin: Arc<FileOrigin>,
    name: FileName,
    content_type: HeaderValue,
    /// Whether the answer depends on what codings the client accepts.
    varies: bool,
}

/// Which file of which origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileName {
    /// Its place among the origins.
    origin: usize,
    /// Below the directory; empty for a single file.
    relative: String,
}

#[derive(Debug)]
enum FileOrigin {
    Directory(StaticDirectory),
    File(SingleFile),
}

impl LocatedFile {
    /// The URL of the directory it lies in, or its own, as the profile has it.
    pub fn url(&self) -> &str {
        self.origin.url()
    }

    /// Where the file would lie on disk.
    pub fn path(&self) -> PathBuf {
        match &*self.origin {
            FileOrigin::Directory(directory) => directory.path.join(&self.name.relative),
            FileOrigin::File(file) => file.path.clone(),
        }
    }
}

/// All files that a product serves, and the memory of those sent lately.
pub struct StaticFiles {
    /// The longest URL first.
    origins: Vec<Arc<FileOrigin>>,
    types: Vec<FileType>,
    compression_enabled: bool,
    seen: Cache<FileName, Arc<SeenFile>>,
    contents: ContentCache,
}

/// Files whose state is looked at before they are opened.
const SEEN: usize = 1024;

impl StaticFiles {
    pub fn new(
        directories: Vec<StaticDirectory>,
        files: Vec<SingleFile>,
        types: Vec<FileType>,
        compression_enabled: bool,
    ) -> Self {
        let files = files.into_iter().map(FileOrigin::File);
        let origins = files.chain(directories.into_iter().map(FileOrigin::Directory));
        let mut origins: Vec<_> = origins.map(Arc::new).collect();
        origins.sort_by_key(|origin| Reverse(origin.url().len()));
        let (seen, contents) = (Cache::new(SEEN), ContentCache::new());
        Self { origins, types, compression_enabled, seen, contents }
    }

    /// The file that `path` means, by the longest URL that it begins with. Looks at no disk.
    ///
    /// `path` has been percent-decoded once and may hold anything. `None`: it is no static file's, 404.
    pub fn locate(&self, path: &str) -> Option<LocatedFile> {
        let mut origins = self.origins.iter().enumerate();
        let (index, origin, relative) =
            origins.find_map(|(index, origin)| origin.relative(path).map(|rest| (index, origin, rest)))?;
        let name = match &**origin {
            FileOrigin::Directory(_) => relative.split('/').all(is_simple_name).then_some(relative)?,
            FileOrigin::File(_) => path,
        };
        let file_type = self.file_type(name);
        let octets = || HeaderValue::from_static("application/octet-stream");
        Some(LocatedFile {
            origin: Arc::clone(origin),
            name: FileName { origin: index, relative: relative.to_owned() },
            content_type: file_type.map_or_else(octets, |known| known.content_type.clone()),
            varies: self.compression_enabled && file_type.is_some_and(|known| known.compress),
        })
    }

    fn file_type(&self, name: &str) -> Option<&FileType> {
        let (_, ending) = name.rsplit_once('.')?;
        self.types.iter().find(|known| known.ending.eq_ignore_ascii_case(ending))
    }

    /// The answer to a GET or HEAD for `located`: 200, 206 or 304.
    ///
    /// The caller adds what all answers have, and answers the errors.
    pub async fn serve(
        &self,
        located: &LocatedFile,
        method_is_head: bool,
        headers: &HeaderMap,
    ) -> Result<Response<ResponseBody>, StaticError> {
        let now = SystemTime::now();
        let answer = async |found| {
            FileExchange { located, found, method_is_head, headers, now }.answer(&self.contents).await
        };
        // A file that is the same as before needs opening only if its contents are not kept.
        if let Some(found) = self.seen.get(&located.name).and_then(|seen| seen.find_again())
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
    /// What follows this origin's URL in `path`; `None` if `path` lies elsewhere.
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

/// Letters, digits, `.`, `_`, `-`; no hidden file, hence neither `.` nor `..`.
fn is_simple_name(name: &str) -> bool {
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_simple)
}

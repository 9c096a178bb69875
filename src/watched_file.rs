//! A small file that others rewrite while we run (keys, secrets, the list of nodes): looked at on each use, parsed
//! again only when it changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A file system's clock may tick this coarsely: a file changed so recently may change again unseen.
const CLOCK_TICK: Duration = Duration::from_secs(2);
/// None of these files is larger; more is not read.
const SIZE_LIMIT: u64 = 1 << 20;

/// The last good contents of one file.
pub struct WatchedFile<T> {
    path: PathBuf,
    parse: fn(&[u8]) -> Result<T, String>,
    always_read: bool,
    last: Mutex<Option<Reading<T>>>,
}

struct Reading<T> {
    stamp: Stamp,
    bytes: Vec<u8>,
    value: Arc<T>,
    /// when it was read, to know whether the stamp can be trusted
    settled: bool,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    size: u64,
    inode: u64,
}

/// Parsed contents, and when the file was last written.
pub struct Snapshot<T> {
    pub value: Arc<T>,
    pub modified: SystemTime,
}

/// Why the file is of no use now. Never holds any of its contents.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: Arc<io::Error> },
    #[error("{}: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
}

impl FileError {
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl<T> WatchedFile<T> {
    /// Parses again when size, inode or time of change differ.
    pub fn new(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        Self { path, parse, always_read: false, last: Mutex::new(None) }
    }

    /// Parses again when the bytes differ: for files whose time of change lies.
    pub fn by_content(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        Self { always_read: true, ..Self::new(path, parse) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents as of now.
    pub fn current(&self) -> Result<Snapshot<T>, FileError> {
        let unreadable = |source| FileError::Unreadable { path: self.path.clone(), source: Arc::new(source) };
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        let stamp = Stamp::of(&metadata);
        let modified = metadata.modified().map_err(unreadable)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.always_read
            && let Some(reading) = last.as_ref()
            && reading.settled
            && reading.stamp == stamp
        {
            return Ok(Snapshot { value: Arc::clone(&reading.value), modified });
        }
        let bytes = read_bounded(&self.path).map_err(unreadable)?;
        let value = match last.as_ref() {
            Some(reading) if reading.bytes == bytes => Arc::clone(&reading.value),
            _ => Arc::new(
                (self.parse)(&bytes)
                    .map_err(|message| FileError::Malformed { path: self.path.clone(), message })?,
            ),
        };
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > CLOCK_TICK);
        *last = Some(Reading { stamp, bytes, value: Arc::clone(&value), settled });
        Ok(Snapshot { value, modified })
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            size: metadata.size(),
            inode: metadata.ino(),
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SIZE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn length(bytes: &[u8]) -> Result<String, String> {
        if bytes.is_empty() { Err("empty".into()) } else { Ok(String::from_utf8_lossy(bytes).into_owned()) }
    }

    #[test]
    fn a_change_of_the_same_size_is_seen_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = WatchedFile::new(path.clone(), length);
        for contents in ["one", "two", "six"] {
            std::fs::write(&path, contents).unwrap();
            assert_eq!(*file.current().unwrap().value, contents);
        }
    }

    #[test]
    fn an_unchanged_old_file_is_not_parsed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "one").unwrap();
        let old = SystemTime::now() - Duration::from_hours(1);
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
        let file = WatchedFile::new(path, length);
        let first = file.current().unwrap().value;
        assert!(Arc::ptr_eq(&first, &file.current().unwrap().value));
    }

    #[test]
    fn missing_and_malformed_files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = WatchedFile::new(path.clone(), length);
        assert!(file.current().err().unwrap().is_missing());
        std::fs::write(&path, "").unwrap();
        assert!(!file.current().err().unwrap().is_missing());
    }
}

//! Distinguishes versions of a file without reading it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// One version of one file: two equal versions have the same contents.
///
/// The change time differs where the modification time does not: packages that are built reproducibly give files of
/// different releases the same modification time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileVersion {
    /// bytes
    pub size: u64,
    pub modified: FileTime,
    changed: FileTime,
    device: u64,
    inode: u64,
}

/// Seconds and nanoseconds since 1970; seconds may be negative.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileTime {
    pub seconds: i64,
    pub nanoseconds: i64,
}

impl FileVersion {
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: FileTime { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() },
            changed: FileTime { seconds: metadata.ctime(), nanoseconds: metadata.ctime_nsec() },
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether `file` has not been written to since. A new link changes its change time, not its contents.
    ///
    /// # Errors
    ///
    /// The metadata of the file cannot be read.
    pub fn is_current(&self, file: &File) -> io::Result<bool> {
        let now = Self::new(&file.metadata()?);
        Ok(now.size == self.size && now.modified == self.modified)
    }
}

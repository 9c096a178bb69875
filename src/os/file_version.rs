//! Distinguishes versions of a file without reading it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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
    identity: FileIdentity,
}

/// Tells a file from all others that exist.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub fn new(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A file that this process made. Dropping it removes the file, unless another process has replaced it.
pub struct OwnFile {
    path: PathBuf,
    identity: FileIdentity,
}

impl OwnFile {
    pub fn new(path: PathBuf) -> io::Result<Self> {
        let identity = FileIdentity::new(&fs::symlink_metadata(&path)?);
        Ok(Self { path, identity })
    }

    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| FileIdentity::new(&there) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
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
            identity: FileIdentity::new(metadata),
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

//! Opens a file that a request names, without ever leaving the directories that were set up for it.

use std::fs::{self, File, Metadata};
use std::io;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

use super::{FileOrigin, StaticDirectory, StaticError};

/// Without `O_NONBLOCK`, opening a FIFO would wait for a writer.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// What the client is told does not exist: names that lead nowhere, out, or to something that is no file.
const ABSENT: [Errno; 7] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::ENAMETOOLONG,
    Errno::ELOOP,
    Errno::EXDEV,
    Errno::ENXIO,
    Errno::ENODEV,
];

/// A regular file that a request may have, in the state in which it was found.
pub(super) struct FoundFile {
    /// Open for reading; `None` if only its state was looked at.
    pub(super) file: Option<Arc<File>>,
    pub(super) version: FileVersion,
}

/// A file that could be opened once, by its path.
pub(super) struct SeenFile {
    path: PathBuf,
    version: FileVersion,
}

/// One state of one file: two equal versions have the same contents.
///
/// The change time tells apart what the modification time cannot: packages built reproducibly give files of
/// different releases the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileVersion {
    /// Bytes.
    pub(super) size: u64,
    pub(super) modified: FileTime,
    changed: FileTime,
    device: u64,
    inode: u64,
}

/// Seconds and nanoseconds since 1970; seconds may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileTime {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

impl FileVersion {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: FileTime { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() },
            changed: FileTime { seconds: metadata.ctime(), nanoseconds: metadata.ctime_nsec() },
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether `file` has not been written to since. (A new link changes its change time, not its contents.)
    pub(super) fn is_current(&self, file: &File) -> io::Result<bool> {
        let now = Self::of(&file.metadata()?);
        Ok(now.size == self.size && now.modified == self.modified)
    }
}

impl SeenFile {
    pub(super) fn new(path: PathBuf, version: FileVersion) -> Self {
        Self { path, version }
    }

    /// The file, if its path still leads to it and nobody has touched it. Whatever way there is now, these contents
    /// were this path's before.
    pub(super) fn find_again(&self) -> Option<FoundFile> {
        let version = FileVersion::of(&fs::metadata(&self.path).ok()?);
        (version == self.version).then_some(FoundFile { file: None, version })
    }
}

impl FoundFile {
    /// The open file; an error if it is not.
    pub(super) fn file(&self) -> io::Result<&Arc<File>> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// `relative` consists of simple names, or is empty where the origin is a file itself.
    ///
    /// Blocks for the few system calls that opening takes.
    pub(super) fn open(origin: &FileOrigin, relative: &str) -> Result<Self, StaticError> {
        let opened = match origin {
            FileOrigin::Directory(directory) => open_beneath(directory, relative),
            FileOrigin::File(single) => open_plainly(&single.path, OFlag::empty()),
        };
        let file = opened.map_err(|error| {
            if ABSENT.contains(&error) {
                StaticError::NotFound
            } else {
                StaticError::Unreadable(error.into())
            }
        })?;
        let metadata = file.metadata().map_err(StaticError::Unreadable)?;
        if !metadata.is_file() {
            return Err(StaticError::NotFound);
        }
        let version = FileVersion::of(&metadata);
        Ok(Self { file: Some(Arc::new(file)), version })
    }
}

/// The directory is opened anew each time, so that replacing it takes effect.
fn open_beneath(directory: &StaticDirectory, relative: &str) -> nix::Result<File> {
    let path_only = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = fcntl::open(&directory.path, path_only, Mode::empty())?;
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match fcntl::openat2(&root, relative, OpenHow::new().flags(READ).resolve(inside)) {
        Ok(file) => Ok(File::from(file)),
        // A link that leads out or is absolute; a rename while `..` of a link was resolved; a kernel without
        // the call, or a container that forbids it.
        Err(Errno::EXDEV | Errno::EAGAIN | Errno::ENOSYS | Errno::EPERM) => {
            open_resolved(directory, relative)
        }
        Err(error) => Err(error),
    }
}

/// Follows every link first, then asks whether the end lies where it may; `EXDEV` if not.
///
/// Between the two somebody who may write there could exchange a directory: only root may, in the directories
/// that packages install.
fn open_resolved(directory: &StaticDirectory, relative: &str) -> nix::Result<File> {
    let target = directory.path.join(relative).canonicalize().map_err(errno)?;
    let mut allowed = iter::once(&directory.path).chain(&directory.links);
    let is_inside = |root: &Path| root.canonicalize().is_ok_and(|root| target.starts_with(root));
    if !allowed.any(|root| is_inside(root)) {
        return Err(Errno::EXDEV);
    }
    open_plainly(&target, OFlag::O_NOFOLLOW)
}

fn open_plainly(path: &Path, more: OFlag) -> nix::Result<File> {
    fcntl::open(path, READ | more, Mode::empty()).map(File::from)
}

fn errno(error: io::Error) -> Errno {
    Errno::try_from(error).unwrap_or(Errno::EIO)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing test may panic")]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn without_openat2_the_same_files_are_reachable() {
        let tree = TempDir::new().unwrap();
        let path = tree.path().join("root");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("real.js"), "x").unwrap();
        fs::write(tree.path().join("secret"), "x").unwrap();
        symlink("real.js", path.join("inside.js")).unwrap();
        symlink("../secret", path.join("outside.js")).unwrap();
        let directory = StaticDirectory { url: "/x/".to_owned(), path, links: Vec::new() };

        for open in [open_beneath, open_resolved] {
            assert!(open(&directory, "real.js").is_ok());
            assert!(open(&directory, "inside.js").is_ok());
            assert_eq!(open(&directory, "outside.js").unwrap_err(), Errno::EXDEV);
            assert_eq!(open(&directory, "none.js").unwrap_err(), Errno::ENOENT);
        }
    }
}

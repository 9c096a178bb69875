//! Opens a file that a request names, only inside of the profile's directories.

use std::fs::{self, File};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

use super::{FileOrigin, StaticError};
use crate::config::product::DirectoryRules;
use crate::os::file_version::FileVersion;

/// Without `O_NONBLOCK`, opening a FIFO would wait for a writer.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// Errors that mean 404: no such file, a path that leads out, or no regular file.
const ABSENT: [Errno; 7] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::ENAMETOOLONG,
    Errno::ELOOP,
    Errno::EXDEV,
    Errno::ENXIO,
    Errno::ENODEV,
];

/// A regular file that a request may read, and its version.
pub(super) struct FoundFile {
    /// Open for reading. `None` if only its version was read.
    pub(super) file: Option<Arc<File>>,
    pub(super) version: FileVersion,
}

/// A file that was opened before, by its path.
pub(super) struct SeenFile {
    path: PathBuf,
    version: FileVersion,
}

impl SeenFile {
    pub(super) fn new(path: PathBuf, version: FileVersion) -> Self {
        Self { path, version }
    }

    /// The file, if its path still leads to this version. The symbolic links may have changed, but a check has allowed
    /// these contents for this path before.
    pub(super) fn find_unchanged(&self) -> Option<FoundFile> {
        let version = FileVersion::new(&fs::metadata(&self.path).ok()?);
        (version == self.version).then_some(FoundFile { file: None, version })
    }
}

impl FoundFile {
    /// The open file.
    ///
    /// # Errors
    /// The file is not open.
    pub(super) fn file(&self) -> io::Result<&Arc<File>> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Opens a file. `relative` has only simple names, or is empty if the origin is a single file.
    ///
    /// Blocks for a few system calls.
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
        let version = FileVersion::new(&metadata);
        Ok(Self { file: Some(Arc::new(file)), version })
    }
}

/// Opens the directory for each file, so that a replaced directory takes effect.
fn open_beneath(directory: &DirectoryRules, relative: &str) -> nix::Result<File> {
    let path_only = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = fcntl::open(&directory.path, path_only, Mode::empty())?;
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match fcntl::openat2(&root, relative, OpenHow::new().flags(READ).resolve(inside)) {
        Ok(file) => Ok(File::from(file)),
        // EXDEV: a link leads out or is absolute. EAGAIN: a rename while `..` was resolved. Otherwise the kernel lacks
        // the call, or a container forbids it.
        Err(Errno::EXDEV | Errno::EAGAIN | Errno::ENOSYS | Errno::EPERM) => {
            open_resolved(directory, relative)
        }
        Err(error) => Err(error),
    }
}

/// Resolves all links, then checks that the target is in an allowed directory. The error is `EXDEV` otherwise.
///
/// A process with write access could replace a directory between these two steps. In the directories of packages only
/// root has that access.
fn open_resolved(directory: &DirectoryRules, relative: &str) -> nix::Result<File> {
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
        let directory = DirectoryRules { url: "/x/".to_owned(), path, links: Vec::new() };

        for open in [open_beneath, open_resolved] {
            assert!(open(&directory, "real.js").is_ok());
            assert!(open(&directory, "inside.js").is_ok());
            assert_eq!(open(&directory, "outside.js").unwrap_err(), Errno::EXDEV);
            assert_eq!(open(&directory, "none.js").unwrap_err(), Errno::ENOENT);
        }
    }
}

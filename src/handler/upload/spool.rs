//! Where an upload waits for the daemon: a file that is gone unless the daemon has taken it over.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use openssl::rand::rand_bytes;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::UploadError;
use crate::limits::LimitExceeded;
use crate::metrics::counters;
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;

/// Bytes collected before they are written; two such pieces are all that an upload holds.
const PIECE: usize = 512 << 10;
/// More than one piece of a body, so that collecting does not grow the buffer.
const MARGIN: usize = 128 << 10;
/// Bytes between two looks at the free space, for uploads that did not say how long they are.
const LOOK: u64 = 64 << 20;

/// The directory of the spool files and its free space.
pub struct SpoolDirectory {
    path: PathBuf,
    /// name of a spool file up to its digits
    prefix: String,
    bounds: SpoolBounds,
    /// bytes announced by running uploads and not yet written
    announced: AtomicU64,
    running: AtomicU64,
    /// bytes that running uploads have announced or written
    held: AtomicU64,
}

/// What uploads may take together.
#[derive(Clone, Copy)]
pub struct SpoolBounds {
    /// bytes that they leave free
    pub reserve: u64,
    /// at the same time
    pub uploads: u64,
    /// of all that run; 0: as many as there is room for
    pub bytes: u64,
}

impl SpoolDirectory {
    pub fn new(path: PathBuf, prefix: String, bounds: SpoolBounds) -> Self {
        Self {
            path,
            prefix,
            bounds,
            announced: AtomicU64::new(0),
            running: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Room for an upload of `length` bytes, or at least for a beginning where the length is not known.
    pub fn room(self: &Arc<Self>, length: Option<u64>) -> Result<SpaceClaim, UploadError> {
        let wanted = length.unwrap_or_default();
        let free = self.free()?;
        if free <= wanted {
            return Err(UploadError::NoSpace { wanted: length, free });
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        counters::upload_began();
        self.announced.fetch_add(wanted, Ordering::Relaxed);
        let mut room = SpaceClaim { directory: Arc::clone(self), announced: wanted, held: 0 };
        if self.running.load(Ordering::Relaxed) > self.bounds.uploads {
            return Err(LimitExceeded::Uploads { limit: self.bounds.uploads }.into());
        }
        room.hold(wanted)?;
        Ok(room)
    }

    /// What nobody has a claim on.
    fn free(&self) -> Result<u64, UploadError> {
        let space = statvfs(&self.path).map_err(io::Error::from)?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        Ok(free.saturating_sub(self.bounds.reserve).saturating_sub(self.announced.load(Ordering::Relaxed)))
    }
}

/// A claim on free space; what was not used is given back when dropped.
pub struct SpaceClaim {
    directory: Arc<SpoolDirectory>,
    announced: u64,
    held: u64,
}

impl SpaceClaim {
    /// For an upload of so many bytes, or that has grown to so many.
    fn hold(&mut self, length: u64) -> Result<(), UploadError> {
        let more = length.saturating_sub(self.held);
        self.held += more;
        counters::spooled(more);
        let held = self.directory.held.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        match self.directory.bounds.bytes {
            limit if limit > 0 && length > limit => Err(UploadError::TooLarge { limit }),
            limit if limit > 0 && held > limit => Err(LimitExceeded::Spool { limit }.into()),
            _ => Ok(()),
        }
    }

    fn use_up(&mut self, bytes: u64) {
        let used = bytes.min(self.announced);
        self.announced -= used;
        self.directory.announced.fetch_sub(used, Ordering::Relaxed);
    }
}

impl Drop for SpaceClaim {
    fn drop(&mut self) {
        self.use_up(self.announced);
        self.directory.held.fetch_sub(self.held, Ordering::Relaxed);
        counters::upload_ended(self.held);
        self.directory.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file of ours: removed when dropped, unless given away.
pub struct SpoolFile {
    path: PathBuf,
    /// its name in the directory, without the prefix
    pub(super) digits: String,
    given: bool,
    file: Option<Arc<File>>,
    room: SpaceClaim,
}

impl SpoolFile {
    /// The daemon's worker removes it from now on.
    pub(super) fn give_away(mut self) {
        self.given = true;
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if self.given {
            return;
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let file = self.path.display();
                let message = format_args!("the spool file {file} cannot be removed: {error}");
                log_limit::error(LogTopic::Fault, "spool", &message);
            }
            Ok(()) | Err(_) => (),
        }
        // Giving back the blocks of a large file takes time; it happens with the last close, elsewhere.
        if let (Ok(runtime), Some(file)) = (Handle::try_current(), self.file.take()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// A spool file while it is written, off the reactor and piece by piece.
pub(super) struct SpoolWriter {
    file: Arc<File>,
    kept: SpoolFile,
    filling: Vec<u8>,
    /// gives its buffer back
    writing: Option<JoinHandle<io::Result<Vec<u8>>>>,
    unlooked: u64,
    /// of the file, where the profile sets one
    limit: Option<u64>,
    length: u64,
}

impl SpoolWriter {
    /// A new file that nobody else could name, or read.
    pub(super) fn create(room: SpaceClaim, limit: Option<u64>) -> Result<Self, UploadError> {
        let digits = random_digits()?;
        let path = room.directory.path.join(format!("{}{digits}", room.directory.prefix));
        let file = Arc::new(create_file(&path)?);
        Ok(Self {
            kept: SpoolFile { path, digits, given: false, file: Some(Arc::clone(&file)), room },
            file,
            filling: Vec::with_capacity(PIECE + MARGIN),
            writing: None,
            unlooked: 0,
            limit,
            length: 0,
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.filling.extend_from_slice(bytes);
        if self.filling.len() >= PIECE {
            self.write_piece().await?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) async fn finish(mut self) -> Result<SpoolFile, UploadError> {
        self.write_piece().await?;
        self.written().await?;
        Ok(self.kept)
    }

    async fn write_piece(&mut self) -> Result<(), UploadError> {
        let mut empty = self.written().await?.unwrap_or_else(|| Vec::with_capacity(PIECE + MARGIN));
        empty.clear();
        let piece = std::mem::replace(&mut self.filling, empty);
        self.account_for(u64::try_from(piece.len()).unwrap_or(u64::MAX))?;
        let file = Arc::clone(&self.file);
        self.writing = Some(spawn_blocking(move || {
            (&*file).write_all(&piece)?;
            Ok(piece)
        }));
        Ok(())
    }

    /// Waits for the piece that is being written.
    async fn written(&mut self) -> Result<Option<Vec<u8>>, UploadError> {
        let Some(writing) = self.writing.take() else { return Ok(None) };
        let outcome = writing.await.map_err(io::Error::other).flatten();
        Ok(Some(outcome?))
    }

    fn account_for(&mut self, bytes: u64) -> Result<(), UploadError> {
        self.length += bytes;
        if let Some(limit) = self.limit.filter(|limit| self.length > *limit) {
            return Err(UploadError::TooLarge { limit });
        }
        let room = &mut self.kept.room;
        room.hold(self.length)?;
        room.use_up(bytes);
        self.unlooked += bytes;
        if self.unlooked >= LOOK && room.announced == 0 {
            self.unlooked = 0;
            if room.directory.free()? == 0 {
                return Err(UploadError::NoSpace { wanted: None, free: 0 });
            }
        }
        Ok(())
    }
}

/// 128 bits from the system's random numbers, in hexadecimal digits.
fn random_digits() -> Result<String, UploadError> {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn create_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(open(path, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory(path: &Path, reserve: u64) -> Arc<SpoolDirectory> {
        bounded(path, SpoolBounds { reserve, uploads: 10, bytes: 0 })
    }

    fn bounded(path: &Path, bounds: SpoolBounds) -> Arc<SpoolDirectory> {
        Arc::new(SpoolDirectory::new(path.to_owned(), "up-".to_owned(), bounds))
    }

    #[test]
    fn a_file_is_private_and_gone_unless_given_away() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = directory(temporary.path(), 0);
        let first = SpoolWriter::create(directory.room(Some(5)).unwrap(), None).unwrap();
        let second = SpoolWriter::create(directory.room(None).unwrap(), None).unwrap();
        let path = second.kept.path.clone();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("up-") && name.len() == 35);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        second.kept.give_away();
        drop(first);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
        assert!(path.exists());
        assert!(create_file(&path).is_err());
        assert_eq!(directory.announced.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn announced_bytes_are_no_longer_free_for_others() {
        let temporary = tempfile::tempdir().unwrap();
        let whole = directory(temporary.path(), 0);
        let free = whole.free().unwrap();
        let room = whole.room(Some(free / 4 * 3)).unwrap();
        assert!(matches!(whole.room(Some(free / 2)), Err(UploadError::NoSpace { .. })));
        drop(room);
        assert!(whole.room(Some(free / 2)).is_ok());
        assert!(directory(temporary.path(), u64::MAX).room(None).is_err());
    }

    #[test]
    fn uploads_are_bounded_in_number_and_in_bytes_until_the_last_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = bounded(temporary.path(), SpoolBounds { reserve: 0, uploads: 2, bytes: 100 });
        let first = directory.room(Some(60)).unwrap();
        let is_over = |length| {
            matches!(
                directory.room(Some(length)),
                Err(UploadError::Excess(LimitExceeded::Spool { limit: 100 }))
            )
        };
        assert!(is_over(41));
        assert!(matches!(directory.room(Some(101)), Err(UploadError::TooLarge { limit: 100 })));
        let mut second = directory.room(None).unwrap();
        assert!(second.hold(40).is_ok());
        assert!(matches!(
            directory.room(None),
            Err(UploadError::Excess(LimitExceeded::Uploads { limit: 2 }))
        ));
        assert!(second.hold(41).is_err());
        drop(first);
        assert!(second.hold(90).is_ok() && !is_over(10));
        drop(second);
        assert_eq!(directory.held.load(Ordering::Relaxed), 0);
        assert_eq!(directory.running.load(Ordering::Relaxed), 0);
    }
}

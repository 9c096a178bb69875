//! Spool files: an upload waits in one for the daemon. nodegate removes it unless the daemon has taken it over.

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
use crate::metrics::counters::UploadGauges;
use crate::os::log_limit::{self, LogTopic};

/// Bytes of one write. An upload buffers at most two such pieces.
const WRITE_BYTES: usize = 512 << 10;
/// More than one frame of a body, so that the buffer does not grow.
const BUFFER_MARGIN_BYTES: usize = 128 << 10;
/// Bytes between two checks of the free space, for uploads of unknown length.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// The directory of the spool files, and the space that running uploads use or claim.
pub struct SpoolDirectory {
    path: PathBuf,
    /// name of a spool file up to its digits
    prefix: String,
    bounds: SpoolBounds,
    /// bytes that running uploads have announced and not yet written
    announced: AtomicU64,
    running: AtomicU64,
    /// bytes that running uploads have announced or written
    held: AtomicU64,
    gauges: UploadGauges,
}

/// The limits of all uploads together.
#[derive(Clone, Copy)]
pub struct SpoolBounds {
    /// bytes of the file system that stay free
    pub reserve: u64,
    /// concurrent uploads
    pub uploads: u64,
    /// bytes of all running uploads; 0 means no limit
    pub bytes: u64,
}

impl SpoolDirectory {
    /// Spool files of `path` begin with `prefix`.
    pub fn new(path: PathBuf, prefix: String, bounds: SpoolBounds, gauges: UploadGauges) -> Self {
        Self {
            path,
            prefix,
            bounds,
            announced: AtomicU64::new(0),
            running: AtomicU64::new(0),
            held: AtomicU64::new(0),
            gauges,
        }
    }

    /// Claims space for an upload of `length` bytes. For an unknown length some space must be free.
    pub fn claim_space(self: &Arc<Self>, length: Option<u64>) -> Result<SpaceClaim, UploadError> {
        let wanted = length.unwrap_or_default();
        let free = self.free()?;
        if free <= wanted {
            return Err(UploadError::NoSpace { wanted: length, free });
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        self.gauges.running.inc();
        self.announced.fetch_add(wanted, Ordering::Relaxed);
        let mut space = SpaceClaim { directory: Arc::clone(self), announced: wanted, held: 0 };
        if self.running.load(Ordering::Relaxed) > self.bounds.uploads {
            return Err(LimitExceeded::Uploads { limit: self.bounds.uploads }.into());
        }
        space.extend_to(wanted)?;
        Ok(space)
    }

    /// Free bytes without those that are reserved or announced.
    fn free(&self) -> Result<u64, UploadError> {
        let space = statvfs(&self.path).map_err(io::Error::from)?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        Ok(free.saturating_sub(self.bounds.reserve).saturating_sub(self.announced.load(Ordering::Relaxed)))
    }
}

/// A claim on space in the spool directory. Dropping it releases the space.
pub struct SpaceClaim {
    directory: Arc<SpoolDirectory>,
    announced: u64,
    held: u64,
}

impl SpaceClaim {
    /// Extends the claim to `length` bytes.
    fn extend_to(&mut self, length: u64) -> Result<(), UploadError> {
        let more = length.saturating_sub(self.held);
        self.held += more;
        self.directory.gauges.spool_bytes.inc_by(gauge_value(more));
        let held = self.directory.held.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        match self.directory.bounds.bytes {
            limit if limit > 0 && length > limit => Err(UploadError::TooLarge { limit }),
            limit if limit > 0 && held > limit => Err(LimitExceeded::Spool { limit }.into()),
            _ => Ok(()),
        }
    }

    fn record_written(&mut self, bytes: u64) {
        let used = bytes.min(self.announced);
        self.announced -= used;
        self.directory.announced.fetch_sub(used, Ordering::Relaxed);
    }
}

impl Drop for SpaceClaim {
    fn drop(&mut self) {
        self.record_written(self.announced);
        self.directory.held.fetch_sub(self.held, Ordering::Relaxed);
        self.directory.gauges.spool_bytes.dec_by(gauge_value(self.held));
        self.directory.gauges.running.dec();
        self.directory.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A spool file. Dropping it removes it, unless it was handed over.
pub struct SpoolFile {
    path: PathBuf,
    /// its name in the directory, without the prefix
    pub(super) digits: String,
    is_handed_over: bool,
    file: Option<Arc<File>>,
    space: SpaceClaim,
}

impl SpoolFile {
    /// From now on the daemon's worker removes the file.
    pub(super) fn hand_over(mut self) {
        self.is_handed_over = true;
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if self.is_handed_over {
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
        // The last close frees the blocks of a large file, which takes time, so it runs on the blocking pool.
        if let (Ok(runtime), Some(file)) = (Handle::try_current(), self.file.take()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// Writes a spool file piece by piece, on the blocking pool.
pub(super) struct SpoolWriter {
    file: Arc<File>,
    spool_file: SpoolFile,
    buffer: Vec<u8>,
    /// the running write, which returns its buffer
    write: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// bytes since the last check of the free space
    unchecked_bytes: u64,
    /// bytes of the file, if the profile limits them
    limit: Option<u64>,
    length: u64,
}

impl SpoolWriter {
    /// Creates a private file with an unpredictable name.
    pub(super) fn create(space: SpaceClaim, limit: Option<u64>) -> Result<Self, UploadError> {
        let digits = random_digits()?;
        let path = space.directory.path.join(format!("{}{digits}", space.directory.prefix));
        let file = Arc::new(create_file(&path)?);
        let kept_open = Some(Arc::clone(&file));
        Ok(Self {
            spool_file: SpoolFile { path, digits, is_handed_over: false, file: kept_open, space },
            file,
            buffer: new_buffer(),
            write: None,
            unchecked_bytes: 0,
            limit,
            length: 0,
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.start_write().await?;
        }
        Ok(())
    }

    /// Writes the rest of the file.
    pub(super) async fn finish(mut self) -> Result<SpoolFile, UploadError> {
        self.start_write().await?;
        self.wait_for_write().await?;
        Ok(self.spool_file)
    }

    async fn start_write(&mut self) -> Result<(), UploadError> {
        let empty = self.wait_for_write().await?;
        let piece = std::mem::replace(&mut self.buffer, empty);
        self.check_limits(u64::try_from(piece.len()).unwrap_or(u64::MAX))?;
        let file = Arc::clone(&self.file);
        self.write = Some(spawn_blocking(move || {
            (&*file).write_all(&piece)?;
            Ok(piece)
        }));
        Ok(())
    }

    /// Waits for the running write. Returns an empty buffer.
    async fn wait_for_write(&mut self) -> Result<Vec<u8>, UploadError> {
        let Some(write) = self.write.take() else { return Ok(new_buffer()) };
        let mut buffer = write.await.map_err(io::Error::other).flatten()?;
        buffer.clear();
        Ok(buffer)
    }

    fn check_limits(&mut self, bytes: u64) -> Result<(), UploadError> {
        self.length += bytes;
        if let Some(limit) = self.limit.filter(|limit| self.length > *limit) {
            return Err(UploadError::TooLarge { limit });
        }
        let space = &mut self.spool_file.space;
        space.extend_to(self.length)?;
        space.record_written(bytes);
        self.unchecked_bytes += bytes;
        if self.unchecked_bytes >= SPACE_CHECK_BYTES && space.announced == 0 {
            self.unchecked_bytes = 0;
            if space.directory.free()? == 0 {
                return Err(UploadError::NoSpace { wanted: None, free: 0 });
            }
        }
        Ok(())
    }
}

fn gauge_value(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn new_buffer() -> Vec<u8> {
    Vec::with_capacity(WRITE_BYTES + BUFFER_MARGIN_BYTES)
}

/// 128 random bits in hexadecimal digits.
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory(path: &Path, reserve: u64) -> Arc<SpoolDirectory> {
        bounded(path, SpoolBounds { reserve, uploads: 10, bytes: 0 })
    }

    fn bounded(path: &Path, bounds: SpoolBounds) -> Arc<SpoolDirectory> {
        Arc::new(SpoolDirectory::new(path.to_owned(), "up-".to_owned(), bounds, UploadGauges::default()))
    }

    #[test]
    fn a_file_is_private_and_removed_on_drop() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = directory(temporary.path(), 0);
        let first = SpoolWriter::create(directory.claim_space(Some(5)).unwrap(), None).unwrap();
        let second = SpoolWriter::create(directory.claim_space(None).unwrap(), None).unwrap();
        let path = second.spool_file.path.clone();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("up-") && name.len() == 35);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        second.spool_file.hand_over();
        drop(first);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
        assert!(path.exists());
        assert!(create_file(&path).is_err());
        assert_eq!(directory.announced.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn announced_bytes_are_not_free_for_others() {
        let temporary = tempfile::tempdir().unwrap();
        let whole = directory(temporary.path(), 0);
        let free = whole.free().unwrap();
        let space = whole.claim_space(Some(free / 4 * 3)).unwrap();
        assert!(matches!(whole.claim_space(Some(free / 2)), Err(UploadError::NoSpace { .. })));
        drop(space);
        assert!(whole.claim_space(Some(free / 2)).is_ok());
        assert!(directory(temporary.path(), u64::MAX).claim_space(None).is_err());
    }

    #[test]
    fn uploads_are_limited_in_number_and_bytes() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = bounded(temporary.path(), SpoolBounds { reserve: 0, uploads: 2, bytes: 100 });
        let first = directory.claim_space(Some(60)).unwrap();
        let is_over = |length| {
            matches!(
                directory.claim_space(Some(length)),
                Err(UploadError::Limit(LimitExceeded::Spool { limit: 100 }))
            )
        };
        assert!(is_over(41));
        assert!(matches!(directory.claim_space(Some(101)), Err(UploadError::TooLarge { limit: 100 })));
        let mut second = directory.claim_space(None).unwrap();
        assert!(second.extend_to(40).is_ok());
        assert!(matches!(
            directory.claim_space(None),
            Err(UploadError::Limit(LimitExceeded::Uploads { limit: 2 }))
        ));
        assert!(second.extend_to(41).is_err());
        drop(first);
        assert!(second.extend_to(90).is_ok() && !is_over(10));
        drop(second);
        assert_eq!(directory.held.load(Ordering::Relaxed), 0);
        assert_eq!(directory.running.load(Ordering::Relaxed), 0);
    }
}

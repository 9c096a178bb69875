//! A small file that other programs rewrite (keys, secrets, the list of nodes, templates). It is polled on each use, or
//! once a second if every request needs it, and parsed again only after a change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::fs::blocking_worker::BlockingWorker;
use crate::os::file_version::FileVersion;

/// TTL for files that every request needs: on a cluster's file system each poll asks another process.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Coarsest clock tick of a file system. A file that changed within it may change again with the same times.
const CLOCK_TICK: Duration = Duration::from_secs(2);
/// A busy machine answers within this many polls. A file system that hangs delays a start or a reload no longer.
const PRELOAD_ATTEMPTS: usize = 10;
/// After this time the file is read again even if its version is the same: on a cluster's file system another node sets
/// the times.
const VERSION_TTL: Duration = Duration::from_secs(30);
/// Longest wait for one poll.
const POLL_TIMEOUT: Duration = Duration::from_millis(300);
/// If the file system does not answer, the last contents stay valid for this time.
const STALE_IF_ERROR: Duration = Duration::from_mins(1);
/// Bytes beyond this are not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The parsed contents of one file.
pub struct CachedFile<T> {
    shared: Arc<SharedFile<T>>,
    /// how long one poll is valid
    ttl: Duration,
    seen: Mutex<LastSeen<T>>,
    /// polls in a thread, because a cluster's file system may never answer
    worker: BlockingWorker,
}

/// The part that the thread uses. It keeps the last read, also if its caller stopped waiting: contents that parse slowly
/// are parsed once.
struct SharedFile<T> {
    path: Arc<Path>,
    parse: fn(&[u8]) -> Result<T, String>,
    /// whether the same version means the same contents; otherwise the bytes are compared
    trusts_version: bool,
    last: Mutex<Option<Arc<PendingRead<T>>>>,
    is_parsing: AtomicBool,
}

struct LastSeen<T> {
    /// time and outcome of the last poll
    last: Option<(Instant, Result<FileSnapshot<T>, FileError>)>,
    /// time of the last answer of the file system
    answered: Option<Instant>,
}

struct PendingRead<T> {
    version: FileVersion,
    bytes: Vec<u8>,
    /// an error is kept as well, because any client may request a broken page
    parsed: Result<Arc<T>, Arc<str>>,
    /// whether a later change must change the version
    settled: bool,
    modified: SystemTime,
    read_at: Instant,
}

/// Parsed contents, and when the file was last written.
pub struct FileSnapshot<T> {
    pub value: Arc<T>,
    pub modified: SystemTime,
}

impl<T> Clone for FileSnapshot<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), modified: self.modified }
    }
}

/// Why the contents are not available. Holds no part of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Unreadable { path: Arc<Path>, source: Arc<io::Error> },
    #[error("{}: {message}", path.display())]
    Malformed { path: Arc<Path>, message: Arc<str> },
    #[error("{}: the file system does not answer", path.display())]
    Silent { path: Arc<Path> },
    #[error("{}: parsing it takes longer than {} ms", path.display(), POLL_TIMEOUT.as_millis())]
    Slow { path: Arc<Path> },
}

impl FileError {
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl CachedFile<String> {
    /// A text file. Bytes that are not UTF-8 are replaced.
    pub fn of_text(path: PathBuf) -> Self {
        Self::new(path, |bytes| Ok(String::from_utf8_lossy(bytes).into_owned()))
    }
}

impl<T: Send + Sync + 'static> CachedFile<T> {
    /// Parses again if the version of the file differs.
    pub fn new(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        Self::with_trust(path, parse, true)
    }

    /// Parses again if the bytes differ: for files whose times are wrong.
    pub fn by_content(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        Self::with_trust(path, parse, false)
    }

    fn with_trust(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>, trusts_version: bool) -> Self {
        let (path, last, is_parsing) = (path.into(), Mutex::new(None), AtomicBool::new(false));
        let shared = Arc::new(SharedFile { path, parse, trusts_version, last, is_parsing });
        let seen = Mutex::new(LastSeen { last: None, answered: None });
        Self { shared, ttl: Duration::ZERO, seen, worker: BlockingWorker::default() }
    }

    /// One poll is valid for `ttl`. Call `refresh` before you reject a request.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The contents as of now, or of the last poll within the TTL.
    pub fn get(&self) -> Result<FileSnapshot<T>, FileError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, outcome)) = &seen.last
            && at.elapsed() < self.ttl
        {
            return outcome.clone();
        }
        self.poll(&mut seen)
    }

    /// Polls at the start, so that a later poll without an answer can return these contents. Tries a few times if a poll
    /// takes long. The first use polls again.
    pub fn preload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..PRELOAD_ATTEMPTS {
            if !matches!(self.poll(&mut seen), Err(FileError::Silent { .. } | FileError::Slow { .. })) {
                break;
            }
        }
        if let Some((at, _)) = &mut seen.last {
            *at = at.checked_sub(self.ttl).unwrap_or(*at);
        }
    }

    /// Polls now, before nodegate rejects something because of the contents. Returns whether they have changed.
    pub fn refresh(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.last.as_ref().and_then(|(_, outcome)| outcome.as_ref().ok().cloned());
        let now = self.poll(&mut seen).ok();
        let id = |snapshot: &FileSnapshot<T>| (Arc::as_ptr(&snapshot.value), snapshot.modified);
        before.as_ref().map(id) != now.as_ref().map(id)
    }

    fn poll(&self, seen: &mut LastSeen<T>) -> Result<FileSnapshot<T>, FileError> {
        let shared = Arc::clone(&self.shared);
        let outcome = match self.worker.run_with_timeout(POLL_TIMEOUT, move || shared.read()) {
            Some(outcome) => {
                seen.answered = Some(Instant::now());
                outcome.and_then(|reading| self.snapshot(&reading))
            }
            None => self.last_outcome(seen),
        };
        seen.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    fn snapshot(&self, reading: &PendingRead<T>) -> Result<FileSnapshot<T>, FileError> {
        match &reading.parsed {
            Ok(value) => Ok(FileSnapshot { value: Arc::clone(value), modified: reading.modified }),
            Err(message) => Err(FileError::Malformed {
                path: Arc::clone(&self.shared.path),
                message: Arc::clone(message),
            }),
        }
    }

    /// The outcome while a poll does not return: for a while, the outcome of the last poll that did.
    fn last_outcome(&self, seen: &LastSeen<T>) -> Result<FileSnapshot<T>, FileError> {
        let path = Arc::clone(&self.shared.path);
        let error = if self.shared.is_parsing.load(Ordering::Acquire) {
            FileError::Slow { path }
        } else {
            FileError::Silent { path }
        };
        tracing::debug!("{error}");
        match &seen.last {
            Some((_, outcome)) if seen.answered.is_some_and(|at| at.elapsed() < STALE_IF_ERROR) => {
                outcome.clone()
            }
            Some(_) | None => Err(error),
        }
    }
}

impl<T> SharedFile<T> {
    /// One poll, run in the thread.
    fn read(&self) -> Result<Arc<PendingRead<T>>, FileError> {
        let unreadable =
            |source| FileError::Unreadable { path: Arc::clone(&self.path), source: Arc::new(source) };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        let version = FileVersion::new(&metadata);
        let modified = metadata.modified().map_err(unreadable)?;
        let is_fresh = |reading: &&Arc<PendingRead<T>>| {
            reading.settled && reading.version == version && reading.read_at.elapsed() < VERSION_TTL
        };
        if let Some(reading) = last.as_ref().filter(|_| self.trusts_version).filter(is_fresh) {
            return Ok(Arc::clone(reading));
        }
        let bytes = read_bounded(&self.path).map_err(unreadable)?;
        let parsed = match last {
            Some(reading) if reading.bytes == bytes => reading.parsed.clone(),
            _ => {
                self.is_parsing.store(true, Ordering::Release);
                let parsed = (self.parse)(&bytes).map(Arc::new).map_err(Arc::from);
                self.is_parsing.store(false, Ordering::Release);
                parsed
            }
        };
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > CLOCK_TICK);
        let reading =
            Arc::new(PendingRead { version, bytes, parsed, settled, modified, read_at: Instant::now() });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&reading));
        Ok(reading)
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn length(bytes: &[u8]) -> Result<String, String> {
        if bytes.is_empty() { Err("empty".into()) } else { Ok(String::from_utf8_lossy(bytes).into_owned()) }
    }

    /// A file with these contents, and the directory that it is removed with.
    fn file_with(contents: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, contents).unwrap();
        (directory, path)
    }

    fn age(path: &Path) {
        let old = SystemTime::now() - Duration::from_hours(1);
        std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn a_change_of_the_same_size_is_seen() {
        let (_directory, path) = file_with("");
        let file = CachedFile::new(path.clone(), length);
        for contents in ["one", "two", "six"] {
            std::fs::write(&path, contents).unwrap();
            assert!(file.refresh());
            assert_eq!(*file.get().unwrap().value, contents);
        }
        assert!(!file.refresh());
    }

    #[test]
    fn one_poll_is_valid_for_its_ttl() {
        let (_directory, path) = file_with("one");
        let file = CachedFile::by_content(path.clone(), length).with_ttl(POLL_INTERVAL);
        let looked = Instant::now();
        assert_eq!(*file.get().unwrap().value, "one");
        std::fs::write(&path, "two").unwrap();
        while *file.get().unwrap().value == "one" {
            assert!(looked.elapsed() < POLL_INTERVAL * 20);
        }
        assert!(looked.elapsed() >= POLL_INTERVAL);
    }

    #[test]
    fn an_unchanged_old_file_is_not_parsed_again() {
        let (_directory, path) = file_with("one");
        age(&path);
        let file = CachedFile::new(path, length);
        let first = file.get().unwrap().value;
        assert!(Arc::ptr_eq(&first, &file.get().unwrap().value));
    }

    #[test]
    fn a_broken_old_file_is_parsed_once() {
        // A parser is a plain function, so it cannot carry its counter.
        static PARSED: AtomicUsize = AtomicUsize::new(0);
        fn broken(_: &[u8]) -> Result<String, String> {
            PARSED.fetch_add(1, Ordering::Relaxed);
            Err("broken".into())
        }
        let (_directory, path) = file_with("");
        for contents in ["one", "three"] {
            std::fs::write(&path, contents).unwrap();
            age(&path);
            let file = CachedFile::new(path.clone(), broken);
            let again = CachedFile::by_content(path.clone(), broken);
            PARSED.store(0, Ordering::Relaxed);
            for _ in 0..20 {
                let error = file.get().err().unwrap();
                assert!(error.to_string().ends_with(": broken"), "{error}");
            }
            assert_eq!(PARSED.load(Ordering::Relaxed), 1, "{contents}");
            for _ in 0..20 {
                assert!(again.get().is_err());
            }
            assert_eq!(PARSED.load(Ordering::Relaxed), 2, "{contents}");
        }
    }

    #[test]
    fn a_broken_file_that_is_mended_is_good() {
        let (_directory, path) = file_with("");
        let file = CachedFile::new(path.clone(), length);
        assert!(matches!(file.get(), Err(FileError::Malformed { .. })));
        std::fs::write(&path, "good").unwrap();
        assert_eq!(*file.get().unwrap().value, "good");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(file.get(), Err(FileError::Malformed { .. })));
    }

    #[test]
    fn contents_that_parse_slowly_are_parsed_once() {
        // A parser is a plain function, so it cannot carry its counter.
        static PARSED: AtomicUsize = AtomicUsize::new(0);
        fn slow(bytes: &[u8]) -> Result<String, String> {
            PARSED.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(POLL_TIMEOUT * 3);
            length(bytes)
        }
        let (_directory, path) = file_with("one");
        let file = CachedFile::new(path, slow);
        let error = file.get().err().unwrap();
        assert!(matches!(error, FileError::Slow { .. }), "{error}");
        assert!(error.to_string().ends_with("/file: parsing it takes longer than 300 ms"), "{error}");
        let asked = Instant::now();
        while file.get().map_or(true, |snapshot| *snapshot.value != "one") {
            assert!(asked.elapsed() < STALE_IF_ERROR);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(PARSED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_hung_file_system_blocks_no_reader() {
        let (_directory, path) = file_with("one");
        let file = CachedFile::new(path.clone(), length);
        assert_eq!(*file.get().unwrap().value, "one");
        std::fs::remove_file(&path).unwrap();
        // Opening it waits for a writer.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let asked = Instant::now();
        for _ in 0..100 {
            assert_eq!(*file.get().unwrap().value, "one");
        }
        assert!(!file.refresh());
        assert!(asked.elapsed() < POLL_TIMEOUT * 10, "{:?}", asked.elapsed());
        file.seen.lock().unwrap().answered = Instant::now().checked_sub(STALE_IF_ERROR);
        assert!(matches!(file.get(), Err(FileError::Silent { .. })), "not for ever");
        std::fs::write(&path, "").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        let asked = Instant::now();
        while file.get().map_or(true, |snapshot| *snapshot.value != "two") {
            assert!(asked.elapsed() < STALE_IF_ERROR);
        }
    }

    #[test]
    fn missing_and_malformed_files_are_different_errors() {
        let (_directory, path) = file_with("");
        std::fs::remove_file(&path).unwrap();
        let file = CachedFile::new(path.clone(), length);
        assert!(file.get().err().unwrap().is_missing());
        std::fs::write(&path, "").unwrap();
        assert!(!file.refresh(), "no use before, no use now");
        assert!(!file.get().err().unwrap().is_missing());
    }
}

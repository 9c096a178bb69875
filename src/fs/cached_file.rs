//! A small file that others rewrite while we run (keys, secrets, the list of nodes, templates): looked at on each use,
//! or once a second where every request needs it; parsed again only when it changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::fs::blocking_worker::BlockingWorker;

/// A cluster's file system asks another process for each look: so long one is good for all requests.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A file system's clock may tick this coarsely: a file changed so recently may change again unseen.
const CLOCK_TICK: Duration = Duration::from_secs(2);
/// A busy machine answers by then; a file system that hangs holds up a start or a reload no longer than so many moments.
const LOOKS_AHEAD: usize = 10;
/// So long a stamp stands for the contents: on a cluster's file system the time of change is another node's word.
const STAMP_COUNTS: Duration = Duration::from_secs(30);
/// So long a look is waited for.
const MOMENT: Duration = Duration::from_millis(300);
/// So long what was last seen counts when the file system does not answer.
const GRACE: Duration = Duration::from_mins(1);
/// None of these files is larger; more is not read.
const SIZE_LIMIT: u64 = 1 << 20;

/// The contents of one file as of a moment ago.
pub struct WatchedFile<T> {
    path: Arc<Path>,
    parse: fn(&[u8]) -> Result<T, String>,
    always_read: bool,
    /// how long one look is good
    life: Duration,
    seen: Mutex<LastSeen<T>>,
    progress: Arc<ReadProgress<T>>,
    /// who looks: a cluster's file system may never answer
    deputy: BlockingWorker,
}

/// What the deputy has done, also where nobody waited for it: contents that take long are parsed once, not for each look.
struct ReadProgress<T> {
    last: Mutex<Option<Arc<PendingRead<T>>>>,
    is_parsing: AtomicBool,
}

struct LastSeen<T> {
    /// what counts since the last look, and when that was
    last: Option<(Instant, Result<FileSnapshot<T>, FileError>)>,
    /// when the file system last answered
    answered: Option<Instant>,
}

struct PendingRead<T> {
    stamp: FileStamp,
    bytes: Vec<u8>,
    /// or what is wrong with the bytes, which is remembered alike: anybody may ask for a broken page
    parsed: Result<Arc<T>, Arc<str>>,
    /// whether the stamp can be trusted
    settled: bool,
    modified: SystemTime,
    read_at: Instant,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Eq, PartialEq)]
struct FileStamp {
    seconds: i64,
    nanoseconds: i64,
    size: u64,
    inode: u64,
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

/// Why the file is of no use now. Never holds any of its contents.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Unreadable { path: Arc<Path>, source: Arc<io::Error> },
    #[error("{}: {message}", path.display())]
    Malformed { path: Arc<Path>, message: Arc<str> },
    #[error("{}: the file system does not answer", path.display())]
    Silent { path: Arc<Path> },
    #[error("{}: parsing it takes longer than {} ms", path.display(), MOMENT.as_millis())]
    Slow { path: Arc<Path> },
}

impl FileError {
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl<T: Send + Sync + 'static> WatchedFile<T> {
    /// Parses again when size, inode or time of change differ.
    pub fn new(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        let seen = Mutex::new(LastSeen { last: None, answered: None });
        let progress = Arc::new(ReadProgress { last: Mutex::new(None), is_parsing: AtomicBool::new(false) });
        let deputy = BlockingWorker::default();
        Self { path: path.into(), parse, always_read: false, life: Duration::ZERO, seen, progress, deputy }
    }

    /// Parses again when the bytes differ: for files whose time of change lies.
    pub fn by_content(path: PathBuf, parse: fn(&[u8]) -> Result<T, String>) -> Self {
        Self { always_read: true, ..Self::new(path, parse) }
    }

    /// For what every request needs: one look is good for a second. Ask `has_changed` before refusing anybody.
    #[must_use]
    pub fn once_a_second(self) -> Self {
        Self { life: LOOK_AGAIN, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents as of now, or of the last look that is still good.
    pub fn current(&self) -> Result<FileSnapshot<T>, FileError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, outcome)) = &seen.last
            && at.elapsed() < self.life
        {
            return outcome.clone();
        }
        self.look(&mut seen)
    }

    /// Looks before anybody waits for it, so that there is something to remember; a few times where it takes long. The
    /// first use looks all the same.
    pub fn read_ahead(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOKS_AHEAD {
            if !matches!(self.look(&mut seen), Err(FileError::Silent { .. } | FileError::Slow { .. })) {
                break;
            }
        }
        if let Some((at, _)) = &mut seen.last {
            *at = at.checked_sub(self.life).unwrap_or(*at);
        }
    }

    /// Looks now, before something is refused because of what the file says. Whether it says something else.
    pub fn has_changed(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.last.as_ref().and_then(|(_, outcome)| outcome.as_ref().ok().cloned());
        let now = self.look(&mut seen).ok();
        match (before, now) {
            (Some(before), Some(now)) => {
                !Arc::ptr_eq(&before.value, &now.value) || before.modified != now.modified
            }
            (None, None) => false,
            (None, Some(_)) | (Some(_), None) => true,
        }
    }

    fn look(&self, seen: &mut LastSeen<T>) -> Result<FileSnapshot<T>, FileError> {
        let look = FileRead {
            path: Arc::clone(&self.path),
            parse: self.parse,
            trusts_stamp: !self.always_read,
            progress: Arc::clone(&self.progress),
        };
        let outcome = match self.deputy.send(MOMENT, move || look.run()) {
            Some(outcome) => {
                seen.answered = Some(Instant::now());
                outcome.and_then(|reading| self.snapshot(&reading))
            }
            None => self.remembered(seen),
        };
        seen.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    fn snapshot(&self, reading: &PendingRead<T>) -> Result<FileSnapshot<T>, FileError> {
        match &reading.parsed {
            Ok(value) => Ok(FileSnapshot { value: Arc::clone(value), modified: reading.modified }),
            Err(message) => {
                Err(FileError::Malformed { path: Arc::clone(&self.path), message: Arc::clone(message) })
            }
        }
    }

    /// What counts while a look does not come back: for a while, the outcome of the last one that did.
    fn remembered(&self, seen: &LastSeen<T>) -> Result<FileSnapshot<T>, FileError> {
        let path = Arc::clone(&self.path);
        let error = if self.progress.is_parsing.load(Ordering::Acquire) {
            FileError::Slow { path }
        } else {
            FileError::Silent { path }
        };
        tracing::debug!("{error}");
        match &seen.last {
            Some((_, outcome)) if seen.answered.is_some_and(|at| at.elapsed() < GRACE) => outcome.clone(),
            Some(_) | None => Err(error),
        }
    }
}

/// One look at a file, for a thread of its own.
struct FileRead<T> {
    path: Arc<Path>,
    parse: fn(&[u8]) -> Result<T, String>,
    /// whether the last reading is good as long as the stamp is the same; else as long as the bytes are
    trusts_stamp: bool,
    progress: Arc<ReadProgress<T>>,
}

impl<T> FileRead<T> {
    fn run(self) -> Result<Arc<PendingRead<T>>, FileError> {
        let unreadable =
            |source| FileError::Unreadable { path: Arc::clone(&self.path), source: Arc::new(source) };
        let last = self.progress.last();
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        let stamp = FileStamp::of(&metadata);
        let modified = metadata.modified().map_err(unreadable)?;
        let is_fresh = |reading: &&Arc<PendingRead<T>>| {
            reading.settled && reading.stamp == stamp && reading.read_at.elapsed() < STAMP_COUNTS
        };
        if let Some(reading) = last.as_ref().filter(|_| self.trusts_stamp).filter(is_fresh) {
            return Ok(Arc::clone(reading));
        }
        let bytes = read_bounded(&self.path).map_err(unreadable)?;
        let parsed = match last {
            Some(reading) if reading.bytes == bytes => reading.parsed.clone(),
            _ => self.progress.parse(self.parse, &bytes),
        };
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > CLOCK_TICK);
        let reading =
            Arc::new(PendingRead { stamp, bytes, parsed, settled, modified, read_at: Instant::now() });
        *self.progress.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&reading));
        Ok(reading)
    }
}

impl<T> ReadProgress<T> {
    fn last(&self) -> Option<Arc<PendingRead<T>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn parse(&self, parse: fn(&[u8]) -> Result<T, String>, bytes: &[u8]) -> Result<Arc<T>, Arc<str>> {
        self.is_parsing.store(true, Ordering::Release);
        let parsed = parse(bytes).map(Arc::new).map_err(Arc::from);
        self.is_parsing.store(false, Ordering::Release);
        parsed
    }
}

impl FileStamp {
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
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn length(bytes: &[u8]) -> Result<String, String> {
        if bytes.is_empty() { Err("empty".into()) } else { Ok(String::from_utf8_lossy(bytes).into_owned()) }
    }

    #[test]
    fn a_change_of_the_same_size_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = WatchedFile::new(path.clone(), length);
        for contents in ["one", "two", "six"] {
            std::fs::write(&path, contents).unwrap();
            assert!(file.has_changed());
            assert_eq!(*file.current().unwrap().value, contents);
        }
        assert!(!file.has_changed());
    }

    #[test]
    fn one_look_is_good_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "one").unwrap();
        let file = WatchedFile::by_content(path.clone(), length).once_a_second();
        let looked = Instant::now();
        assert_eq!(*file.current().unwrap().value, "one");
        std::fs::write(&path, "two").unwrap();
        while *file.current().unwrap().value == "one" {
            assert!(looked.elapsed() < LOOK_AGAIN * 20);
        }
        assert!(looked.elapsed() >= LOOK_AGAIN);
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
    fn a_broken_old_file_is_parsed_once() {
        static PARSED: AtomicUsize = AtomicUsize::new(0);
        fn broken(_: &[u8]) -> Result<String, String> {
            PARSED.fetch_add(1, Ordering::Relaxed);
            Err("broken".into())
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("template");
        for contents in ["one", "three"] {
            std::fs::write(&path, contents).unwrap();
            let old = SystemTime::now() - Duration::from_hours(1);
            std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
            let file = WatchedFile::new(path.clone(), broken);
            let again = WatchedFile::by_content(path.clone(), broken);
            PARSED.store(0, Ordering::Relaxed);
            for _ in 0..20 {
                let error = file.current().err().unwrap();
                assert!(error.to_string().ends_with(": broken"), "{error}");
            }
            assert_eq!(PARSED.load(Ordering::Relaxed), 1, "{contents}");
            for _ in 0..20 {
                assert!(again.current().is_err());
            }
            assert_eq!(PARSED.load(Ordering::Relaxed), 2, "{contents}");
        }
    }

    #[test]
    fn a_broken_file_that_is_mended_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("template");
        std::fs::write(&path, "").unwrap();
        let file = WatchedFile::new(path.clone(), length);
        assert!(matches!(file.current(), Err(FileError::Malformed { .. })));
        std::fs::write(&path, "good").unwrap();
        assert_eq!(*file.current().unwrap().value, "good");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(file.current(), Err(FileError::Malformed { .. })));
    }

    #[test]
    fn contents_that_parse_slowly_are_parsed_once() {
        static PARSED: AtomicUsize = AtomicUsize::new(0);
        fn slow(bytes: &[u8]) -> Result<String, String> {
            PARSED.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(MOMENT * 3);
            length(bytes)
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("template");
        std::fs::write(&path, "one").unwrap();
        let file = WatchedFile::new(path, slow);
        let error = file.current().err().unwrap();
        assert!(matches!(error, FileError::Slow { .. }), "{error}");
        assert!(error.to_string().ends_with("/template: parsing it takes longer than 300 ms"), "{error}");
        let asked = Instant::now();
        while file.current().map_or(true, |snapshot| *snapshot.value != "one") {
            assert!(asked.elapsed() < GRACE);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(PARSED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_hung_file_system_blocks_no_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "one").unwrap();
        let file = WatchedFile::new(path.clone(), length);
        assert_eq!(*file.current().unwrap().value, "one");
        std::fs::remove_file(&path).unwrap();
        // Opening it waits for somebody who writes.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let asked = Instant::now();
        for _ in 0..100 {
            assert_eq!(*file.current().unwrap().value, "one");
        }
        assert!(!file.has_changed());
        assert!(asked.elapsed() < MOMENT * 10, "{:?}", asked.elapsed());
        file.seen.lock().unwrap().answered = Instant::now().checked_sub(GRACE);
        assert!(matches!(file.current(), Err(FileError::Silent { .. })), "not for ever");
        std::fs::write(&path, "").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        let asked = Instant::now();
        while file.current().map_or(true, |snapshot| *snapshot.value != "two") {
            assert!(asked.elapsed() < GRACE);
        }
    }

    #[test]
    fn missing_and_malformed_files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = WatchedFile::new(path.clone(), length);
        assert!(file.current().err().unwrap().is_missing());
        std::fs::write(&path, "").unwrap();
        assert!(!file.has_changed(), "no use before, no use now");
        assert!(!file.current().err().unwrap().is_missing());
    }
}

//! The thread that writes the access log, and its queue: lines in one bounded text.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::TimeFormatter;
use super::whole_lines::{self, IncompleteWrite};
use crate::os::file_version::FileIdentity;
use crate::os::log_limit::{self, LogTopic};

/// Limit of bytes that wait for a slow disk. Further lines are lost, so that no answer has to wait.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Delay between two writes, so that a write has many lines.
const WRITE_DELAY: Duration = Duration::from_millis(10);
/// The delay is skipped for this many bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// Interval of checks whether the open file is still the one at its path.
const PATH_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before a log that could not be written is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Lines that wait for the writer.
#[derive(Default)]
pub(super) struct LogQueue {
    waiting: Mutex<WaitingLines>,
    /// notified at the first line, and at `FLUSH_BYTES`
    changed: Condvar,
}

#[derive(Default)]
struct WaitingLines {
    lines: String,
    /// positions from which lines belong into the file that is then at this path
    cuts: Vec<(usize, Option<PathBuf>)>,
    stop: bool,
    time: TimeFormatter,
}

impl WaitingLines {
    fn has_command(&self) -> bool {
        !self.cuts.is_empty() || self.stop
    }
}

impl LogQueue {
    /// Appends a line by `write`. Returns `false` if the queue is full.
    pub(super) fn push(&self, write: impl FnOnce(&mut String, &mut TimeFormatter)) -> bool {
        let mut waiting = self.lock();
        let before = waiting.lines.len();
        if before >= MAX_WAITING_BYTES {
            return false;
        }
        let WaitingLines { lines, time, .. } = &mut *waiting;
        write(lines, time);
        let after = waiting.lines.len();
        drop(waiting);
        if before == 0 || (before < FLUSH_BYTES && after >= FLUSH_BYTES) {
            self.changed.notify_one();
        }
        true
    }

    pub(super) fn reopen(&self, path: Option<PathBuf>) {
        let mut waiting = self.lock();
        let here = waiting.lines.len();
        waiting.cuts.push((here, path));
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all; `spare` is an empty text for the next ones. A line after a pause is taken at
    /// once, a line right after others waits for more.
    fn take(&self, spare: String) -> WaitingLines {
        let few = |waiting: &mut WaitingLines| waiting.lines.len() < FLUSH_BYTES && !waiting.has_command();
        let none = |waiting: &mut WaitingLines| waiting.lines.is_empty() && !waiting.has_command();
        let gathered = self.changed.wait_timeout_while(self.lock(), WRITE_DELAY, few);
        let (waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.changed.wait_while(waiting, none).unwrap_or_else(PoisonError::into_inner);
        let time = std::mem::take(&mut waiting.time);
        std::mem::replace(&mut *waiting, WaitingLines { lines: spare, time, ..WaitingLines::default() })
    }
}

/// An open file, or the time of the last attempt to open it.
pub(super) struct LogWriter {
    path: Option<PathBuf>,
    file: Option<File>,
    /// time of the last check that it is the one at `path`
    looked_at: Instant,
    failed_at: Option<Instant>,
    /// lines that were lost since the last report
    lost: usize,
    /// the file ends in half a line
    is_mid_line: bool,
}

impl LogWriter {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let looked_at = Instant::now();
        Self { path, file: None, looked_at, failed_at: None, lost: 0, is_mid_line: false }
    }

    /// Starts the thread. The receiver closes when it has ended.
    pub(super) fn start(self, queue: Arc<LogQueue>) -> io::Result<Receiver<()>> {
        let (ending, ended) = sync_channel(0);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let _ending: SyncSender<()> = ending;
            self.run(&queue);
        })?;
        Ok(ended)
    }

    fn run(mut self, queue: &LogQueue) {
        let mut spare = String::new();
        loop {
            let WaitingLines { mut lines, cuts, stop, .. } = queue.take(spare);
            let mut written = 0;
            for (cut, path) in cuts {
                self.append(lines.get(written..cut).unwrap_or_default());
                written = cut;
                (self.path, self.failed_at) = (path, None);
                self.open();
            }
            self.append(lines.get(written..).unwrap_or_default());
            if stop {
                return self.report_lost();
            }
            lines.clear();
            lines.shrink_to(FLUSH_BYTES * 2);
            spare = lines;
        }
    }

    fn append(&mut self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        if self.file.is_none() && self.failed_at.is_none_or(|at| at.elapsed() > RETRY_DELAY) {
            self.open();
        }
        self.follow();
        let Some(file) = &mut self.file else {
            self.lost += if self.path.is_some() { lines.matches('\n').count() } else { 0 };
            return;
        };
        let ended = if self.is_mid_line { whole_lines::write(file, "\n") } else { Ok(()) };
        self.is_mid_line = false;
        match ended.and_then(|()| whole_lines::write(file, lines)) {
            Ok(()) => self.succeed(),
            Err(IncompleteWrite { error, lost, is_mid_line }) => {
                self.lost += lost;
                self.is_mid_line = is_mid_line;
                self.fail(&error);
            }
        }
    }

    fn open(&mut self) {
        self.file = None;
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => self.take(file),
            Err(error) => self.fail(&error),
        }
    }

    /// Opens a file that was moved or removed again, if possible. Checks once a second.
    fn follow(&mut self) {
        let (Some(path), Some(file)) = (&self.path, &self.file) else { return };
        if self.looked_at.elapsed() < PATH_CHECK_INTERVAL {
            return;
        }
        self.looked_at = Instant::now();
        let is_there = match (path.metadata(), file.metadata()) {
            (Ok(named), Ok(open)) => FileIdentity::new(&named) == FileIdentity::new(&open),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        };
        if !is_there && let Ok(file) = append_to(path) {
            self.take(file);
        }
    }

    fn take(&mut self, file: File) {
        self.is_mid_line &= file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        self.file = Some(file);
    }

    /// Warns once. nodegate continues without a log.
    fn fail(&mut self, error: &io::Error) {
        let is_new = self.failed_at.replace(Instant::now()).is_none();
        self.file = None;
        let path = self.name();
        if is_new && let Some(left_out) = log_limit::is_due(LogTopic::Fault, &format!("access log {path}")) {
            tracing::warn!("access log {path} cannot be written: {error}; serving without it{left_out}");
        }
    }

    fn succeed(&mut self) {
        self.failed_at = None;
        if self.lost > 0 && log_limit::is_due(LogTopic::Fault, "access log, lost lines").is_some() {
            self.report_lost();
        }
    }

    fn report_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 && self.failed_at.is_none() {
            tracing::warn!("the access log is written again, to {}; {lost} lines were lost", self.name());
        } else if lost > 0 {
            tracing::warn!("access log {} cannot be written; {lost} lines were lost", self.name());
        }
    }

    fn name(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new("-")).display().to_string()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

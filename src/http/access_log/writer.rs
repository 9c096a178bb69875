//! The thread that writes the access log, and what it is handed: lines in one bounded text.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::whole_lines::{self, IncompleteWrite};
use crate::os::log_limit;
use crate::os::log_limit::LogTopic;

/// Bytes that may wait for a slow disk; lines beyond are lost rather than holding up an answer.
const WAITING: usize = 8 << 20;
/// Between two writes, so that many lines go together.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are not gathered for longer.
const ENOUGH: usize = 64 << 10;
/// How long a file counts as the one at its path.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause before a log that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What waits for the writer.
#[derive(Default)]
pub(crate) struct LogQueue {
    waiting: Mutex<WaitingLines>,
    /// there is something, or enough of it
    changed: Condvar,
}

#[derive(Default)]
struct WaitingLines {
    lines: String,
    /// from each of these places on, lines belong into the file that is then at this path
    cuts: Vec<(usize, Option<PathBuf>)>,
    stop: bool,
}

impl WaitingLines {
    fn is_told(&self) -> bool {
        !self.cuts.is_empty() || self.stop
    }
}

impl LogQueue {
    /// Appends a line by `write`; `false` if too much waits already.
    pub(crate) fn push(&self, write: impl FnOnce(&mut String)) -> bool {
        let mut waiting = self.lock();
        let before = waiting.lines.len();
        if before >= WAITING {
            return false;
        }
        write(&mut waiting.lines);
        let after = waiting.lines.len();
        drop(waiting);
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.changed.notify_one();
        }
        true
    }

    pub(crate) fn reopen(&self, path: Option<PathBuf>) {
        let mut waiting = self.lock();
        let here = waiting.lines.len();
        waiting.cuts.push((here, path));
        self.changed.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all; `spare` is an empty text to go on with. A line after a pause is taken at once,
    /// one that comes right after others waits for more.
    fn take(&self, spare: String) -> WaitingLines {
        let few = |waiting: &mut WaitingLines| waiting.lines.len() < ENOUGH && !waiting.is_told();
        let none = |waiting: &mut WaitingLines| waiting.lines.is_empty() && !waiting.is_told();
        let gathered = self.changed.wait_timeout_while(self.lock(), GATHER, few);
        let (waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.changed.wait_while(waiting, none).unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *waiting, WaitingLines { lines: spare, ..WaitingLines::default() })
    }
}

/// An open file, or the time of the last attempt to open it.
pub(crate) struct LogWriter {
    path: Option<PathBuf>,
    file: Option<File>,
    /// when it was last seen to be the one at `path`
    looked_at: Instant,
    failed_at: Option<Instant>,
    /// lines that were not written since it was last told
    lost: usize,
    /// the file ends in half a line
    is_mid_line: bool,
}

impl LogWriter {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let looked_at = Instant::now();
        Self { path, file: None, looked_at, failed_at: None, lost: 0, is_mid_line: false }
    }

    /// The thread; the receiver hears when it has ended.
    pub(crate) fn start(self, queue: Arc<LogQueue>) -> io::Result<Receiver<()>> {
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
            let WaitingLines { mut lines, cuts, stop } = queue.take(spare);
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
            lines.shrink_to(ENOUGH * 2);
            spare = lines;
        }
    }

    fn append(&mut self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        if self.file.is_none() && self.failed_at.is_none_or(|at| at.elapsed() > RETRY) {
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

    /// A file that was moved away or removed is opened anew, if it can be; looked at once a second.
    fn follow(&mut self) {
        let (Some(path), Some(file)) = (&self.path, &self.file) else { return };
        if self.looked_at.elapsed() < LOOK_AGAIN {
            return;
        }
        self.looked_at = Instant::now();
        let place = |file: Metadata| (file.dev(), file.ino());
        let is_there = match (path.metadata(), file.metadata()) {
            (Ok(named), Ok(open)) => place(named) == place(open),
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

    /// Warns once, and goes on serving without a log.
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
            tracing::warn!("access log {} is written again; {lost} lines were lost", self.name());
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

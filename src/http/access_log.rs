//! The access log: one line for each answer, in the form that fail2ban, `CrowdSec` and log shippers know, or as JSON.
//!
//! `REALIP - USER [22/11/2026:00:34:50 +0000] "GET /path HTTP/1.1" 200 1234`

mod line;
mod long_targets;
mod request_text;
mod whole_lines;
mod writer;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::http::access_log::long_targets::{LongTargetAllowance, SHORT_TARGET_BYTES};
use chrono::{DateTime, Local};
use request_text::TextRules;
use writer::{LogQueue, LogWriter};

use crate::config::settings::LogFormat;
use crate::os::log_limit::{self, LogTopic};
use crate::os::request_context::{LogContext, RequestId};
use crate::tls::TlsSession;

/// Time to write the last lines when nodegate ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a target in a line, before the settings are read.
const MAX_TARGET_BYTES: usize = 1024;

/// The facts of one line.
pub struct LogEntry<'a> {
    /// the client, which only a trusted proxy may name
    pub client: IpAddr,
    /// The address that long targets count for. A client cannot choose it, unlike `client` if no proxies are listed.
    pub limit_key: IpAddr,
    pub user: Option<&'a str>,
    /// `GET /path HTTP/1.1`, or `-` without a request
    pub request: &'a str,
    pub status: u16,
    /// bytes of the body on the wire
    pub bytes: Option<u64>,
    pub started: Option<Instant>,
    pub details: Option<&'a LogDetails>,
}

impl<'a> LogEntry<'a> {
    /// The line of an answer without further data.
    pub fn new(client: IpAddr, request: &'a str, status: u16) -> Self {
        Self {
            client,
            limit_key: client,
            user: None,
            request,
            status,
            bytes: None,
            started: None,
            details: None,
        }
    }
}

/// The fields that only a form with details has.
#[derive(Debug)]
pub struct LogDetails {
    id: RequestId,
    listener: Arc<str>,
    tls: Option<TlsSession>,
    /// the upstream that was asked, and the time until the head of its response
    upstream: Option<(String, Duration)>,
    /// the time in which it waited for a worker of a daemon
    queued: Option<Duration>,
}

impl LogDetails {
    pub fn from_context(context: &LogContext, tls: Option<TlsSession>, listener: Arc<str>) -> Self {
        Self { id: context.id, listener, tls, upstream: context.upstream(), queued: context.queued() }
    }
}

/// The form of a line, and the query parameters to mask in it.
#[derive(Clone, Default)]
struct LineRules {
    format: LogFormat,
    masked: Arc<[String]>,
}

/// Hands lines to its own thread, which writes them.
pub struct AccessLog {
    queue: Arc<LogQueue>,
    /// whether lines have details
    detailed: AtomicBool,
    max_target_bytes: AtomicUsize,
    rules: RwLock<LineRules>,
    allowance: Mutex<LongTargetAllowance>,
    /// closes when the writer has ended
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Starts the writer; `None` writes nowhere. The file is opened with the first line, or by `reopen`: by then root
    /// has been dropped, because root must not follow a link in a directory that others write to.
    pub fn start(path: Option<PathBuf>) -> io::Result<Self> {
        let queue = Arc::new(LogQueue::default());
        let ended = LogWriter::new(path).start(Arc::clone(&queue))?;
        Ok(Self {
            queue,
            detailed: AtomicBool::new(false),
            max_target_bytes: AtomicUsize::new(MAX_TARGET_BYTES),
            rules: RwLock::default(),
            allowance: Mutex::default(),
            ended: Mutex::new(ended),
        })
    }

    /// Sets the form of later lines, the bytes of a target in one, and the query parameters to mask.
    pub fn take_form(&self, form: LogFormat, max_target_bytes: usize, masked: Vec<String>) {
        let rules = LineRules { format: form, masked: masked.into() };
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.detailed.store(form.has_details(), Ordering::Relaxed);
        self.max_target_bytes.store(max_target_bytes, Ordering::Relaxed);
    }

    /// Whether lines have details.
    pub fn is_detailed(&self) -> bool {
        self.detailed.load(Ordering::Relaxed)
    }

    /// Never waits for a disk.
    pub fn write(&self, entry: &LogEntry<'_>) {
        let now = Local::now();
        let limit = self.limit(entry, now);
        let LineRules { format, masked } = self.rules.read().unwrap_or_else(PoisonError::into_inner).clone();
        let write_line = line::writer(format);
        let rules = TextRules { limit, masked: &masked };
        if !self.queue.push(|line, time| write_line(line, entry, rules, time.at(now))) {
            log_limit::warn(
                LogTopic::Fault,
                "access log, queue",
                &"the access log cannot keep up; lines are lost",
            );
        }
    }

    /// The bytes of a target that a line may have. The user of a failed request is only a claim.
    fn limit(&self, entry: &LogEntry<'_>, now: DateTime<Local>) -> usize {
        let limit = self.max_target_bytes.load(Ordering::Relaxed);
        let is_short = entry.request.len() <= SHORT_TARGET_BYTES;
        if is_short || (entry.user.is_some() && entry.status < 400) {
            return limit;
        }
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.take(entry.limit_key, entry.request.len(), limit, now.timestamp())
    }

    /// Opens the file again after a rotation, or another file.
    pub fn reopen(&self, path: Option<PathBuf>) {
        self.queue.reopen(path);
    }

    /// Writes the queued lines and ends the writer. It does not wait for a disk that hangs.
    pub fn close(&self) {
        self.queue.stop();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(request: &str) -> LogEntry<'_> {
        let client = "192.0.2.7".parse().unwrap();
        LogEntry { user: Some("root@pam"), bytes: Some(1234), ..LogEntry::new(client, request, 200) }
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::start(Some(directory.path().join("missing/access.log"))).unwrap();
        log.write(&entry("GET /lost HTTP/1.1"));
        log.reopen(Some(path.clone()));
        log.write(&entry("GET /kept HTTP/1.1"));
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("/kept") && !text.contains("/lost"), "{text}");
    }

    #[test]
    fn a_moved_log_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::start(Some(path.clone())).unwrap();
        log.write(&entry("GET /first HTTP/1.1"));
        let until = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/first")) {
            assert!(Instant::now() < until, "the first line never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        log.reopen(Some(path.clone()));
        log.write(&entry("GET /second HTTP/1.1"));
        let elsewhere = directory.path().join("elsewhere.log");
        log.reopen(Some(elsewhere.clone()));
        log.write(&entry("GET /third HTTP/1.1"));
        log.close();
        assert!(std::fs::read_to_string(&elsewhere).unwrap().contains("/third"));
        assert!(std::fs::read_to_string(&path).unwrap().contains("/second"));
        assert!(std::fs::read_to_string(directory.path().join("access.log.1")).unwrap().contains("/first"));
    }
}

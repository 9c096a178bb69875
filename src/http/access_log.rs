//! The access log: one line for each answer, in the form that fail2ban, `CrowdSec` and log shippers know, or as JSON.
//!
//! `REALIP - USER [22/11/2026:00:34:50 +0000] "GET /path HTTP/1.1" 200 1234`

mod json;
mod long_targets;
mod request_text;
mod whole_lines;
mod writer;

use std::cell::RefCell;
use std::fmt::Write as _;
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
use crate::os::log_text::shortened;
use crate::os::request_context::{LogContext, RequestId};
use crate::tls::TlsSession;

/// Timeout of the last lines when nodegate ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a target in a line, until the settings say otherwise.
const MAX_TARGET_BYTES: usize = 1024;

/// The data of a line.
pub struct LogEntry<'a> {
    /// the client: the TCP peer, or the address that a proxy reports
    pub client: IpAddr,
    /// The address that long targets count for. A client cannot choose it, unlike `client` if no proxies are listed.
    pub limit_key: IpAddr,
    pub user: Option<&'a str>,
    /// `GET /path HTTP/1.1`; `-` when there was none
    pub request: &'a str,
    pub status: u16,
    /// bytes of body that went over the wire
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

/// The fields that only the JSON form has.
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

/// Hands lines to its own thread, which writes them.
pub struct AccessLog {
    queue: Arc<LogQueue>,
    /// in JSON, with all details
    detailed: AtomicBool,
    max_target_bytes: AtomicUsize,
    masked: RwLock<Arc<[String]>>,
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
            masked: RwLock::new(Arc::default()),
            allowance: Mutex::default(),
            ended: Mutex::new(ended),
        })
    }

    /// Sets the form of the lines that follow, the bytes of a target in one, and the query parameters to mask.
    pub fn take_form(&self, form: LogFormat, max_target_bytes: usize, masked: Vec<String>) {
        *self.masked.write().unwrap_or_else(PoisonError::into_inner) = masked.into();
        self.detailed.store(form == LogFormat::Json, Ordering::Relaxed);
        self.max_target_bytes.store(max_target_bytes, Ordering::Relaxed);
    }

    /// Whether lines have details.
    pub fn is_detailed(&self) -> bool {
        self.detailed.load(Ordering::Relaxed)
    }

    /// Never waits for a disk.
    pub fn write(&self, entry: &LogEntry<'_>) {
        let now = Local::now();
        let form = if self.is_detailed() { json::line_into } else { line_into };
        let limit = self.limit(entry, now);
        let masked = Arc::clone(&self.masked.read().unwrap_or_else(PoisonError::into_inner));
        let rules = TextRules { limit, masked: &masked };
        if !self.queue.push(|line| form(line, entry, rules, now)) {
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

    /// Opens the file again, after it was moved away, or another one.
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

/// The line with its end. Quotes in the request line are escaped, and secrets are masked.
fn line_into(line: &mut String, entry: &LogEntry<'_>, text: TextRules<'_>, now: DateTime<Local>) {
    let user = entry.user.unwrap_or("-");
    push_client(line, entry.client);
    line.push_str(" - ");
    escape_into(line, &shortened(user, text.limit));
    line.push_str(" [");
    push_time(line, now);
    line.push_str("] \"");
    line.push_str(&request_text::shown_escaped(entry.request, text));
    let mut digits = itoa::Buffer::new();
    line.push_str("\" ");
    line.push_str(digits.format(entry.status));
    line.push(' ');
    line.push_str(entry.bytes.map_or("-", |bytes| digits.format(bytes)));
    line.push('\n');
}

/// Formatted once for requests of the same client in a row.
fn push_client(line: &mut String, client: IpAddr) {
    thread_local! {
        static LAST: RefCell<Option<(IpAddr, String)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((known, text)) if *known == client => line.push_str(text),
        _ => line.push_str(&last.insert((client, client.to_string())).1),
    });
}

/// `22/11/2026:00:34:50 +0000`, formatted once a second.
fn push_time(line: &mut String, now: DateTime<Local>) {
    thread_local! {
        static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now.timestamp() {
            *second = now.timestamp();
            text.clear();
            let _ = write!(text, "{}", now.format("%d/%m/%Y:%H:%M:%S %z"));
        }
        line.push_str(text);
    });
}

fn escape_into(line: &mut String, text: &str) {
    if request_text::is_plain(text) {
        line.push_str(text);
    } else {
        line.push_str(&request_text::escaped(text));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(entry: &LogEntry<'_>, now: DateTime<Local>) -> String {
        let mut line = String::new();
        line_into(&mut line, entry, TextRules { limit: 1024, masked: &[] }, now);
        line
    }

    fn entry(request: &str) -> LogEntry<'_> {
        let client = "192.0.2.7".parse().unwrap();
        LogEntry { user: Some("root@pam"), bytes: Some(1234), ..LogEntry::new(client, request, 200) }
    }

    #[test]
    fn the_line_has_the_form_that_filters_know() {
        let text = line(&entry("GET /api2/json/version HTTP/1.1"), Local::now());
        let form = regex::Regex::new(
            r#"^192\.0\.2\.7 - root@pam \[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /api2/json/version HTTP/1\.1" 200 1234\n$"#,
        );
        assert!(form.unwrap().is_match(&text), "{text}");
        let nothing = LogEntry { user: None, bytes: None, request: "-", status: 403, ..entry("") };
        let text = line(&nothing, Local::now());
        assert!(text.starts_with("192.0.2.7 - - [") && text.ends_with("] \"-\" 403 -\n"), "{text}");
    }

    #[test]
    fn a_request_cannot_write_lines_of_its_own() {
        let text = line(&entry("GET /a\"b\nc HTTP/1.1"), Local::now());
        assert!(text.contains("\"GET /a%22b%0Ac HTTP/1.1\""), "{text}");
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

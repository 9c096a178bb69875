//! The answers in the product's access log: those of the original at its end, and those of nodegate as they come.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::verdict::AnswerCounts;
use crate::config::product::Protocol;

/// Limits of the baseline: bytes at the end of the log, and answers in them.
const BASELINE_BYTES: u64 = 2 << 20;
const BASELINE_ANSWERS: usize = 2000;
/// The error rate of a trial is that of its newest answers.
const TRIAL_ANSWERS: usize = 500;
/// Limit of bytes for one read of new lines.
const MAX_READ: u64 = 8 << 20;

/// The lines that count. Two daemons may share a log, and the guard's own requests are in it.
#[derive(Clone, Debug)]
pub(super) struct LineFilter {
    pub(super) protocol: Protocol,
    /// the client address and the targets of the guard
    pub(super) guard: Option<(IpAddr, HashSet<String>)>,
}

impl LineFilter {
    /// The status of a line that counts.
    fn status(&self, line: &str) -> Option<u16> {
        let answer = LoggedAnswer::parse(line)?;
        let (method, rest) = answer.request.split_once(' ')?;
        let target = rest.split(' ').next().unwrap_or_default();
        let is_tunnel = method == "CONNECT";
        let is_guard = |(address, targets): &(IpAddr, HashSet<String>)| {
            answer.client.parse() == Ok(*address) && method == "GET" && targets.contains(target)
        };
        let counts =
            is_tunnel == (self.protocol == Protocol::Connect) && !self.guard.as_ref().is_some_and(is_guard);
        counts.then_some(answer.status)
    }
}

struct LoggedAnswer {
    client: String,
    request: String,
    status: u16,
}

impl LoggedAnswer {
    /// Reads a line of either format.
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('{') {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = |name: &str| line.get(name)?.as_str().map(str::to_owned);
            let status = u16::try_from(line.get("status")?.as_u64()?).ok()?;
            return Some(Self { client: text("client")?, request: text("request")?, status });
        }
        let (head, tail) = line.rsplit_once('"')?;
        let (client, request) = head.split_once('"')?;
        Some(Self {
            client: client.split(' ').next()?.to_owned(),
            request: request.to_owned(),
            status: tail.split_whitespace().next()?.parse().ok()?,
        })
    }
}

/// The answers at the end of the log. A log that cannot be read has none.
pub(super) fn baseline(log: &Path, filter: &LineFilter) -> AnswerCounts {
    let text = read_end(log).unwrap_or_default();
    let statuses = text.lines().rev().filter_map(|line| filter.status(line));
    AnswerCounts::from_statuses(statuses.take(BASELINE_ANSWERS))
}

fn read_end(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(BASELINE_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(BASELINE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The answers that are added to a log, through rotations.
pub(super) struct LogFollower {
    path: PathBuf,
    filter: LineFilter,
    file: Option<File>,
    /// bytes of a line that has no end yet
    rest: Vec<u8>,
    statuses: VecDeque<u16>,
}

impl LogFollower {
    /// Begins at the end of the log.
    pub(super) fn new(path: PathBuf, filter: LineFilter) -> Self {
        let open = || -> io::Result<File> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().ok();
        Self { path, filter, file, rest: Vec::new(), statuses: VecDeque::new() }
    }

    /// The newest answers.
    pub(super) fn counts(&mut self) -> AnswerCounts {
        self.read_new_lines();
        if self.is_rotated() {
            self.file = File::open(&self.path).ok();
            self.rest.clear();
            self.read_new_lines();
        }
        AnswerCounts::from_statuses(self.statuses.iter().copied())
    }

    fn is_rotated(&mut self) -> bool {
        let Ok(current) = std::fs::metadata(&self.path) else { return false };
        let Some(file) = &mut self.file else { return true };
        let is_same =
            file.metadata().is_ok_and(|read| (read.dev(), read.ino()) == (current.dev(), current.ino()));
        !is_same || file.stream_position().is_ok_and(|position| position > current.len())
    }

    fn read_new_lines(&mut self) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.take(MAX_READ).read_to_end(&mut self.rest) {
            tracing::warn!("{} cannot be read: {error}", self.path.display());
        }
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = String::from_utf8_lossy(&lines);
        self.statuses.extend(lines.lines().filter_map(|line| self.filter.status(line)));
        let surplus = self.statuses.len().saturating_sub(TRIAL_ANSWERS);
        self.statuses.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn filter(protocol: Protocol) -> LineFilter {
        LineFilter { protocol, guard: Some(([127, 0, 0, 1].into(), HashSet::from(["/".to_owned()]))) }
    }

    fn line(client: &str, request: &str, status: u16) -> String {
        format!("{client} - root@pam [22/11/2026:00:34:50 +0000] \"{request}\" {status} 12\n")
    }

    #[test]
    fn both_formats_and_only_lines_of_clients_count() {
        let text = filter(Protocol::Https);
        let status = |line: &str| text.status(line.trim_end());
        assert_eq!(status(&line("192.0.2.7", "GET /a\"b HTTP/1.1", 595)), Some(595));
        assert_eq!(status(r#"{"client":"::1","request":"GET /a HTTP/1.1","status":500}"#), Some(500));
        assert_eq!(status(&line("127.0.0.1", "GET /other HTTP/1.1", 200)), Some(200));
        assert_eq!(status(&line("192.0.2.7", "GET / HTTP/1.1", 200)), Some(200));
        for uncounted in [
            line("127.0.0.1", "GET / HTTP/1.1", 500),
            line("192.0.2.7", "CONNECT a:1 HTTP/1.0", 500),
            line("192.0.2.7", "-", 403),
            "rubbish".to_owned(),
            r#"{"client":"::1"}"#.to_owned(),
            String::new(),
        ] {
            assert_eq!(status(&uncounted), None, "{uncounted}");
        }
        assert_eq!(filter(Protocol::Connect).status(&line("::1", "CONNECT a:1 HTTP/1.0", 500)), Some(500));
    }

    #[test]
    fn the_baseline_is_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        assert_eq!(baseline(&log, &filter(Protocol::Https)), AnswerCounts::default());
        let old = line("192.0.2.7", "GET /old HTTP/1.1", 500).repeat(30);
        let new = line("192.0.2.7", "GET /new HTTP/1.1", 200).repeat(BASELINE_ANSWERS - 10);
        fs::write(&log, old + &new).unwrap();
        let counts = baseline(&log, &filter(Protocol::Https));
        assert_eq!(counts, AnswerCounts { requests: 2000, errors: 10 });
    }

    #[test]
    fn new_lines_are_read_through_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append(&line("192.0.2.7", "GET /before HTTP/1.1", 500));
        let mut follower = LogFollower::new(log.clone(), filter(Protocol::Https));
        assert_eq!(follower.counts(), AnswerCounts::default());
        let whole = line("192.0.2.7", "GET /x HTTP/1.1", 500);
        let (start, end) = whole.split_at(30);
        append(start);
        assert_eq!(follower.counts().requests, 0, "the line has no end yet");
        append(end);
        assert_eq!(follower.counts(), AnswerCounts { requests: 1, errors: 1 });
        append(&whole);
        fs::rename(&log, folder.path().join("access.log.1")).unwrap();
        append(&line("192.0.2.7", "GET /y HTTP/1.1", 200));
        assert_eq!(follower.counts(), AnswerCounts { requests: 3, errors: 2 });
        append(&line("192.0.2.7", "GET /z HTTP/1.1", 200).repeat(TRIAL_ANSWERS - 1));
        assert_eq!(follower.counts(), AnswerCounts { requests: 500, errors: 0 }, "the newest count");
    }

    #[test]
    fn a_log_may_come_later() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let mut follower = LogFollower::new(log.clone(), filter(Protocol::Https));
        assert_eq!(follower.counts(), AnswerCounts::default());
        fs::write(&log, line("192.0.2.7", "GET /x HTTP/1.1", 503)).unwrap();
        assert_eq!(follower.counts(), AnswerCounts { requests: 1, errors: 1 });
    }
}

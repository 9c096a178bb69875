//! How far the clock of another node is from this one, by the `Date` of its answer.

use std::time::SystemTime;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::OtherNode;
use crate::cli::doctor::finding::Finding;
use crate::os::unix_time::unix_time;

/// `HEAD` of the first page needs no login, and changes nothing.
const REQUEST: &[u8] = concat!(
    "HEAD / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: nodegate/",
    env!("CARGO_PKG_VERSION"),
    "\r\nConnection: close\r\n\r\n"
)
.as_bytes();
const MAX_HEAD_BYTES: usize = 16 << 10;
/// A date has whole seconds, and the answer takes its time.
const TOLERANCE_SECONDS: i64 = 20;
/// Tickets may be that much from the future.
const REJECTED_SECONDS: i64 = 300;

/// Seconds by which the other clock is ahead; `None` if its answer has no date.
pub(super) async fn difference(stream: &mut SslStream<TcpStream>) -> Option<i64> {
    stream.write_all(REQUEST).await.ok()?;
    let mut head = Vec::new();
    while head.len() < MAX_HEAD_BYTES && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            break;
        }
    }
    let date = date_of(&String::from_utf8_lossy(&head))?;
    Some(unix_time(date).saturating_sub(unix_time(SystemTime::now())))
}

fn date_of(head: &str) -> Option<SystemTime> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let date = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("date"))?.1;
    httpdate::parse_http_date(date.trim()).ok()
}

pub(super) fn evaluate(node: &OtherNode, ahead: i64) -> Option<Finding> {
    let (name, away) = (&node.name, ahead.saturating_abs());
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!("the clock of node '{name}' is {away} s {direction} the clock of this node");
    let mend = format!("chronyc tracking; ssh {name} chronyc tracking");
    let finding = if away > REJECTED_SECONDS {
        Finding::error(what)
            .because("one node rejects the tickets of the other (401): they are from the future, or too old")
    } else {
        Finding::warning(what).because("from 5 minutes on, one node rejects the tickets of the other")
    };
    (away > TOLERANCE_SECONDS).then(|| finding.mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn dates_are_read_from_any_head() {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\ndate: Thu, 01 Jan 2026 00:00:10 GMT\r\n\r\n";
        assert_eq!(date_of(head).map(unix_time), Some(1_767_225_610));
        assert_eq!(date_of("HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"), None);
        assert_eq!(date_of(""), None);
    }

    #[test]
    fn differences_matter_by_their_size() {
        let node = OtherNode { name: "n2".to_owned(), address: None };
        let level = |ahead| evaluate(&node, ahead).map(|finding| finding.level);
        assert_eq!((level(-20), level(20)), (None, None));
        assert_eq!((level(-100), level(301)), (Some(Level::Warning), Some(Level::Error)));
        let behind = evaluate(&node, -400).unwrap().what;
        assert_eq!(behind, "the clock of node 'n2' is 400 s behind the clock of this node");
    }
}

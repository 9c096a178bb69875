//! The report as text: aligned, and coloured on a terminal.

use std::fmt::Write as _;

use super::queue;
use crate::metrics::process::LastReload;
use crate::metrics::report::{ServedCertificate, SessionReport, StatusReport, seconds_since_1970};
use crate::metrics::units::{bytes, date, span};
use crate::metrics::upstreams::{PinState, UpstreamReport};

/// Warnings about the settings that are shown.
const SHOWN_PROBLEMS: usize = 4;

/// Puts words in colours, or leaves them as they are.
#[derive(Clone, Copy)]
pub(crate) struct TextStyle(bool);

impl TextStyle {
    pub(crate) fn new(colours: bool) -> Self {
        Self(colours)
    }

    fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    fn bold(self, text: &str) -> String {
        self.with(1, text)
    }

    fn with(self, code: u8, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

pub(crate) fn render(report: &StatusReport, rate: Option<f64>, paint: TextStyle) -> String {
    let mut text = format!(
        "{} is {} (pid {}, version {}) since {}, {}\n",
        paint.bold(&report.profile),
        paint.green("running"),
        report.pid,
        report.version,
        date(i64::try_from(report.since).unwrap_or_default()),
        span(seconds_since_1970().saturating_sub(report.since)),
    );
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    row("listening", &report.listening.join(", "));
    let connections = &report.connections;
    let denied = format!("{} denied by the access list", connections.denied);
    row("connections", &format!("{} open, {} in all, {denied}", connections.open, connections.total));
    row("requests", &requests(report, rate));
    row("latency", &latency(report));
    row("consoles", &format!("{} open", report.consoles));
    row("tunnels", &format!("{} open", report.tunnels));
    if let Some(routes) = &report.routes {
        row("routes", &routes.summary);
    }
    for served in &report.certificates {
        let of = if report.certificates.len() > 1 { format!(" ({})", served.file) } else { String::new() };
        row("certificate", &(certificate(served, paint) + &of));
    }
    for problem in &report.certificate_problems {
        row("", &paint.red(problem));
    }
    for upstream in &report.upstreams {
        row(&upstream.name, &health(upstream, paint));
        upstream.queue.iter().flat_map(queue::lines).for_each(|line| row("", &line));
    }
    row("last reload", &report.last_reload.as_ref().map_or("none".to_owned(), |last| reload(last, paint)));
    if !report.reverted.is_empty() {
        let places = report.reverted.join(", ");
        let still = format!("{places}: not in effect, and still in the files unless corrected since");
        row("reverted", &paint.red(&still));
    }
    for problem in report.problems.iter().take(SHOWN_PROBLEMS) {
        row("warning", &paint.red(&problem.replacen("warning: ", "", 1)));
    }
    if report.problems.len() > SHOWN_PROBLEMS {
        row("", &format!("{} more warnings: --json", report.problems.len() - SHOWN_PROBLEMS));
    }
    text + &open(&report.open, paint)
}

fn health(upstream: &UpstreamReport, paint: TextStyle) -> String {
    let address = upstream.address.as_deref().unwrap_or("no address");
    let mut text = match &upstream.unreachable {
        Some(cause) => paint.red(&format!("not reachable at {address}: {cause}")),
        None => format!("reachable at {address}"),
    };
    match upstream.pin {
        Some(PinState::Verified) => text.push_str(", certificate verified"),
        Some(PinState::Unknown) => text += &paint.red(", no certificate of it is known"),
        Some(PinState::Mismatch) | None => (), // the cause names the mismatch
    }
    let ago = |at: u64| span(seconds_since_1970().saturating_sub(at));
    let health = &upstream.health;
    let _ = write!(text, "; {} answered", health.answered);
    if let Some(at) = health.last_answer {
        let _ = write!(text, ", the last {} ago", ago(at));
    }
    let _ = write!(text, "; {} failed", health.failed);
    if let Some(last) = &health.last_failure {
        let request = last.request.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
        let failure = format!(", the last {} ago{request}: {}", ago(last.at), last.cause);
        // A failure that was followed by an answer is over.
        let is_over = health.last_answer.is_some_and(|answered| answered > last.at);
        text += &(if is_over { failure } else { paint.red(&failure) });
    }
    text
}

fn requests(report: &StatusReport, rate: Option<f64>) -> String {
    let mut text = format!("{} answered", report.requests.total);
    for (class, count) in (1..).zip(report.requests.classes).filter(|(_, count)| *count > 0) {
        let _ = write!(text, ", {class}xx {count}");
    }
    let _ = write!(text, ", {} refused (401)", report.requests.refused);
    if let Some(rate) = rate {
        let _ = write!(text, ", {rate:.1} per second");
    }
    text
}

fn latency(report: &StatusReport) -> String {
    match &report.latency {
        None => "no request was measured in the last minute".to_owned(),
        Some(latency) => format!(
            "half within {:.1} ms, 99 of 100 within {:.1} ms, of {} in the last minute",
            latency.p50_ms, latency.p99_ms, latency.count
        ),
    }
}

fn certificate(served: &ServedCertificate, paint: TextStyle) -> String {
    let (end, now) = (served.expires, seconds_since_1970());
    let until = match u64::try_from(served.seconds_left(now)) {
        Ok(left) => format!("until {}, {} from now", date(end), span(left)),
        Err(_) => format!("ended {}", date(end)),
    };
    if served.ends_soon(now) { paint.red(&until) } else { until }
}

fn reload(last: &LastReload, paint: TextStyle) -> String {
    let at = date(i64::try_from(last.at).unwrap_or_default());
    if let Some(first) = last.problems.first() {
        let more = match last.problems.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        return paint.red(&format!("{at}, refused: {first}{more}"));
    }
    match last.unconfirmed_until {
        Some(until) => {
            let left = span(until.saturating_sub(seconds_since_1970()));
            paint.red(&format!("{at}, reverted in {left} unless it is confirmed"))
        }
        None => format!("{at}, in effect"),
    }
}

/// The consoles and tunnels as a table.
fn open(sessions: &[SessionReport], paint: TextStyle) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let head = ["KIND", "CLIENT", "USER", "TARGET", "UP", "DOWN", "AGE"].map(str::to_owned);
    let rows = sessions.iter().map(|session| {
        let user = session.user.clone().unwrap_or_else(|| "-".to_owned());
        let (up, down, age) = (bytes(session.up), bytes(session.down), span(session.age));
        [session.kind.clone(), session.client.clone(), user, session.target.clone(), up, down, age]
    });
    let table: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 7];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::from("\n");
    for (number, row) in table.iter().enumerate() {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = cells.join("  ");
        let line = if number == 0 { paint.bold(line.trim_end()) } else { line.trim_end().to_owned() };
        let _ = writeln!(text, "  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_only_where_they_are_wanted() {
        assert_eq!(TextStyle::new(false).red("x"), "x");
        assert_eq!(TextStyle::new(true).red("x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let session = |client: &str, target: &str| SessionReport {
            kind: "console".to_owned(),
            client: client.to_owned(),
            user: None,
            target: target.to_owned(),
            up: 1,
            down: 2000,
            age: 3,
        };
        let text = open(&[session("192.0.2.7", "/a"), session("::1", "/longer")], TextStyle::new(false));
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.first(), Some(&"  KIND     CLIENT     USER  TARGET   UP   DOWN    AGE"));
        assert_eq!(lines.get(2), Some(&"  console  ::1        -     /longer  1 B  2.0 kB  3 s"));
    }
}

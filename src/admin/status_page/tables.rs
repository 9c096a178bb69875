//! Consoles and tunnels, certificates, limits and failed logins.

use super::html::{Column, Html};
use crate::metrics::report::{ServedCertificate, SessionReport, StatusReport};
use crate::metrics::units;

/// Consoles and tunnels that the page shows; the JSON has a thousand.
const MAX_SESSIONS: usize = 200;

pub(super) fn sessions(html: &mut Html, report: &StatusReport) {
    const COLUMNS: [Column; 7] = [
        Column::text("Target"),
        Column::text("Kind"),
        Column::text("Client"),
        Column::text("User"),
        Column::number("From the client"),
        Column::number("To the client"),
        Column::number("Open for"),
    ];
    html.raw("<section aria-labelledby=\"sessions\"><h2 id=\"sessions\">Consoles and tunnels</h2>");
    let rows: Vec<_> = report.open.iter().take(MAX_SESSIONS).map(session).collect();
    if rows.is_empty() {
        html.raw("<p class=\"empty\">None is open.</p>");
    } else {
        let all = report.consoles + report.tunnels;
        let plural =
            |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        let [consoles, tunnels] = [plural(report.consoles, "console"), plural(report.tunnels, "tunnel")];
        let caption = if all > rows.len() {
            format!("{consoles} and {tunnels}; the oldest {} are shown", rows.len())
        } else {
            format!("{consoles} and {tunnels}")
        };
        html.table(&caption, &COLUMNS, &rows);
    }
    html.raw("</section>");
}

fn session(session: &SessionReport) -> Vec<Html> {
    let foreign = |value: &str| {
        let mut html = Html::default();
        html.foreign(value);
        html
    };
    vec![
        foreign(&session.target),
        Html::of(&session.kind),
        Html::of(&session.client),
        foreign(session.user.as_deref().unwrap_or("–")),
        Html::of(units::bytes(session.up)),
        Html::of(units::bytes(session.down)),
        Html::of(units::span(session.age)),
    ]
}

pub(super) fn certificates(html: &mut Html, report: &StatusReport) {
    const COLUMNS: [Column; 4] = [
        Column::text("File"),
        Column::text("Names"),
        Column::number("Expires in"),
        Column::number("Expires"),
    ];
    if report.certificates.is_empty() {
        return;
    }
    html.raw("<section aria-labelledby=\"certificates\"><h2 id=\"certificates\">Certificates</h2>");
    let rows: Vec<_> = report.certificates.iter().map(|served| certificate(served, report.time)).collect();
    html.table("The first is the default", &COLUMNS, &rows);
    html.raw("</section>");
}

fn certificate(served: &ServedCertificate, now: u64) -> Vec<Html> {
    let mut left = Html::default();
    left.raw(if served.ends_soon(now) { "<span class=\"bad\">" } else { "<span>" });
    match u64::try_from(served.seconds_left(now)) {
        Ok(rest) => left.text(units::span(rest)),
        Err(_) => left.raw("has expired"),
    };
    left.raw("</span>");
    let names = if served.names.is_empty() { "–".to_owned() } else { served.names.join(", ") };
    vec![Html::of(&served.file), Html::of(names), left, Html::of(units::date(served.expires))]
}

pub(super) fn limits(html: &mut Html, report: &StatusReport) {
    const COLUMNS: [Column; 3] =
        [Column::text("Limit"), Column::number("Last 15 minutes"), Column::number("Since the start")];
    html.raw("<section aria-labelledby=\"limits\"><h2 id=\"limits\">Limits that clients reached</h2>");
    if report.limits.is_empty() {
        html.raw("<p class=\"empty\">None since the start.</p>");
    } else {
        let rows = report.limits.iter().map(|limit| {
            let [recent, total] = [limit.recent, limit.total].map(units::count);
            let mut name = Html::of(meaning(&limit.limit));
            name.raw(" <span class=\"muted\">").text(&limit.limit).raw("</span>");
            vec![name, Html::of(recent), Html::of(total)]
        });
        html.table("Rejected requests and connections", &COLUMNS, &rows.collect::<Vec<_>>());
    }
    html.raw("</section>");
}

/// The limit that the client exceeded, as the reference of the metrics names it.
fn meaning(limit: &str) -> &'static str {
    match limit {
        "login_failures" => "failed logins",
        "logins_at_once" => "logins at once",
        "logins_waiting" => "waiting logins",
        "connections" => "all connections",
        "connections_per_address" => "connections of an address",
        "requests_per_address" => "requests of an address",
        "calls" => "rate of a call",
        "buffered" => "memory for request bodies",
        "strangers" => "share of clients without a login",
        "handshakes" => "handshakes of rejected clients",
        "uploads" => "number of uploads",
        "spool" => "bytes of all uploads",
        "body" => "size of a body",
        "body_time" => "time for a body",
        "header" => "size of a head",
        "url" => "length of a target",
        "frames" => "frames of HTTP/2",
        _ => "",
    }
}

pub(super) fn failed_logins(html: &mut Html, report: &StatusReport) {
    const COLUMNS: [Column; 4] = [
        Column::text("Client"),
        Column::number("Failures"),
        Column::number("Last one"),
        Column::number("Rejected for"),
    ];
    html.raw("<section aria-labelledby=\"logins\"><h2 id=\"logins\">Failed logins</h2>");
    if report.failed_logins.is_empty() {
        html.raw("<p class=\"empty\">None in the last 15 minutes.</p>");
    } else {
        let rows = report.failed_logins.iter().map(|failed| {
            let rejected = failed.rejected_for.map_or_else(|| "–".to_owned(), units::span);
            let age = format!("{} ago", units::span(failed.age));
            vec![
                Html::of(&failed.client),
                Html::of(units::count(failed.failures)),
                Html::of(age),
                Html::of(rejected),
            ]
        });
        html.table("By client, of the last 15 minutes", &COLUMNS, &rows.collect::<Vec<_>>());
    }
    html.raw("</section>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::Metrics;
    use crate::metrics::report::FailedLoginReport;

    #[test]
    fn values_of_clients_are_escaped() {
        let mut report = StatusReport::now(&Metrics::default());
        let hostile = "<img src=x onerror=alert(1)>";
        report.open = vec![SessionReport {
            kind: "console".to_owned(),
            client: "192.0.2.1".to_owned(),
            user: Some(hostile.to_owned()),
            target: format!("/nodes/{hostile}"),
            up: 1,
            down: 2,
            age: 3,
        }];
        let failed = |client: &str| FailedLoginReport {
            client: client.to_owned(),
            failures: 1,
            age: 2,
            rejected_for: Some(30),
        };
        report.failed_logins = vec![failed("192.0.2.0/24"), failed(hostile)];
        report.certificates =
            vec![ServedCertificate { file: hostile.to_owned(), names: vec![hostile.to_owned()], expires: 0 }];
        let text = super::super::render_main(&report);
        assert!(!text.contains("<img"), "{text}");
        assert_eq!(text.matches("&lt;img src=x onerror=alert(1)&gt;").count(), 5);
    }

    #[test]
    fn a_page_has_a_bounded_number_of_sessions() {
        let mut report = StatusReport::now(&Metrics::default());
        let one = SessionReport {
            kind: "tunnel".to_owned(),
            client: "192.0.2.1".to_owned(),
            user: None,
            target: "node1:61000".to_owned(),
            up: 1,
            down: 2,
            age: 3,
        };
        report.open = vec![one; 1000];
        report.tunnels = 5000;
        let mut html = Html::default();
        sessions(&mut html, &report);
        let text = html.into_string();
        assert_eq!(text.matches("node1:61000").count(), MAX_SESSIONS);
        assert!(text.contains("0 consoles and 5000 tunnels; the oldest 200 are shown"));
    }
}

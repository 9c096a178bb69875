//! The top of the page: the process, what needs attention, and the traffic of the last quarter of an hour.

use super::chart::{Chart, Series, ValueFormat, Values};
use super::html::{Column, Html};
use crate::metrics::history::HistoryReport;
use crate::metrics::process::LastReload;
use crate::metrics::report::StatusReport;
use crate::metrics::units;

const MINUTE: u64 = 60;
/// Warnings that are shown at once; you open a list for the others.
const OPEN_WARNINGS: usize = 4;

/// The profile and the node.
pub(super) fn title(report: &StatusReport) -> String {
    if report.node.is_empty() {
        format!("{} – nodegate", report.profile)
    } else {
        format!("{} on {} – nodegate", report.profile, report.node)
    }
}

pub(super) fn header(html: &mut Html, report: &StatusReport) {
    html.raw("<header><div><h1>").text(&report.profile);
    if !report.node.is_empty() {
        html.raw(" <small>on</small> ").text(&report.node);
    }
    html.raw(" <small>nodegate ").text(&report.version).raw("</small></h1><ul class=\"facts\"><li>");
    html.raw(if report.draining {
        "<span class=\"tag warn\">draining</span>"
    } else {
        "<span class=\"tag good\">serving</span>"
    });
    html.raw(" for ").text(units::span(report.time.saturating_sub(report.since)));
    html.raw(", since ").text(date(report.since)).raw("</li><li>process ").text(report.pid);
    html.raw("</li><li>listening on ").text(report.listening.join(", ")).raw("</li><li>last reload: ");
    match &report.last_reload {
        Some(last) => reload(html, last),
        None => {
            html.raw("none");
        }
    }
    if let Some(routes) = &report.routes {
        html.raw("</li><li>routes: ").text(&routes.summary);
    }
    html.raw("</li></ul></div><div id=\"live\" class=\"live\" data-own hidden><span id=\"state\"></span>");
    html.raw("<button id=\"pause\" type=\"button\">Pause</button></div></header>");
}

fn reload(html: &mut Html, last: &LastReload) {
    html.text(date(last.at)).raw(if !last.problems.is_empty() {
        ", <span class=\"bad\">refused</span>"
    } else if last.unconfirmed_until.is_some() {
        ", <span class=\"warn\">not confirmed yet</span>"
    } else {
        ", in effect"
    });
}

pub(super) fn warnings(html: &mut Html, report: &StatusReport) {
    let heading = match report.warnings.len() {
        0 => "Nothing needs your attention".to_owned(),
        1 => "1 warning".to_owned(),
        all => format!("{all} warnings"),
    };
    let is_calm = report.warnings.is_empty();
    html.raw("<section aria-labelledby=\"warnings\" class=\"warnings");
    html.raw(if is_calm { " none\">" } else { "\">" });
    html.raw("<h2 id=\"warnings\">").text(heading).raw("</h2>");
    let (shown, more) = report.warnings.split_at(report.warnings.len().min(OPEN_WARNINGS));
    list(html, shown);
    if !more.is_empty() {
        html.raw("<details><summary>").text(more.len()).raw(" more</summary>");
        list(html, more);
        html.raw("</details>");
    }
    html.raw("</section>");
}

fn list(html: &mut Html, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    html.raw("<ul>");
    for warning in warnings {
        html.raw("<li>").text(warning).raw("</li>");
    }
    html.raw("</ul>");
}

pub(super) fn traffic(html: &mut Html, report: &StatusReport) {
    html.raw("<section aria-labelledby=\"traffic\"><h2 id=\"traffic\" class=\"hidden\">Traffic</h2>");
    html.raw("<div class=\"cards\">");
    for chart in [requests(report), times(report), connections(report)] {
        chart.render(html);
    }
    if report.upstreams.iter().any(|upstream| upstream.queue.is_some()) {
        waiting(report).render(html);
    }
    html.raw("</div><details><summary>Values by minute</summary>");
    by_minute(html, &report.history);
    html.raw("</details></section>");
}

fn requests(report: &StatusReport) -> Chart<'_> {
    let (history, requests) = (&report.history, &report.requests);
    let classes = (1..).zip(requests.classes).filter(|(_, count)| *count > 0);
    let classes: Vec<_> =
        classes.map(|(class, count)| format!("{class}xx {}", units::count(count))).collect();
    let answered = format!("{} since the start", units::count(requests.total));
    let refused = format!("{} without a valid login (401)", units::count(requests.refused));
    let notes = if classes.is_empty() { vec![answered] } else { vec![answered, classes.join(", "), refused] };
    Chart {
        title: "Requests",
        format: ValueFormat::Rate,
        now: (last(&history.requests_per_second, units::rate), "a second"),
        series: vec![
            Series {
                column: "requests_per_second",
                name: "all",
                values: Values::Rates(&history.requests_per_second),
            },
            Series {
                column: "errors_per_second",
                name: "errors (5xx)",
                values: Values::Rates(&history.errors_per_second),
            },
        ],
        notes,
    }
}

fn times(report: &StatusReport) -> Chart<'_> {
    let history = &report.history;
    let (now, note) = match &report.latency {
        Some(latency) => {
            let most = units::milliseconds(latency.p99_ms);
            let count = units::count(latency.count);
            (
                units::milliseconds(latency.p50_ms),
                format!("99 of 100 within {most}, of {count} in the last minute"),
            )
        }
        None => ("–".to_owned(), "no request was measured in the last minute".to_owned()),
    };
    Chart {
        title: "Response time",
        format: ValueFormat::Time,
        now: (now, "median, last minute"),
        series: vec![
            Series { column: "p50_ms", name: "median", values: Values::Times(&history.p50_ms) },
            Series { column: "p99_ms", name: "99 of 100", values: Values::Times(&history.p99_ms) },
        ],
        notes: vec![note],
    }
}

fn connections(report: &StatusReport) -> Chart<'_> {
    let connections = &report.connections;
    let (total, denied) = (units::count(connections.total), units::count(connections.denied));
    Chart {
        title: "Connections",
        format: ValueFormat::Count,
        now: (units::count(connections.open), "open"),
        series: vec![Series {
            column: "connections",
            name: "open",
            values: Values::Counts(&report.history.connections),
        }],
        notes: vec![format!("{total} since the start"), format!("{denied} denied by the access list")],
    }
}

fn waiting(report: &StatusReport) -> Chart<'_> {
    let queues = || report.upstreams.iter().filter_map(|upstream| upstream.queue.as_ref());
    let waiting: usize = queues().map(|queue| queue.waiting).sum();
    let rejected: u64 = queues().map(|queue| queue.rejected).sum();
    Chart {
        title: "Waiting for a worker",
        format: ValueFormat::Count,
        now: (waiting.to_string(), "requests"),
        series: vec![Series {
            column: "waiting",
            name: "requests",
            values: Values::Counts(&report.history.waiting),
        }],
        notes: vec![format!("{} rejected since the start", units::count(rejected))],
    }
}

fn last<T: Copy>(values: &[T], show: impl Fn(T) -> String) -> String {
    values.last().map_or_else(|| "–".to_owned(), |value| show(*value))
}

/// The charts as a table: a row for each minute, the last one first.
fn by_minute(html: &mut Html, history: &HistoryReport) {
    const COLUMNS: [Column; 7] = [
        Column::text("Minutes ago"),
        Column::number("Requests a second"),
        Column::number("Errors a second"),
        Column::number("Median"),
        Column::number("99 of 100"),
        Column::number("Connections"),
        Column::number("Waiting"),
    ];
    let intervals = usize::try_from(MINUTE / history.interval.max(1)).unwrap_or(1).max(1);
    let rows = history.connections.rchunks(intervals).enumerate().map(|(minute, connections)| {
        let end = history.connections.len() - minute * intervals;
        let of = |values: &[f64]| slice(values, end, intervals).to_vec();
        let times = |values: &[Option<f64>]| {
            slice(values, end, intervals)
                .iter()
                .flatten()
                .copied()
                .fold(None, |most, value| Some(most.map_or(value, |most: f64| most.max(value))))
        };
        let mean = |values: Vec<f64>| {
            let count = units::float(u64::try_from(values.len()).unwrap_or_default()).max(1.0);
            units::rate(values.iter().sum::<f64>() / count)
        };
        let time = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), units::milliseconds);
        let most = |values: &[u64]| units::count(values.iter().copied().max().unwrap_or_default());
        vec![
            Html::of(minute),
            Html::of(mean(of(&history.requests_per_second))),
            Html::of(mean(of(&history.errors_per_second))),
            Html::of(time(times(&history.p50_ms))),
            Html::of(time(times(&history.p99_ms))),
            Html::of(most(connections)),
            Html::of(most(slice(&history.waiting, end, intervals))),
        ]
    });
    let caption = "Mean rates, and the highest of the other values in each minute";
    html.table(caption, &COLUMNS, &rows.collect::<Vec<_>>());
}

/// Up to `count` values before `end`.
fn slice<T>(values: &[T], end: usize, count: usize) -> &[T] {
    values.get(end.saturating_sub(count)..end).unwrap_or_default()
}

pub(super) fn date(seconds: u64) -> String {
    units::date(i64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_the_mean_of_its_rates() {
        let values = |from: u32| (from..from + 8).map(f64::from).collect::<Vec<_>>();
        let history = HistoryReport {
            interval: 10,
            connections: (0..8).collect(),
            requests_per_second: values(0),
            errors_per_second: values(10),
            p50_ms: vec![None; 8],
            p99_ms: values(20).into_iter().map(Some).collect(),
            waiting: vec![0; 8],
            ..HistoryReport::default()
        };
        let mut html = Html::default();
        by_minute(&mut html, &history);
        let text = html.into_string();
        let cells = regex::Regex::new("<span>([^<]*)</span>").unwrap();
        let cells: Vec<_> = cells.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        assert_eq!(
            cells,
            ["0", "4.5", "14.5", "–", "27 ms", "7", "0", "1", "0.5", "10.5", "–", "21 ms", "1", "0"]
        );
    }
}

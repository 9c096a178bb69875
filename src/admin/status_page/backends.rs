//! The daemons of this machine, and the other nodes.

use super::html::{Column, Html};
use crate::metrics::queues::QueueReport;
use crate::metrics::report::StatusReport;
use crate::metrics::units;
use crate::metrics::upstreams::{PinState, UpstreamReport};

/// Workers that get a mark each; more are only counted.
const MAX_MARKS: usize = 16;
/// Running slow calls that are shown; the JSON has all.
const MAX_CALLS: usize = 10;
/// Begins the name of a node.
const NODE: &str = "node ";

pub(super) fn daemons(html: &mut Html, report: &StatusReport) {
    let mut daemons = report.upstreams.iter().filter(|upstream| !upstream.name.starts_with(NODE)).peekable();
    if daemons.peek().is_none() {
        return;
    }
    html.raw(
        "<section aria-labelledby=\"backends\"><h2 id=\"backends\">Backends</h2><div class=\"backends\">",
    );
    for upstream in daemons {
        daemon(html, upstream, report.time);
    }
    html.raw("</div></section>");
}

fn daemon(html: &mut Html, upstream: &UpstreamReport, now: u64) {
    let address = upstream.address.as_deref().unwrap_or("no address");
    html.raw("<article class=\"card\"><h3>").text(&upstream.name).raw(" <span class=\"muted\">at ");
    html.text(address).raw("</span> ");
    state(html, upstream);
    html.raw("</h3>");
    html.raw("<div class=\"split\"><div>");
    if let Some(queue) = &upstream.queue {
        marks(html, queue);
    }
    html.raw("<dl class=\"figures\">");
    let mut figure = |name: &'static str, value: String| {
        html.raw("<div><dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd></div>");
    };
    if let Some(queue) = &upstream.queue {
        match queue.workers {
            0 => figure("Requests at once", format!("{}, no limit", queue.busy)),
            workers => figure("Workers busy", format!("{} of {workers}", queue.busy)),
        }
        figure("Waiting", queue.waiting.to_string());
        figure("Longest wait", queue.oldest_wait_ms.map_or_else(|| "–".to_owned(), milliseconds));
        figure("Rejected", units::count(queue.rejected));
    }
    figure("Answered", units::count(upstream.health.answered));
    figure("Failed", units::count(upstream.health.failed));
    html.raw("</dl>");
    failure(html, upstream, now);
    html.raw("</div>");
    if let Some(queue) = &upstream.queue {
        calls(html, queue);
    }
    html.raw("</div></article>");
}

fn state(html: &mut Html, upstream: &UpstreamReport) {
    match (&upstream.unreachable, upstream.pin) {
        (Some(_), _) => html.raw("<span class=\"tag bad\">not reachable</span>"),
        (None, Some(PinState::Unknown)) => html.raw("<span class=\"tag warn\">not usable</span>"),
        (None, _) => html.raw("<span class=\"tag good\">reachable</span>"),
    };
}

/// A mark for each worker. The figures say the same.
fn marks(html: &mut Html, queue: &QueueReport) {
    if !(1..=MAX_MARKS).contains(&queue.workers) {
        return;
    }
    html.raw("<p class=\"slots\" aria-hidden=\"true\">");
    for number in 0..queue.workers {
        html.raw(if number < queue.busy { "<span class=\"busy\"></span>" } else { "<span></span>" });
    }
    html.raw("</p>");
}

fn failure(html: &mut Html, upstream: &UpstreamReport, now: u64) {
    if let Some(cause) = &upstream.unreachable {
        html.raw("<p class=\"failure bad\">").text(cause).raw("</p>");
    }
    if upstream.health.last_failure.is_some() {
        html.raw("<p class=\"failure\">");
        last_failure(html, upstream, now);
        html.raw("</p>");
    }
}

/// A failure that was followed by an answer is over.
fn last_failure(html: &mut Html, upstream: &UpstreamReport, now: u64) {
    let Some(last) = &upstream.health.last_failure else { return };
    let is_over = upstream.health.last_answer.is_some_and(|answered| answered > last.at);
    html.raw(if is_over { "Last failure " } else { "<span class=\"bad\">Last failure</span> " });
    html.text(units::span(now.saturating_sub(last.at))).raw(" ago: ").text(&last.cause);
    if let Some(request) = &last.request {
        html.raw(", request ").text(request);
    }
}

fn calls(html: &mut Html, queue: &QueueReport) {
    if queue.slow.is_empty() && queue.costliest.is_empty() {
        return;
    }
    html.raw("<div>");
    if !queue.slow.is_empty() {
        let columns = [Column::text("Call"), Column::number("Running for")];
        let rows: Vec<_> = queue
            .slow
            .iter()
            .take(MAX_CALLS)
            .map(|call| vec![Html::of(&call.template), Html::of(milliseconds(call.age_ms))])
            .collect();
        let caption = match queue.slow.len() {
            all if all > MAX_CALLS => format!("Slow calls that are running: {MAX_CALLS} of {all}"),
            _ => "Slow calls that are running".to_owned(),
        };
        html.table(&caption, &columns, &rows);
    }
    if !queue.costliest.is_empty() {
        let columns = [Column::text("Call"), Column::number("Calls"), Column::number("Worker time")];
        let rows = queue.costliest.iter().map(|cost| {
            let time = units::milliseconds(cost.seconds * 1000.0);
            vec![Html::of(&cost.template), Html::of(units::count(cost.calls)), Html::of(time)]
        });
        html.table("Costliest calls of the last minutes", &columns, &rows.collect::<Vec<_>>());
    }
    html.raw("</div>");
}

pub(super) fn nodes(html: &mut Html, report: &StatusReport) {
    const COLUMNS: [Column; 7] = [
        Column::text("Node"),
        Column::text("State"),
        Column::text("Certificate"),
        Column::number("Answers in"),
        Column::number("Answered"),
        Column::number("Failed"),
        Column::text("Last failure"),
    ];
    let nodes = report.upstreams.iter().filter_map(|it| Some((it.name.strip_prefix(NODE)?, it)));
    let rows: Vec<_> = nodes.map(|(name, node)| row(name, node, report.time)).collect();
    if rows.is_empty() {
        return;
    }
    html.raw("<section aria-labelledby=\"nodes\"><h2 id=\"nodes\">Other nodes</h2>");
    html.table("A test connection at most every 5 s; counts are since the start", &COLUMNS, &rows);
    html.raw("</section>");
}

fn row(name: &str, node: &UpstreamReport, now: u64) -> Vec<Html> {
    let mut first = Html::of(name);
    first.raw(" <span class=\"muted\">").text(node.address.as_deref().unwrap_or("no address")).raw("</span>");
    let (mut reached, mut last) = (Html::default(), Html::default());
    state(&mut reached, node);
    let mut pin = Html::default();
    match node.pin {
        Some(PinState::Verified) => pin.raw("<span class=\"good\">verified</span>"),
        Some(PinState::Mismatch) => pin.raw("<span class=\"bad\">another certificate</span>"),
        Some(PinState::Unknown) => pin.raw("<span class=\"warn\">none is known</span>"),
        None => pin.raw("not checked"),
    };
    if let Some(cause) = &node.unreachable {
        last.raw("<span class=\"bad\">").text(cause).raw("</span>");
    } else if node.health.last_failure.is_some() {
        last_failure(&mut last, node, now);
    } else {
        last.raw("none");
    }
    let answer = node.answer_ms.map_or_else(|| "–".to_owned(), units::milliseconds);
    let [answered, failed] = [node.health.answered, node.health.failed].map(units::count);
    vec![first, reached, pin, Html::of(answer), Html::of(answered), Html::of(failed), last]
}

fn milliseconds(time: u64) -> String {
    units::milliseconds(units::float(time))
}

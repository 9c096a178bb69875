//! The status as server-sent events (HTML standard, section 9.2): a report every two seconds.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::unfold;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::admin::status_page;
use crate::admin::status_reporter::{FailedLoginNames, StatusReporter};

/// Limit of concurrent streams. The listener has further places for scrapers and probes.
pub(super) const MAX_STREAMS: usize = 8;
/// After this time a stream ends. A browser then connects again by itself.
pub(super) const MAX_DURATION: Duration = Duration::from_mins(10);
const EVENT_INTERVAL: Duration = Duration::from_secs(2);
/// How long browsers wait before they connect again.
const RETRY: &str = "retry: 2000\n\n";

type FrameResult = Result<Frame<Bytes>, Infallible>;

/// The body of a stream. Dropping it frees its place.
pub(super) type EventBody = StreamBody<Pin<Box<dyn Stream<Item = FrameResult> + Send>>>;

/// The events of one stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EventKind {
    /// the report as JSON
    Report,
    /// the report, and the page that shows it
    ReportAndPage,
}

struct EventStream {
    source: EventSource,
    until: Instant,
    end: CancellationToken,
    _place: OwnedSemaphorePermit,
}

struct EventSource {
    reporter: Arc<StatusReporter>,
    kind: EventKind,
    ticks: Interval,
    is_first: bool,
}

/// A stream that ends with `end`, or after [`MAX_DURATION`].
pub(super) fn open(
    reporter: Arc<StatusReporter>,
    kind: EventKind,
    end: CancellationToken,
    place: OwnedSemaphorePermit,
) -> EventBody {
    let mut ticks = interval(EVENT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let source = EventSource { reporter, kind, ticks, is_first: true };
    let stream = EventStream { source, until: Instant::now() + MAX_DURATION, end, _place: place };
    StreamBody::new(Box::pin(unfold(stream, EventStream::next)))
}

impl EventStream {
    async fn next(mut self) -> Option<(FrameResult, Self)> {
        let text = tokio::select! {
            biased;
            () = self.end.cancelled() => return None,
            () = sleep_until(self.until) => return None,
            text = self.source.next() => text,
        };
        Some((Ok(Frame::data(Bytes::from(text))), self))
    }
}

impl EventSource {
    async fn next(&mut self) -> String {
        self.ticks.tick().await;
        let report = self.reporter.report(FailedLoginNames::AsSet).await;
        let mut text = String::new();
        if std::mem::take(&mut self.is_first) {
            text.push_str(RETRY);
        }
        push_event(&mut text, "status", &status_page::json(&report));
        if self.kind == EventKind::ReportAndPage {
            push_event(&mut text, "page", &status_page::render_main(&report));
        }
        text
    }
}

/// One event. Each line of its data gets a line of the stream.
fn push_event(text: &mut String, name: &str, data: &str) {
    text.push_str("event: ");
    text.push_str(name);
    text.push('\n');
    for line in data.split(['\r', '\n']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_data_ends_an_event() {
        let mut text = String::new();
        push_event(&mut text, "page", "<p>\n\nevent: x\rdata: y</p>");
        assert_eq!(text, "event: page\ndata: <p>\ndata: \ndata: event: x\ndata: data: y</p>\n\n");
    }
}

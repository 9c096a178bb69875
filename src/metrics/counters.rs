//! The counters of the process. All threads add to the same relaxed atomics; no call takes a lock.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::family::LabeledFamily;
use super::histogram::Histogram;
use super::history::{History, HistorySample};
use super::labels::{
    HandshakeResult, LimitLabel, ReloadLabel, RequestDestination, ResponseLabels, StatusClass,
};
use super::latency_window::LatencyWindow;
use super::process::ProcessInfo;
use super::prometheus;
use super::queues::QueueMetrics;
use super::sessions::Sessions;
use super::upstreams::UpstreamRecords;

const UNAUTHORIZED: u16 = 401;

/// Everything that a process counts. A reload keeps it.
#[derive(Default)]
pub struct Metrics {
    pub process: ProcessInfo,
    pub sessions: Arc<Sessions>,
    pub upstreams: UpstreamRecords,
    pub queues: QueueMetrics,
    pub connections_open: Gauge,
    pub connections: Counter,
    /// clients that the access list rejected
    pub acl_denied: Counter,
    /// connections whose first request has a header with another client's address, which was ignored
    pub forwarded_ignored: Counter,
    pub tls_handshakes: LabeledFamily<HandshakeResult, Counter>,
    pub responses: LabeledFamily<ResponseLabels, Counter>,
    /// of the responses with a latency
    pub durations: LabeledFamily<RequestDestination, Histogram>,
    pub response_body_bytes: Counter,
    pub unauthorized_responses: Counter,
    /// requests that shared the response to another
    pub requests_coalesced: Counter,
    pub limit_rejections: LabeledFamily<LimitLabel, Counter>,
    pub uploads: UploadGauges,
    pub reloads: LabeledFamily<ReloadLabel, Counter>,
    /// latencies of the last minute
    pub latencies: LatencyWindow,
    /// values of the last quarter of an hour
    pub history: History,
    pub(super) draining: Gauge,
}

/// Handles for the spool of uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadGauges {
    /// running uploads
    pub running: Gauge,
    /// bytes that running uploads hold
    pub spool_bytes: Gauge,
}

/// A response that was sent.
#[derive(Clone, Copy, Debug)]
pub struct FinishedResponse {
    pub destination: RequestDestination,
    pub status: u16,
    /// of the body
    pub bytes: u64,
    /// when its request began; `None` if it has no latency
    pub started: Option<Instant>,
}

impl Metrics {
    /// Counts a response. nodegate itself delays a rejected login, so that time is no latency.
    pub fn count_response(&self, response: FinishedResponse) {
        let FinishedResponse { destination, status, bytes, started } = response;
        if let Some(class) = StatusClass::from_status(status) {
            self.responses[ResponseLabels { route: destination, status: class }].inc();
        }
        self.response_body_bytes.inc_by(bytes);
        if status == UNAUTHORIZED {
            self.unauthorized_responses.inc();
        } else if let Some(started) = started {
            let latency = started.elapsed();
            self.latencies.add(latency);
            self.durations[destination].observe(latency);
        }
    }

    /// Counts a request or connection over a limit.
    pub fn count_limit(&self, limit: LimitLabel) {
        self.limit_rejections[limit].inc();
    }

    /// Ends an interval of the latencies and of the history. The main thread calls it every
    /// [`super::latency_window::ADVANCE_INTERVAL`].
    pub fn advance(&self) {
        self.history.push(HistorySample::new(self, &self.latencies.advance()));
    }

    /// Marks this process as draining.
    pub fn start_draining(&self) {
        self.draining.set(1);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get() == 1
    }

    /// All metrics in Prometheus text format. It holds no user name, no path and no secret.
    pub fn to_prometheus_text(&self) -> String {
        prometheus::text(self)
    }
}

/// Counts a connection. Dropping it ends the count.
pub struct ConnectionCount(Gauge);

impl ConnectionCount {
    pub fn new(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        metrics.connections_open.inc();
        Self(metrics.connections_open.clone())
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_summed() {
        let metrics = Metrics::default();
        let answer = |status, started| {
            metrics.count_response(FinishedResponse {
                destination: RequestDestination::File,
                status,
                bytes: 7,
                started,
            });
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _open = ConnectionCount::new(&metrics);
                    metrics.acl_denied.inc();
                    answer(200, Some(Instant::now()));
                    answer(404, None);
                    answer(401, Some(Instant::now()));
                    answer(999, None);
                });
            }
        });
        let count =
            |status| metrics.responses[ResponseLabels { route: RequestDestination::File, status }].get();
        assert_eq!((metrics.connections.get(), metrics.connections_open.get()), (4, 0));
        assert_eq!((metrics.acl_denied.get(), metrics.unauthorized_responses.get()), (4, 4));
        assert_eq!((count(StatusClass::Success), count(StatusClass::ClientError)), (4, 8));
        assert_eq!(metrics.responses.series().map(|(_, count)| count.get()).sum::<u64>(), 12);
        assert_eq!((metrics.response_body_bytes.get(), metrics.latencies.read().count()), (4 * 4 * 7, 4));
    }
}

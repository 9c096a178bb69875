//! The names of the metrics in Prometheus. A renamed metric has both names for one release.

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::counters::Metrics;
use super::family::LabeledFamily;
use super::labels::{ByteLabels, Direction};
use super::process::ReportInputs;
use super::queues::QueueMetrics;
use super::sessions::SessionKind;

const PREFIX: &str = "nodegate";

/// All metrics in Prometheus text format. It holds no user name, no path and no secret.
pub(super) fn text(metrics: &Metrics) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    register_process(&mut registry, metrics);
    register_connections(&mut registry, metrics);
    register_requests(&mut registry, metrics);
    register_queues(&mut registry, metrics);
    register_sessions(&mut registry, metrics);
    let mut text = String::with_capacity(32 << 10);
    let _ = prometheus_text::encode(&mut text, &registry); // a String takes all text
    text
}

fn register_process(registry: &mut Registry, metrics: &Metrics) {
    let ReportInputs { profile, certificates, .. } = metrics.process.known();
    let version = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("profile", profile)];
    registry.register("build", "Version and profile of the process", Info::new(version));
    let started = ConstGauge::new(metrics.process.started());
    registry.register("start_time_seconds", "Start of the process, in seconds since 1970", started);
    let help = "1 if the process accepts no more connections, otherwise 0";
    registry.register("draining", help, metrics.draining.clone());
    let expiry = Family::<[(&str, u64); 1], Gauge>::default();
    for (number, certificate) in (1..).zip(certificates) {
        expiry.get_or_create(&[("certificate", number)]).set(certificate.expires);
    }
    let help = "End of a served certificate, in seconds since 1970; the first is the profile's own";
    registry.register("certificate_expiry_timestamp_seconds", help, expiry);
    registry.register("reloads", "Reloads by outcome", metrics.reloads.clone());
}

fn register_requests(registry: &mut Registry, metrics: &Metrics) {
    registry.register("requests", "Responses by route and scope of the status", metrics.responses.clone());
    let help = "Time from the head of a request to the last byte of its response, without status 401";
    registry.register("request_duration_seconds", help, metrics.durations.clone());
    let renamed = Renamed { name: "response_body_bytes", former: "answer_bytes" };
    renamed.register(registry, "Bytes of response bodies", metrics.response_body_bytes.clone());
    let renamed = Renamed { name: "unauthorized_responses", former: "logins_refused" };
    let help = "Responses with status 401: failed logins and rejected credentials";
    renamed.register(registry, help, metrics.unauthorized_responses.clone());
    let renamed = Renamed { name: "requests_coalesced", former: "coalesced" };
    let help = "Requests that shared the response to the same call of another request";
    renamed.register(registry, help, metrics.requests_coalesced.clone());
    let upstream = &metrics.upstreams.totals;
    let renamed = Renamed { name: "upstream_response_header_seconds", former: "upstream_answer_seconds" };
    let help = "Time from the start of a call to the head of the response of a daemon or node";
    renamed.register(registry, help, upstream.header_times.clone());
    let help = "Failed attempts to get a response of a daemon or node, by phase";
    registry.register("upstream_errors", help, upstream.errors.clone());
}

fn register_queues(registry: &mut Registry, metrics: &Metrics) {
    let QueueMetrics { workers, busy, waiting, wait_times, rejections } = metrics.queues.clone();
    let help = "Requests at once that a daemon of this machine gets; 0 is no limit";
    registry.register("backend_workers", help, workers);
    registry.register("backend_workers_busy", "Requests that a daemon of this machine works on", busy);
    let help = "Requests that wait for a worker of a daemon of this machine";
    registry.register("backend_requests_waiting", help, waiting);
    let help = "Time that requests waited for a worker of a daemon of this machine";
    registry.register("backend_queue_seconds", help, wait_times);
    let help = "Requests that got no worker of a daemon of this machine, by the limit that they reached";
    registry.register("backend_queue_rejections", help, rejections);
}

fn register_connections(registry: &mut Registry, metrics: &Metrics) {
    registry.register("connections_open", "Open client connections", metrics.connections_open.clone());
    registry.register("connections", "Accepted client connections", metrics.connections.clone());
    let help = "Connections and requests that the access list rejected";
    registry.register("acl_denied", help, metrics.acl_denied.clone());
    let help = "TLS handshakes by version and resumption; version none is a failed handshake";
    registry.register("tls_handshakes", help, metrics.tls_handshakes.clone());
    let renamed = Renamed { name: "limit_rejections", former: "limits_hit" };
    let help = "Requests and connections that exceeded a limit";
    renamed.register(registry, help, metrics.limit_rejections.clone());
    registry.register("uploads_running", "Running uploads", metrics.uploads.running.clone());
    let help = "Bytes that running uploads have claimed or written";
    registry.register("spool_bytes", help, metrics.uploads.spool_bytes.clone());
}

fn register_sessions(registry: &mut Registry, metrics: &Metrics) {
    let totals = metrics.sessions.totals();
    let open = |kind: SessionKind| ConstGauge::new(metrics.sessions.count(kind));
    let renamed = Renamed { name: "sessions_open", former: "bridges_open" };
    renamed.register(registry, "Open consoles and tunnels", LabeledFamily::from_fn(open));
    let opened = |kind: SessionKind| ConstCounter::new(totals[kind].count);
    let renamed = Renamed { name: "sessions", former: "bridges" };
    renamed.register(registry, "Opened consoles and tunnels", LabeledFamily::from_fn(opened));
    let bytes = |labels: ByteLabels| {
        ConstCounter::new(match labels.direction {
            Direction::Up => totals[labels.kind].up,
            Direction::Down => totals[labels.kind].down,
        })
    };
    let renamed = Renamed { name: "session_bytes", former: "bridge_bytes" };
    let help = "Bytes of consoles and tunnels, seen from the client";
    renamed.register(registry, help, LabeledFamily::from_fn(bytes));
}

/// A metric with a former name.
struct Renamed {
    name: &'static str,
    former: &'static str,
}

impl Renamed {
    fn register(self, registry: &mut Registry, help: &str, metric: impl Metric + Clone) {
        let suffix = if metric.metric_type() == MetricType::Counter { "_total" } else { "" };
        let deprecated = format!("Deprecated: use {PREFIX}_{}{suffix}", self.name);
        registry.register(self.name, help, metric.clone());
        registry.register(self.former, deprecated, metric);
    }
}

//! The metrics in Prometheus text format, one sample per line. They hold no user name, no path and no secret.

use std::fmt::{Display, Write as _};

use super::counters::{self, CounterTotals};
use super::labels::{FailurePhase, HandshakeResult, LimitLabel, RequestDestination};
use super::report::{ProcessInfo, ReportInputs, seconds_since_1970};
use crate::metrics::histogram::{ENDS, HistogramTotals};
use crate::metrics::sessions;
use crate::metrics::sessions::SessionKind;

/// The type of a metric.
#[derive(Clone, Copy)]
enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

/// The whole text with the current values.
pub fn text(facts: &ProcessInfo) -> String {
    let (totals, known) = (counters::totals(), facts.known());
    let mut page = MetricsPage(String::with_capacity(16_384));
    page.process(&known);
    page.connections(&totals);
    page.requests(&totals);
    page.upstream(&totals);
    page.bridges();
    page.limits(&totals);
    page.0
}

struct MetricsPage(String);

impl MetricsPage {
    fn process(&mut self, known: &ReportInputs) {
        self.metric("build_info", MetricType::Gauge, "Version and profile of the process.");
        self.sample("build_info", &[("version", env!("CARGO_PKG_VERSION")), ("profile", &known.profile)], 1);
        let since = seconds_since_1970().saturating_sub(counters::uptime().as_secs());
        self.one(
            "start_time_seconds",
            MetricType::Gauge,
            "When the process began to serve, since 1970.",
            since,
        );
        let draining = u8::from(counters::is_draining());
        self.one(
            "draining",
            MetricType::Gauge,
            "1 when the process takes no new connections any more.",
            draining,
        );
        let help = "When a certificate that is served ends, since 1970; the first is the profile's own.";
        self.metric("certificate_expiry_timestamp_seconds", MetricType::Gauge, help);
        for (number, certificate) in (1..).zip(&known.certificates) {
            let number = u64::to_string(&number);
            let labels = [("certificate", number.as_str())];
            self.sample("certificate_expiry_timestamp_seconds", &labels, certificate.expires);
        }
        self.metric("reloads_total", MetricType::Counter, "Reloads by what came of them.");
        let reloads = known.reloads;
        let outcomes =
            [("done", reloads.done), ("refused", reloads.refused), ("taken_back", reloads.taken_back)];
        for (outcome, count) in outcomes {
            self.sample("reloads_total", &[("outcome", outcome)], count);
        }
    }

    fn connections(&mut self, totals: &CounterTotals) {
        self.one("connections_open", MetricType::Gauge, "Client connections that are open.", totals.open);
        self.one(
            "connections_total",
            MetricType::Counter,
            "Client connections accepted.",
            totals.connections,
        );
        let help = "Connections and requests that the access list turned away.";
        self.one("acl_denied_total", MetricType::Counter, help, totals.denied);
        let help = "TLS handshakes by version and resumption; version none has failed.";
        self.metric("tls_handshakes_total", MetricType::Counter, help);
        for (handshake, count) in HandshakeResult::ALL.iter().zip(totals.handshakes) {
            let (version, resumed) = handshake.names();
            self.sample("tls_handshakes_total", &[("version", version), ("resumed", resumed)], count);
        }
    }

    fn requests(&mut self, totals: &CounterTotals) {
        self.metric("requests_total", MetricType::Counter, "Answers by route and status class.");
        for (destination, classes) in RequestDestination::ALL.iter().zip(totals.answers) {
            for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(classes) {
                self.sample("requests_total", &[("route", destination.name()), ("status", class)], count);
            }
        }
        let help = "From a request's head to the last byte of its answer; a 401 is held back on purpose and not in it.";
        self.metric("request_duration_seconds", MetricType::Histogram, help);
        for (destination, times) in RequestDestination::ALL.iter().zip(&totals.times) {
            self.histogram("request_duration_seconds", &[("route", destination.name())], times);
        }
        self.one(
            "answer_bytes_total",
            MetricType::Counter,
            "Bytes of answers' bodies to clients.",
            totals.bytes,
        );
        let help = "Answers with status 401: failed logins and refused credentials.";
        self.one("logins_refused_total", MetricType::Counter, help, totals.refused);
    }

    fn upstream(&mut self, totals: &CounterTotals) {
        let help = "From the beginning of a call to the head of its answer, of daemons and other nodes.";
        self.metric("upstream_answer_seconds", MetricType::Histogram, help);
        self.histogram("upstream_answer_seconds", &[], &totals.upstream_times);
        let help = "Attempts to get an answer that failed, by what was being done.";
        self.metric("upstream_errors_total", MetricType::Counter, help);
        for (phase, count) in FailurePhase::ALL.iter().zip(totals.upstream_errors) {
            self.sample("upstream_errors_total", &[("phase", phase.name())], count);
        }
        let help = "Requests that shared the answer to the same call of another, which was under way.";
        self.one("coalesced_total", MetricType::Counter, help, totals.coalesced);
    }

    fn bridges(&mut self) {
        let kinds = [("console", SessionKind::Console), ("tunnel", SessionKind::Tunnel)];
        let sums = kinds.map(|(name, kind)| (name, sessions::sum(kind)));
        self.metric("bridges_open", MetricType::Gauge, "Consoles and tunnels that are open.");
        for (kind, (_, open)) in sums {
            self.sample("bridges_open", &[("kind", kind)], open);
        }
        self.metric("bridges_total", MetricType::Counter, "Consoles and tunnels opened.");
        for (kind, (sum, _)) in sums {
            self.sample("bridges_total", &[("kind", kind)], sum.count);
        }
        self.metric(
            "bridge_bytes_total",
            MetricType::Counter,
            "Bytes over consoles and tunnels, seen from the client.",
        );
        for (kind, (sum, _)) in sums {
            self.sample("bridge_bytes_total", &[("kind", kind), ("direction", "up")], sum.up);
            self.sample("bridge_bytes_total", &[("kind", kind), ("direction", "down")], sum.down);
        }
    }

    fn limits(&mut self, totals: &CounterTotals) {
        self.metric(
            "limits_hit_total",
            MetricType::Counter,
            "Clients told that there is too much of something.",
        );
        for (limit, count) in LimitLabel::ALL.iter().zip(totals.limits) {
            self.sample("limits_hit_total", &[("limit", limit.name())], count);
        }
        self.one("uploads_running", MetricType::Gauge, "Uploads that are running.", totals.uploads);
        self.one(
            "spool_bytes",
            MetricType::Gauge,
            "Bytes that running uploads have claimed or written.",
            totals.spool,
        );
    }

    /// A metric with one sample.
    fn one(&mut self, name: &str, kind: MetricType, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    fn metric(&mut self, name: &str, kind: MetricType, help: &str) {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP nodegate_{name} {help}\n# TYPE nodegate_{name} {kind}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], times: &HistogramTotals) {
        let ends = ENDS.iter().map(|(_, end)| *end).chain(["+Inf"]);
        let mut count = 0;
        for (end, more) in ends.zip(times.counts) {
            count += more;
            self.sample(&format!("{name}_bucket"), &[labels, &[("le", end)]].concat(), count);
        }
        let seconds = format!("{}.{:06}", times.micros / 1_000_000, times.micros % 1_000_000);
        self.sample(&format!("{name}_sum"), labels, seconds);
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "nodegate_{name}");
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_whatever_is_below_each_end() {
        let mut page = MetricsPage(String::new());
        let times = HistogramTotals { counts: [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], micros: 31_000_004 };
        page.histogram("x", &[("a", "b\"c")], &times);
        let lines: Vec<_> = page.0.lines().collect();
        assert_eq!(lines.first(), Some(&"nodegate_x_bucket{a=\"b\\\"c\",le=\"0.001\"} 1"));
        assert_eq!(lines.get(2), Some(&"nodegate_x_bucket{a=\"b\\\"c\",le=\"0.005\"} 3"));
        assert_eq!(lines.get(12), Some(&"nodegate_x_bucket{a=\"b\\\"c\",le=\"+Inf\"} 4"));
        assert_eq!(lines.get(13), Some(&"nodegate_x_sum{a=\"b\\\"c\"} 31.000004"));
        assert_eq!(lines.get(14), Some(&"nodegate_x_count{a=\"b\\\"c\"} 4"));
    }
}

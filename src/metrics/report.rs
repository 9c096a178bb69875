//! The state of the process for `nodegate status`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use enum_map::EnumMap;
use serde::{Deserialize, Serialize};

use super::counters::Metrics;
use super::history::{HistoryReport, LimitReport};
use super::labels::StatusClass;
use super::process::{LastReload, ReportInputs};
use super::sessions::{SessionInfo, SessionKind};
use super::upstreams::UpstreamReport;
use super::warnings::warnings;

/// Limit of listed consoles and tunnels; further ones are only counted.
const MAX_LISTED: usize = 1000;
/// A certificate that expires within so many seconds gets a warning.
const SOON_SECONDS: i64 = 14 * 86_400;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StatusReport {
    pub running: bool,
    pub profile: String,
    pub version: String,
    pub pid: u32,
    /// seconds since 1970
    pub since: u64,
    pub listening: Vec<String>,
    pub connections: ConnectionReport,
    pub requests: RequestReport,
    /// of the last minute; `None` if there were no responses
    pub latency: Option<LatencyReport>,
    pub consoles: usize,
    pub tunnels: usize,
    /// the oldest first, at most a thousand
    pub open: Vec<SessionReport>,
    /// of the profile's own
    pub certificate_expires: Option<i64>,
    pub certificates: Vec<ServedCertificate>,
    pub last_reload: Option<LastReload>,
    /// the daemons and the other nodes; an older process reports none
    #[serde(default)]
    pub upstreams: Vec<UpstreamReport>,
    /// settings of the files that were reverted, each with its origin
    #[serde(default, alias = "taken_back")]
    pub reverted: Vec<String>,
    /// problems with certificates and keys
    #[serde(default)]
    pub certificate_problems: Vec<String>,
    /// of the report, in seconds since 1970; this field and those below are not reported by an older process
    #[serde(default)]
    pub time: u64,
    /// the name of this node
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub draining: bool,
    /// problems of the configuration that do not prevent serving
    #[serde(default)]
    pub problems: Vec<String>,
    /// what the admin has to act on
    #[serde(default)]
    pub warnings: Vec<String>,
    /// of the last quarter of an hour
    #[serde(default)]
    pub history: HistoryReport,
    /// the limits that clients exceeded
    #[serde(default)]
    pub limits: Vec<LimitReport>,
    /// by client, the last one first
    #[serde(default)]
    pub failed_logins: Vec<FailedLoginReport>,
    /// connections that brought a header with another client's address, which was ignored
    #[serde(default)]
    pub forwarded_ignored: Option<u64>,
    /// the route table in use
    #[serde(default)]
    pub routes: Option<RouteTableReport>,
}

/// The route table in use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RouteTableReport {
    /// for people: methods, origin and packages
    pub summary: String,
    pub methods: usize,
    /// `None` if it is built in
    pub file: Option<String>,
}

/// The failed logins of one client.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailedLoginReport {
    /// an IPv4 address, or a network
    pub client: String,
    pub failures: u64,
    /// seconds since the last one
    pub age: u64,
    /// seconds for which nodegate rejects further attempts
    pub rejected_for: Option<u64>,
}

/// A certificate as the admin sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServedCertificate {
    pub file: String,
    /// host names, as in SNI
    pub names: Vec<String>,
    /// seconds since 1970
    pub expires: i64,
}

impl ServedCertificate {
    /// Whether it expires soon, or has expired.
    pub fn ends_soon(&self, now: u64) -> bool {
        self.seconds_left(now) < SOON_SECONDS
    }

    /// Negative if it has expired.
    pub fn seconds_left(&self, now: u64) -> i64 {
        self.expires - i64::try_from(now).unwrap_or_default()
    }

    /// The notice to an admin if it expires soon, or has expired.
    pub fn expiry_notice(&self, now: u64) -> Option<String> {
        let left = self.seconds_left(now);
        let days = (left + 86_399) / 86_400;
        self.ends_soon(now).then(|| match left {
            ..0 => "this certificate has expired and clients reject it: renew it".to_owned(),
            0.. => format!("this certificate expires within {days} days: renew it"),
        })
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConnectionReport {
    pub open: u64,
    pub total: u64,
    /// rejected by the access list
    pub denied: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RequestReport {
    pub total: u64,
    /// 1xx to 5xx
    pub classes: [u64; 5],
    /// answered 401
    pub refused: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LatencyReport {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionReport {
    pub kind: String,
    pub client: String,
    pub user: Option<String>,
    pub target: String,
    /// bytes from the client
    pub up: u64,
    /// bytes to the client
    pub down: u64,
    /// seconds
    pub age: u64,
}

impl StatusReport {
    pub fn now(metrics: &Metrics) -> Self {
        let ReportInputs {
            profile,
            node,
            listening,
            certificates,
            mut certificate_problems,
            renewal_problems,
            last_reload,
            reverted,
            problems,
            routes,
        } = metrics.process.known();
        certificate_problems.extend(renewal_problems);
        let sessions = metrics.sessions.all();
        let count = |kind| sessions.iter().filter(|session| session.kind == kind).count();
        let mut report = Self {
            running: true,
            profile,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: metrics.process.started(),
            listening,
            connections: ConnectionReport {
                open: u64::try_from(metrics.connections_open.get()).unwrap_or_default(),
                total: metrics.connections.get(),
                denied: metrics.acl_denied.get(),
            },
            requests: RequestReport::new(metrics),
            latency: LatencyReport::new(metrics),
            consoles: count(SessionKind::Console),
            tunnels: count(SessionKind::Tunnel),
            open: sessions.iter().take(MAX_LISTED).map(SessionReport::from_session).collect(),
            certificate_expires: certificates.first().map(|own| own.expires),
            certificates,
            last_reload,
            upstreams: Vec::new(),
            reverted,
            certificate_problems,
            time: seconds_since_1970(),
            node,
            draining: metrics.is_draining(),
            problems,
            warnings: Vec::new(),
            history: metrics.history.report(),
            limits: metrics.history.limits(metrics),
            failed_logins: Vec::new(),
            forwarded_ignored: Some(metrics.forwarded_ignored.get()),
            routes,
        };
        report.warnings = warnings(&report);
        report
    }

    /// Adds the state of the upstreams and the failed logins.
    #[must_use]
    pub fn with(self, upstreams: Vec<UpstreamReport>, failed_logins: Vec<FailedLoginReport>) -> Self {
        let report = Self { upstreams, failed_logins, ..self };
        Self { warnings: warnings(&report), ..report }
    }
}

impl LatencyReport {
    fn new(metrics: &Metrics) -> Option<Self> {
        let latencies = metrics.latencies.read();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let (half, most) = latencies.percentile(50).zip(latencies.percentile(99))?;
        Some(Self { count: latencies.count(), p50_ms: milliseconds(half), p99_ms: milliseconds(most) })
    }
}

impl RequestReport {
    fn new(metrics: &Metrics) -> Self {
        let mut classes = EnumMap::<StatusClass, u64>::default();
        metrics.responses.series().for_each(|(labels, count)| classes[labels.status] += count.get());
        Self {
            total: classes.values().sum(),
            classes: classes.into_array(),
            refused: metrics.unauthorized_responses.get(),
        }
    }
}

impl SessionReport {
    fn from_session(session: &Arc<SessionInfo>) -> Self {
        let moved = session.counter.moved();
        Self {
            kind: session.kind.to_string(),
            client: session.client.to_string(),
            user: session.user.as_deref().map(str::to_owned),
            target: session.target.clone(),
            up: moved.up,
            down: moved.down,
            age: session.since.elapsed().as_secs(),
        }
    }
}

/// One line for `systemctl status`.
pub fn status_line(metrics: &Metrics) -> String {
    let [consoles, tunnels] =
        [SessionKind::Console, SessionKind::Tunnel].map(|kind| metrics.sessions.count(kind));
    format!("{} connections, {consoles} consoles, {tunnels} tunnels", metrics.connections_open.get())
}

pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

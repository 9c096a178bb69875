//! The whole state as `nodegate status` shows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::counters;
use super::upstreams::UpstreamReport;
use crate::metrics::sessions;
use crate::metrics::sessions::{SessionInfo, SessionKind};

/// Consoles and tunnels that are told one by one; the others are only counted.
const LISTED: usize = 1000;
/// A certificate that ends within so many seconds is warned of.
const SOON: i64 = 14 * 86_400;

/// What only the main thread knows.
#[derive(Debug, Default)]
pub struct ProcessInfo(Mutex<ReportInputs>);

#[derive(Clone, Debug, Default)]
pub struct ReportInputs {
    pub profile: String,
    pub listening: Vec<String>,
    /// the profile's own first
    pub certificates: Vec<ServedCertificate>,
    /// what is wrong with certificates and keys
    pub certificate_problems: Vec<String>,
    pub last_reload: Option<LastReload>,
    pub reloads: ReloadReport,
    /// settings that a reload has put in effect, that were taken back, and that the files still hold; with their places
    pub taken_back: Vec<String>,
}

/// How often the configuration was to be loaded anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReloadReport {
    pub done: u64,
    pub refused: u64,
    pub taken_back: u64,
}

/// When it was, and what came of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LastReload {
    /// seconds since 1970
    pub at: u64,
    /// what kept it from being put in force; empty when nothing did
    pub problems: Vec<String>,
    /// seconds since 1970; until then it waits to be confirmed
    pub unconfirmed_until: Option<u64>,
}

impl ProcessInfo {
    pub fn change(&self, change: impl FnOnce(&mut ReportInputs)) {
        change(&mut self.lock());
    }

    pub fn known(&self) -> ReportInputs {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ReportInputs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    /// of the last minute; none when nothing was answered
    pub latency: Option<LatencyReport>,
    pub consoles: usize,
    pub tunnels: usize,
    /// the oldest first, and at most a thousand
    pub open: Vec<OpenBridge>,
    /// of the profile's own
    pub certificate_expires: Option<i64>,
    pub certificates: Vec<ServedCertificate>,
    pub last_reload: Option<LastReload>,
    /// the daemons and the other nodes; an older process tells of none
    #[serde(default)]
    pub upstreams: Vec<UpstreamReport>,
    /// settings of the files that were taken back, each with its place
    #[serde(default)]
    pub taken_back: Vec<String>,
    /// what is wrong with certificates and keys
    #[serde(default)]
    pub certificate_problems: Vec<String>,
}

/// A certificate as an admin knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServedCertificate {
    pub file: String,
    /// of hosts, as clients ask for them
    pub names: Vec<String>,
    /// seconds since 1970
    pub expires: i64,
}

impl ServedCertificate {
    /// Whether it is time to renew it, or past it.
    pub fn ends_soon(&self, now: u64) -> bool {
        self.expires - i64::try_from(now).unwrap_or(i64::MAX) < SOON
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConnectionReport {
    pub open: u64,
    pub total: u64,
    /// turned away by the access list
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
pub struct OpenBridge {
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
    pub fn now(facts: &ProcessInfo) -> Self {
        let ReportInputs {
            profile,
            listening,
            certificates,
            certificate_problems,
            last_reload,
            taken_back,
            ..
        } = facts.known();
        let totals = counters::totals();
        let all = sessions::all();
        let count = |kind| all.iter().filter(|bridge| bridge.kind == kind).count();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let latency = totals.latencies.percentile(50).zip(totals.latencies.percentile(99));
        Self {
            running: true,
            profile,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: seconds_since_1970().saturating_sub(counters::uptime().as_secs()),
            listening,
            connections: ConnectionReport {
                open: totals.open,
                total: totals.connections,
                denied: totals.denied,
            },
            requests: RequestReport {
                total: totals.classes.iter().sum(),
                classes: totals.classes,
                refused: totals.refused,
            },
            latency: latency.map(|(half, most)| LatencyReport {
                count: totals.latencies.count(),
                p50_ms: milliseconds(half),
                p99_ms: milliseconds(most),
            }),
            consoles: count(SessionKind::Console),
            tunnels: count(SessionKind::Tunnel),
            open: all.iter().take(LISTED).map(OpenBridge::of).collect(),
            certificate_expires: certificates.first().map(|own| own.expires),
            certificates,
            last_reload,
            upstreams: Vec::new(),
            taken_back,
            certificate_problems,
        }
    }
}

impl OpenBridge {
    fn of(bridge: &Arc<SessionInfo>) -> Self {
        let moved = bridge.meter.moved();
        Self {
            kind: bridge.kind.to_string(),
            client: bridge.client.to_string(),
            user: bridge.user.as_deref().map(str::to_owned),
            target: bridge.target.clone(),
            up: moved.up,
            down: moved.down,
            age: bridge.since.elapsed().as_secs(),
        }
    }
}

/// For one line of `systemctl status`.
pub fn status_line() -> String {
    let all = sessions::all();
    let count = |kind| all.iter().filter(|bridge| bridge.kind == kind).count();
    let (consoles, tunnels) = (count(SessionKind::Console), count(SessionKind::Tunnel));
    format!("{} connections, {consoles} consoles, {tunnels} tunnels", counters::totals().open)
}

pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

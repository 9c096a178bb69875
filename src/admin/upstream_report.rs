//! The daemons and the other nodes in a report: their counts, whether each accepts a connection now, and whether a node
//! shows its certificate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::product::Protocol;
use crate::config::settings::BackendAddress;
use crate::metrics::labels::LocalBackend;
use crate::metrics::queues::{QueueReport, RunningCall, TemplateCost};
use crate::metrics::upstreams::{HealthReport, PinState, UpstreamHealth, UpstreamReport};
use crate::state::shared::AppState;
use crate::upstream::loopback::check_reachable;
use crate::upstream::peer::{CERTIFICATE_FAULT, PeerNode};
use crate::upstream::scheduler::SchedulerStatus;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// `status --watch` polls once a second; the nodes see fewer connections.
const TTL: Duration = Duration::from_secs(5);
const CONNECTS_AT_ONCE: usize = 16;
/// Further nodes are not listed.
const MAX_NODES: usize = 64;

/// The upstreams, as the reports show them.
#[derive(Default)]
pub(crate) struct UpstreamReporter {
    last: tokio::sync::Mutex<Option<(Instant, Vec<UpstreamReport>)>>,
}

/// An upstream to connect to.
struct ProbeCandidate {
    name: String,
    target: ProbeTarget,
    health: HealthReport,
    queue: Option<QueueReport>,
}

/// How an upstream is tested.
enum ProbeTarget {
    /// a connection is enough
    Address(BackendAddress),
    /// a node that has to show its certificate
    Peer(Box<PeerNode>, SocketAddr),
    /// a node without a known certificate
    Unpinned(BackendAddress),
    /// a node without a known address
    Nowhere,
}

/// The result of a test connection.
#[derive(Default)]
struct ProbeResult {
    unreachable: Option<String>,
    pin: Option<PinState>,
    answer_ms: Option<f64>,
}

impl UpstreamReporter {
    /// The daemon first, then the worker, then the nodes by name. The counts are current, the connections up to `TTL`
    /// old. A profile without an API has no upstreams.
    pub(crate) async fn report(&self, state: &AppState) -> Vec<UpstreamReport> {
        if state.config.product.protocol != Protocol::Https {
            return Vec::new();
        }
        let mut last = self.last.lock().await;
        let known = last.take().filter(|(at, _)| at.elapsed() < TTL);
        let candidates = candidates(state);
        let (at, reports) = match known {
            Some((at, known)) if is_same(&known, &candidates) => (at, with_counts(known, candidates)),
            Some(_) | None => (Instant::now(), connect_all(candidates).await),
        };
        *last = Some((at, reports.clone()));
        reports
    }
}

fn candidates(state: &AppState) -> Vec<ProbeCandidate> {
    let settings = &state.config.settings;
    let candidate = |name: &str, address: &BackendAddress, health: &UpstreamHealth, label| {
        let queue = state.schedulers.find(address).map(|scheduler| QueueReport {
            rejected: state.metrics.queues.rejected(label),
            ..queue_report(&scheduler.status())
        });
        let (name, health) = (name.to_owned(), health.report());
        ProbeCandidate { name, target: ProbeTarget::Address(address.clone()), health, queue }
    };
    let records = &state.metrics.upstreams;
    let mut all = vec![candidate("daemon", &settings.backend.address, &records.daemon, LocalBackend::Daemon)];
    let worker = |address| candidate("worker", address, &records.worker, LocalBackend::Unprivileged);
    all.extend(settings.unprivileged.iter().map(worker));
    let table = state.nodes.get().unwrap_or_default();
    let others = table.nodes.iter().filter(|(name, _)| **name != settings.node_name);
    all.extend(others.take(MAX_NODES).map(|(name, address)| ProbeCandidate {
        name: format!("node {name}"),
        target: ProbeTarget::of_node(state, name, *address),
        health: records.node(name).report(),
        queue: None,
    }));
    all
}

impl ProbeTarget {
    /// A node that expects a PROXY header would reject the address of a test, so its certificate is not checked.
    fn of_node(state: &AppState, name: &str, address: Option<IpAddr>) -> Self {
        let settings = &state.config.settings;
        let Some(address) = address else { return Self::Nowhere };
        let address = SocketAddr::new(address, settings.cluster_port);
        let plain = BackendAddress::Tcp(address.to_string());
        if settings.cluster_proxy_protocol {
            return Self::Address(plain);
        }
        match state.peer(name) {
            Ok(peer) => Self::Peer(Box::new(peer), address),
            Err(_) => Self::Unpinned(plain),
        }
    }

    fn address(&self) -> Option<String> {
        match self {
            Self::Address(address) | Self::Unpinned(address) => Some(address.to_string()),
            Self::Peer(_, address) => Some(address.to_string()),
            Self::Nowhere => None,
        }
    }

    async fn probe(&self) -> ProbeResult {
        let started = Instant::now();
        let (unreachable, pin) = match self {
            Self::Address(address) => (check_reachable(address, CONNECT_TIMEOUT).await.err(), None),
            Self::Unpinned(address) => {
                (check_reachable(address, CONNECT_TIMEOUT).await.err(), Some(PinState::Unknown))
            }
            Self::Peer(peer, _) => check_pin(peer).await,
            Self::Nowhere => {
                (Some("it has no address yet: it has not been seen in the cluster".to_owned()), None)
            }
        };
        let answer_ms = unreachable.is_none().then(|| started.elapsed().as_secs_f64() * 1000.0);
        ProbeResult { unreachable, pin, answer_ms }
    }
}

async fn check_pin(peer: &PeerNode) -> (Option<String>, Option<PinState>) {
    match timeout(CONNECT_TIMEOUT, peer.connect()).await {
        Ok(Ok(_)) => (None, Some(PinState::Verified)),
        Ok(Err((_, cause))) => {
            let pin = cause.starts_with(CERTIFICATE_FAULT).then_some(PinState::Mismatch);
            (Some(cause), pin)
        }
        Err(_) => (Some("Connection timed out".to_owned()), None),
    }
}

fn is_same(known: &[UpstreamReport], candidates: &[ProbeCandidate]) -> bool {
    let key = |name: &str, address: &Option<String>| (name.to_owned(), address.clone());
    known.len() == candidates.len()
        && known.iter().zip(candidates).all(|(known, candidate)| {
            key(&known.name, &known.address) == key(&candidate.name, &candidate.target.address())
        })
}

fn with_counts(known: Vec<UpstreamReport>, candidates: Vec<ProbeCandidate>) -> Vec<UpstreamReport> {
    let pairs = known.into_iter().zip(candidates);
    let with_counts = |(known, candidate): (UpstreamReport, ProbeCandidate)| UpstreamReport {
        health: candidate.health,
        queue: candidate.queue,
        ..known
    };
    pairs.map(with_counts).collect()
}

fn queue_report(status: &SchedulerStatus) -> QueueReport {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let slow = status
        .slow_calls
        .iter()
        .map(|call| RunningCall { template: call.template.to_string(), age_ms: milliseconds(call.age) });
    let costliest = status.costliest.iter().map(|cost| TemplateCost {
        template: cost.template.to_string(),
        calls: cost.calls,
        seconds: cost.busy.as_secs_f64(),
    });
    QueueReport {
        workers: status.workers,
        busy: status.busy,
        waiting: status.waiting,
        oldest_wait_ms: status.oldest_wait.map(milliseconds),
        rejected: 0,
        slow: slow.collect(),
        costliest: costliest.collect(),
    }
}

/// Connects to all of them, a few at once.
async fn connect_all(candidates: Vec<ProbeCandidate>) -> Vec<UpstreamReport> {
    let permits = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, candidate) in candidates.into_iter().enumerate() {
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let ProbeResult { unreachable, pin, answer_ms } = candidate.target.probe().await;
            let report = UpstreamReport {
                address: candidate.target.address(),
                name: candidate.name,
                unreachable,
                health: candidate.health,
                queue: candidate.queue,
                pin,
                answer_ms,
            };
            (number, report)
        });
    }
    let mut reports = tasks.join_all().await;
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

//! The lines of `nodegate status` for the daemons and the other nodes: their counts, and whether each accepts a
//! connection now.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::product::Protocol;
use crate::config::settings::BackendAddress;
use crate::metrics::counters::Metrics;
use crate::metrics::labels::LocalBackend;
use crate::metrics::queues::{QueueReport, RunningCall, TemplateCost};
use crate::metrics::upstreams::{HealthReport, UpstreamHealth, UpstreamReport};
use crate::state::shared::AppState;
use crate::upstream::loopback::check_reachable;
use crate::upstream::nodes::NodeFile;
use crate::upstream::scheduler::SchedulerStatus;
use crate::upstream::schedulers::Schedulers;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// `status --watch` polls once a second; the nodes see fewer connections.
const TTL: Duration = Duration::from_secs(5);
const CONNECTS_AT_ONCE: usize = 16;
/// Further nodes are not listed.
const MAX_NODES: usize = 64;

/// The upstream addresses of the current configuration.
struct UpstreamAddresses {
    daemon: BackendAddress,
    worker: Option<BackendAddress>,
    nodes: Arc<NodeFile>,
    metrics: Arc<Metrics>,
    own_node: String,
    node_port: u16,
    schedulers: Arc<Schedulers>,
}

/// The upstreams, as the control socket reports them.
#[derive(Default)]
pub(crate) struct UpstreamReporter {
    addresses: Mutex<Option<Arc<UpstreamAddresses>>>,
    last: tokio::sync::Mutex<Option<(Instant, Vec<UpstreamReport>)>>,
}

/// An upstream to connect to.
struct ProbeCandidate {
    name: String,
    /// `None` for a node without a known address
    address: Option<BackendAddress>,
    health: HealthReport,
    queue: Option<QueueReport>,
}

impl UpstreamReporter {
    /// Takes the current configuration. A profile without an API has no upstreams.
    pub(crate) fn serve(&self, state: &AppState) {
        let settings = &state.config.settings;
        let addresses = UpstreamAddresses {
            daemon: settings.backend.address.clone(),
            worker: settings.unprivileged.clone(),
            nodes: Arc::clone(&state.nodes),
            metrics: Arc::clone(&state.metrics),
            own_node: settings.node_name.clone(),
            node_port: settings.cluster_port,
            schedulers: Arc::clone(&state.schedulers),
        };
        let addresses = (state.config.product.protocol == Protocol::Https).then(|| Arc::new(addresses));
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The daemon first, then the worker, then the nodes by name. The counts are current, the connections up to `TTL`
    /// old.
    pub(crate) async fn report(&self) -> Vec<UpstreamReport> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(addresses) = addresses else { return Vec::new() };
        let mut last = self.last.lock().await;
        let known = last.take().filter(|(at, _)| at.elapsed() < TTL);
        let candidates = addresses.candidates();
        let (at, reports) = match known {
            Some((at, known)) if is_same(&known, &candidates) => (at, with_counts(known, candidates)),
            Some(_) | None => (Instant::now(), connect_all(candidates).await),
        };
        *last = Some((at, reports.clone()));
        reports
    }
}

impl UpstreamAddresses {
    fn candidates(&self) -> Vec<ProbeCandidate> {
        let candidate = |name: &str, address: &BackendAddress, health: &UpstreamHealth, label| {
            let queue = self.schedulers.find(address).map(|scheduler| QueueReport {
                rejected: self.metrics.queues.rejected(label),
                ..queue_report(&scheduler.status())
            });
            let (name, health) = (name.to_owned(), health.report());
            ProbeCandidate { name, address: Some(address.clone()), health, queue }
        };
        let records = &self.metrics.upstreams;
        let mut all = vec![candidate("daemon", &self.daemon, &records.daemon, LocalBackend::Daemon)];
        let worker = |address| candidate("worker", address, &records.worker, LocalBackend::Unprivileged);
        all.extend(self.worker.iter().map(worker));
        let table = self.nodes.get().unwrap_or_default();
        let others = table.nodes.iter().filter(|(name, _)| **name != self.own_node);
        all.extend(others.take(MAX_NODES).map(|(name, address)| {
            ProbeCandidate {
                name: format!("node {name}"),
                address: address
                    .map(|address| BackendAddress::Tcp(SocketAddr::new(address, self.node_port).to_string())),
                health: records.node(name).report(),
                queue: None,
            }
        }));
        all
    }
}

fn is_same(known: &[UpstreamReport], candidates: &[ProbeCandidate]) -> bool {
    let key = |name: &str, address: &Option<String>| (name.to_owned(), address.clone());
    known.len() == candidates.len()
        && known.iter().zip(candidates).all(|(known, candidate)| {
            let address = candidate.address.as_ref().map(ToString::to_string);
            key(&known.name, &known.address) == key(&candidate.name, &address)
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
            let reached = match &candidate.address {
                Some(address) => check_reachable(address, CONNECT_TIMEOUT).await,
                None => Err("it has no address yet: it has not been seen in the cluster".to_owned()),
            };
            let report = UpstreamReport {
                name: candidate.name,
                address: candidate.address.map(|address| address.to_string()),
                unreachable: reached.err(),
                health: candidate.health,
                queue: candidate.queue,
            };
            (number, report)
        });
    }
    let mut reports = tasks.join_all().await;
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

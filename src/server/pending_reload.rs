//! Loads the next configuration or starts the next binary, off the main thread and with a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant as Now};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::admin::handle::{HowToReload, ReloadResult};
use crate::config::ConfigDifference;
use crate::config::diagnostic::{Diagnostic, ValueOrigin};
use crate::os::executable::ExecutableFile;
use crate::os::listener::ListenerSet;
use crate::os::sandbox;
use crate::server::config_loader::{ConfigLoader, LoadedConfig};
use crate::server::upgrade::{HandedSockets, HandoffState, NewProcess};
use crate::state::shared::PersistentState;

/// A cluster's file system may hang; the current configuration then stays in effect.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// A successor has its own deadline, which ends before this one.
const START_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) enum ReloadOutcome {
    Configuration(LoadedConfig),
    Process(NewProcess),
}

pub(super) struct PendingReload {
    task: JoinHandle<Result<ReloadOutcome, Vec<Diagnostic>>>,
    until: Instant,
    pub(super) wanted: ReloadRequest,
}

#[derive(Default)]
pub(super) struct ReloadRequest {
    pub(super) how: HowToReload,
    /// gets the result; `None` after a signal
    pub(super) answer: Option<oneshot::Sender<ReloadResult>>,
}

impl PendingReload {
    /// Loads the configuration. Rejects it if the files have all of the `unwanted` values.
    pub(super) fn configuration(
        source: &ConfigLoader,
        lasting: &PersistentState,
        known: &[Diagnostic],
        unwanted: Option<ConfigDifference>,
        wanted: ReloadRequest,
    ) -> Self {
        let (source, lasting, known) = (source.clone(), lasting.clone(), known.to_vec());
        let task = spawn_blocking(move || {
            source.refuse(unwanted.as_ref())?;
            source.load(&lasting, &known).map(ReloadOutcome::Configuration)
        });
        Self { task, until: Instant::now() + LOAD_TIMEOUT, wanted }
    }

    pub(super) fn process(
        binary: &Arc<ExecutableFile>,
        lasting: &PersistentState,
        known: &[Diagnostic],
        listening: &ListenerSet,
        wanted: ReloadRequest,
        check: impl FnOnce() -> Result<(), Vec<Diagnostic>> + Send + 'static,
    ) -> Self {
        let binary = Arc::clone(binary);
        let (bound_for, first) = listening.first();
        let (others, other_sockets) =
            listening.others().map(|(bound_for, socket)| (bound_for.clone(), Arc::clone(socket))).unzip();
        let sockets = HandedSockets { first, others: other_sockets };
        let inheritance = HandoffState {
            bound_for,
            others,
            tickets: lasting.tickets.export(Now::now()),
            known: known.iter().map(ToString::to_string).collect(),
            confined_to: sandbox::confined_to().map(<[_]>::to_vec),
            shares_workers: true,
        };
        let persistent = lasting.clone();
        let task = spawn_blocking(move || {
            check()?;
            let started = NewProcess::start(binary.path(), &inheritance, &sockets, &persistent);
            started
                .map(ReloadOutcome::Process)
                .map_err(|why| vec![Diagnostic::file_error(binary.path(), why)])
        });
        Self { task, until: Instant::now() + START_TIMEOUT, wanted }
    }

    /// Waits for the result; for ever if no reload is pending.
    pub(super) async fn done(loading: &mut Option<Self>) -> Result<ReloadOutcome, Vec<Diagnostic>> {
        let problem = |message: &str| vec![Diagnostic::error(ValueOrigin::Profile, "", message)];
        let Some(Self { task, until, .. }) = loading else { return std::future::pending().await };
        match timeout_at(*until, task).await {
            Ok(Ok(next)) => next,
            Ok(Err(_)) => Err(problem("loading the configuration failed")),
            Err(_) => Err(problem("the configuration could not be read in time")),
        }
    }
}

//! The main thread: signals, commands of the control socket, and the current configuration.

mod certificates;
mod reload;

use std::io;
use std::sync::{Arc, Mutex};

use futures_util::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::StartState;
use super::timers::{DueTimer, SupervisorTimers};
use crate::admin::handle::{ConfirmOutcome, SupervisorCommand, SupervisorHandle};
use crate::admin::metrics_server::MetricsServer;
use crate::admin::protocol::ControlServer;
use crate::config::ConfigDifference;
use crate::config::diagnostic::Diagnostic;
use crate::metrics::report;
use crate::os::executable::ExecutableFile;
use crate::os::listener::ListenerSet;
use crate::os::log_limit;
use crate::os::pid_file::PidFile;
use crate::os::systemd;
use crate::server::config_loader::{ConfigLoader, LoadedConfig};
use crate::server::pending_reload::{PendingReload, ReloadOutcome, ReloadRequest};
use crate::server::upgrade::OldProcess;
use crate::server::worker_pool::WorkerPool;
use crate::state::shared::PersistentState;
use crate::tls::certificate_reloader::CertificateReloader;

pub(super) struct Supervisor {
    source: ConfigLoader,
    binary: Arc<ExecutableFile>,
    lasting: PersistentState,
    running: LoadedConfig,
    listening: ListenerSet,
    workers: WorkerPool,
    signals: SignalStreams,
    control: ControlServer,
    metrics_server: MetricsServer,
    timers: SupervisorTimers,
    predecessor: Option<OldProcess>,
    pid_file: Option<PidFile>,
    renewals: Arc<Mutex<CertificateReloader>>,
    looking: Option<JoinHandle<()>>,
    /// problems of revocation lists that were logged
    list_problems: Arc<Mutex<Vec<Diagnostic>>>,
    /// the last status that systemd got
    status: String,
    loading: Option<PendingReload>,
    fallback: Option<RevertState>,
    /// a reverted configuration: a reload does not put exactly this in effect again
    reverted: Option<ConfigDifference>,
}

/// The configuration that nodegate restores unless the reload is confirmed in time.
struct RevertState {
    loaded: LoadedConfig,
    until: Instant,
}

struct SignalStreams {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Events that wake the main thread.
enum SupervisorEvent {
    Stop,
    Hangup,
    Command(SupervisorCommand),
    Loaded(Result<ReloadOutcome, Vec<Diagnostic>>),
    Revert,
    Due(DueTimer),
}

impl Supervisor {
    pub(super) fn start(start: StartState, handle: SupervisorHandle) -> io::Result<Self> {
        let StartState { source, binary, loaded, lasting, listening, mut predecessor } = start;
        // A reader of the pid file may send a signal at once.
        let signals = SignalStreams::new()?;
        let mut workers = WorkerPool::new();
        workers.serve(&loaded.app, &listening.sockets)?;
        if let Some(predecessor) = &mut predecessor {
            predecessor.take_over()?;
        }
        let pid_file = PidFile::write(&loaded.app.state.config);
        let control = ControlServer::open(handle, &loaded.app.state, &listening.sockets);
        control.serves(&loaded.app.state, &listening.sockets);
        control.has_problems(&loaded.problems);
        if let Some(predecessor) = &predecessor {
            predecessor.serves();
        }
        let metrics_server = MetricsServer::new(loaded.app.clone(), control.reporter());
        Ok(Self {
            source,
            binary: Arc::new(binary),
            lasting,
            running: loaded,
            listening,
            workers,
            signals,
            control,
            metrics_server,
            timers: SupervisorTimers::start(),
            predecessor,
            pid_file,
            renewals: Arc::default(),
            looking: None,
            list_problems: Arc::default(),
            status: String::new(),
            loading: None,
            fallback: None,
            reverted: None,
        })
    }

    /// Runs until a signal, or until a successor serves and the last client here has left.
    pub(super) async fn run(mut self, mut commands: Receiver<SupervisorCommand>) -> io::Result<()> {
        self.metrics_server.wait_for_first_bind().await;
        systemd::ready();
        self.listening.log_addresses()?;
        let successor = loop {
            match self.next(&mut commands).await {
                SupervisorEvent::Stop => break None,
                SupervisorEvent::Hangup => self.reload(ReloadRequest::default()),
                SupervisorEvent::Command(command) => self.answer(command),
                SupervisorEvent::Loaded(next) => {
                    if let Some(successor) = self.loaded(next).await {
                        break Some(successor);
                    }
                }
                SupervisorEvent::Revert => self.revert().await,
                SupervisorEvent::Due(due) => self.do_due(due),
            }
        };
        drop(commands); // further commands get no answer
        self.lasting.metrics.start_draining();
        let stops = match successor {
            None => {
                systemd::stopping();
                true
            }
            Some(successor) => self.leave_to(successor).await?,
        };
        if let Some(predecessor) = self.predecessor.as_ref().filter(|_| stops) {
            predecessor.stop();
        }
        drop(self.control);
        // During the drain the metrics listener reports it.
        let workers = self.workers;
        let _ = spawn_blocking(move || workers.stop()).await;
        self.metrics_server.stop().await;
        log_limit::log_remaining();
        Ok(())
    }

    async fn next(&mut self, commands: &mut Receiver<SupervisorCommand>) -> SupervisorEvent {
        let idle = self.loading.is_none();
        let until = self.fallback.as_ref().map(|fallback| fallback.until);
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => SupervisorEvent::Stop,
            _ = self.signals.interrupt.recv() => SupervisorEvent::Stop,
            next = PendingReload::done(&mut self.loading), if !idle => SupervisorEvent::Loaded(next),
            _ = self.signals.hangup.recv(), if idle => SupervisorEvent::Hangup,
            Some(command) = commands.recv(), if idle => SupervisorEvent::Command(command),
            Some(()) = OptionFuture::from(until.map(sleep_until)), if idle => SupervisorEvent::Revert,
            due = self.timers.next() => SupervisorEvent::Due(due),
        }
    }

    fn answer(&mut self, question: SupervisorCommand) {
        match question {
            SupervisorCommand::Reload { how, answer } => {
                self.reload(ReloadRequest { how, answer: Some(answer) });
            }
            SupervisorCommand::Confirm(answer) => {
                let _ = answer.send(self.confirm());
            }
        }
    }

    fn confirm(&mut self) -> ConfirmOutcome {
        if self.fallback.take().is_some() {
            self.control.confirmed();
            self.forget_reverted();
            return ConfirmOutcome::Kept;
        }
        match &self.reverted {
            Some(difference) => ConfirmOutcome::Reverted(difference.origins()),
            None => ConfirmOutcome::NothingWaits,
        }
    }

    fn do_due(&mut self, due: DueTimer) {
        match due {
            DueTimer::Watchdog => {
                let replies = self.workers.ping_all();
                tokio::spawn(async move {
                    let unresponsive = replies.unresponsive().await;
                    if unresponsive.is_empty() {
                        systemd::alive();
                    }
                    log_unresponsive(&unresponsive);
                });
            }
            DueTimer::Status => self.notify_status(),
            DueTimer::Certificates => self.check_certificates(),
            DueTimer::Expiry => self.warn_of_expiry(),
            DueTimer::KeptLines => log_limit::log_kept(),
            DueTimer::History => self.lasting.metrics.advance(),
        }
    }

    /// Sends the text of `systemctl status` if it has changed.
    fn notify_status(&mut self) {
        let status = report::status_line(&self.lasting.metrics);
        if status != self.status {
            systemd::status(&status);
            self.status = status;
        }
    }
}

fn log_unresponsive(unresponsive: &[String]) {
    for worker in unresponsive {
        tracing::error!(worker, "a worker does not respond");
    }
}

impl SignalStreams {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

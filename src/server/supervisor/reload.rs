//! Replaces the configuration by the next, reverts it, and hands over to another process.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep_until};

use super::{RevertState, Supervisor, log_unresponsive};
use crate::admin::handle::{HowToReload, ReloadResult, ReloadSummary};
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::os::listener::ListenerPlan;
use crate::os::pid_file::PidFile;
use crate::os::{log_limit, memory, systemd};
use crate::server::config_loader::LoadedConfig;
use crate::server::pending_reload::{PendingReload, ReloadOutcome, ReloadRequest};
use crate::server::timers::DueTimer;
use crate::server::upgrade::{NewProcess, UpgradeMessage};

/// A successor must answer at the control socket within this time; an older version does not report it.
const CONTROL_SOCKET_TIMEOUT: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Starts to load the configuration, or starts the replaced binary. A reload that may be reverted stays in this
    /// process. The log is opened again in any case, because most reloads are for that.
    pub(super) fn reload(&mut self, wanted: ReloadRequest) {
        systemd::reloading();
        self.reopen_log();
        let HowToReload { confirm, force } = wanted.how;
        let stays = confirm.is_some() || self.fallback.is_some();
        let unwanted = self.reverted.clone().filter(|_| confirm.is_none() && !force);
        let known = &self.running.problems;
        let loading = if !stays && self.is_to_be_replaced() {
            tracing::info!("{} was replaced; starting it", self.binary.path().display());
            let source = self.source.clone();
            let check = move || source.refuse(unwanted.as_ref());
            PendingReload::process(&self.binary, &self.lasting, known, &self.listening, wanted, check)
        } else {
            PendingReload::configuration(&self.source, &self.lasting, known, unwanted, wanted)
        };
        self.loading = Some(loading);
    }

    fn is_to_be_replaced(&self) -> bool {
        let replaced = self.binary.is_replaced();
        let is_first = std::process::id() == 1;
        if replaced && is_first {
            tracing::warn!(
                "the binary was replaced, but a process with the pid 1 cannot hand over: restart it"
            );
        }
        replaced && !is_first
    }

    pub(super) fn reopen_log(&self) {
        self.lasting.log.reopen(self.running.app.state.config.settings.access_log.clone());
        if let Some(predecessor) = &self.predecessor {
            predecessor.reopen();
        }
    }

    /// Puts the loaded configuration in effect, or hands over to the successor.
    pub(super) async fn loaded(
        &mut self,
        next: Result<ReloadOutcome, Vec<Diagnostic>>,
    ) -> Option<NewProcess> {
        let ReloadRequest { how: HowToReload { confirm, .. }, answer } = self.loading.take()?.wanted;
        let before = self.running.clone();
        let (reloaded, successor) = match next {
            Ok(ReloadOutcome::Configuration(loaded)) => (self.apply(loaded).await, None),
            Ok(ReloadOutcome::Process(successor)) => (
                Ok(ReloadSummary { successor: Some(successor.pid), ..ReloadSummary::default() }),
                Some(successor),
            ),
            Err(problems) => (Err(problems), None),
        };
        log_result(&reloaded);
        match (&reloaded, confirm) {
            (Ok(_), Some(timeout)) => {
                let loaded = self.fallback.take().map_or(before, |fallback| fallback.loaded);
                self.fallback = Some(RevertState { loaded, until: Instant::now() + timeout });
            }
            (Ok(_), None) => self.forget_reverted(),
            (Err(_), _) => (),
        }
        self.control.reloaded(&reloaded, confirm);
        if successor.is_none() {
            systemd::ready();
        }
        if let Some(answer) = answer {
            let _ = answer.send(reloaded);
        }
        successor
    }

    /// Forgets a reverted configuration that is no longer in the files, or is in effect for good.
    pub(super) fn forget_reverted(&mut self) {
        self.reverted = None;
        self.control.forget_reverted();
    }

    /// Restores the configuration from before an unconfirmed reload.
    pub(super) async fn revert(&mut self) {
        let Some(RevertState { mut loaded, .. }) = self.fallback.take() else { return };
        let difference = self.running.app.state.config.difference(&loaded.app.state.config);
        // These are about lines that the files may no longer have.
        loaded.problems.retain(|problem| !problem.is_of_overridden_value());
        match self.apply(loaded).await {
            Ok(summary) if summary.changed.is_empty() && difference.is_empty() => {
                tracing::info!("the unconfirmed reload had changed nothing");
                self.control.reverted(Vec::new(), false);
                self.reverted = None;
            }
            Ok(summary) => {
                let origins = difference.origins();
                let still = if origins.is_empty() { String::new() } else { still_held(&origins) };
                tracing::warn!(changed = summary.changed.join(", "), "reload reverted{still}");
                self.control.reverted(origins, true);
                self.reverted = Some(difference).filter(|difference| !difference.is_empty());
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("a reload cannot be reverted: {problem}");
                }
            }
        }
    }

    /// Makes all threads use this configuration. It binds new sockets before it closes the old ones; if that fails,
    /// nothing has changed.
    async fn apply(&mut self, loaded: LoadedConfig) -> ReloadResult {
        let config = &loaded.app.state.config;
        let moved = self
            .listening
            .rebind(ListenerPlan::new(config))
            .map_err(|unbound| vec![unbound.problem(config)])?;
        let sockets = moved.as_ref().map_or(&self.listening.sockets, |moved| &moved.sockets);
        self.workers.serve(&loaded.app, sockets).map_err(|error| {
            vec![Diagnostic::error(config.origin("workers"), "workers", error.to_string())]
        })?;
        let masked = config.product.masked_parameters();
        self.lasting.log.take_form(config.settings.log_format, config.settings.log_target, masked);
        if config.settings.access_log != self.running.app.state.config.settings.access_log {
            self.lasting.log.reopen(config.settings.access_log.clone());
        }
        let mut changed = config.differences(&self.running.app.state.config);
        changed.extend(changed_certificates(&self.running, &loaded));
        let mut warnings = loaded.problems.clone();
        warnings.extend(kept_user(config, &changed));
        self.running = loaded;
        self.move_pid_file();
        log_unresponsive(&self.workers.ping_all().unresponsive().await);
        if let Some(moved) = moved {
            self.listening = moved;
            let _ = self.listening.log_addresses();
        }
        self.control.serves(&self.running.app.state, &self.listening.sockets);
        self.control.has_problems(&self.running.problems);
        self.metrics_server.serves(self.running.app.clone());
        self.metrics_server.wait_for_first_bind().await;
        memory::trim_heap();
        Ok(ReloadSummary { changed, warnings, successor: None })
    }

    /// The successor serves: stops accepting and ends with the last connection. Returns whether a stop was requested
    /// before.
    pub(super) async fn leave_to(&mut self, successor: NewProcess) -> io::Result<bool> {
        systemd::notify_main_pid(successor.pid);
        let mut link = successor.go()?;
        self.metrics_server.close();
        self.workers.drain_all(self.running.app.state.config.settings.timeout.drain);
        // Until then a client of the control socket must reach one of the two.
        let (mut serves, until) = (false, Instant::now() + CONTROL_SOCKET_TIMEOUT);
        let mut every_second = interval(Duration::from_secs(1));
        let mut loading = Some(self.load_for_the_rest());
        loop {
            tokio::select! {
                biased;
                _ = self.signals.terminate.recv() => return Ok(true),
                _ = self.signals.interrupt.recv() => return Ok(true),
                _ = self.signals.hangup.recv() => {
                    self.reopen_log();
                    loading = Some(self.load_for_the_rest());
                }
                message = link.next() => match message {
                    UpgradeMessage::Serves => serves = true,
                    UpgradeMessage::Reopen => {
                        self.reopen_log();
                        loading = Some(self.load_for_the_rest());
                    }
                    UpgradeMessage::Stop => return Ok(true),
                },
                next = PendingReload::done(&mut loading) => {
                    loading = None;
                    self.serve_the_rest(next);
                }
                due = self.timers.next() => if due == DueTimer::Certificates {
                    self.look_at_certificate_files();
                },
                () = sleep_until(until), if !serves => serves = true,
                () = self.workers.ended(), if serves => return Ok(false),
                _ = every_second.tick() => log_limit::log_kept(),
            }
        }
    }

    /// The remaining clients use the access lists that the successor has read, as far as this version can read them.
    fn load_for_the_rest(&self) -> PendingReload {
        PendingReload::configuration(
            &self.source,
            &self.lasting,
            &self.running.problems,
            None,
            ReloadRequest::default(),
        )
    }

    fn serve_the_rest(&mut self, next: Result<ReloadOutcome, Vec<Diagnostic>>) {
        match next {
            Ok(ReloadOutcome::Configuration(loaded)) => {
                self.workers.update_draining(&loaded.app);
                self.running = loaded;
                tracing::debug!("the remaining clients use the settings of the successor");
            }
            Ok(ReloadOutcome::Process(_)) => (),
            Err(problems) => {
                for problem in problems {
                    tracing::warn!(
                        "the remaining clients of this process keep the previous settings, access lists \
                         included: {problem}"
                    );
                }
            }
        }
    }

    /// Writes a deleted one again.
    fn move_pid_file(&mut self) {
        let config = &self.running.app.state.config;
        let path = PidFile::path_for(config);
        let is_deleted = path.as_ref().is_some_and(|path| !path.exists());
        if is_deleted || self.pid_file.as_ref().map(PidFile::path) != path.as_deref() {
            self.pid_file = None;
            self.pid_file = PidFile::write(config);
        }
    }
}

/// The second half of a message.
fn still_held(origins: &[String]) -> String {
    format!(
        "; the files still hold {}: correct them; until then a reload is refused, and a restart applies them",
        origins.join(", ")
    )
}

/// Certificates and keys are no settings, so their names stand in no difference of two configurations.
fn changed_certificates(before: &LoadedConfig, now: &LoadedConfig) -> Option<&'static str> {
    let before = before.app.state.port_protocol.acceptor()?;
    let now = now.app.state.port_protocol.acceptor()?;
    (!now.has_certificates_of(before)).then_some("certificates")
}

/// The warning about a new `user`: the process has given up root, so it cannot become another user.
fn kept_user(config: &Config, changed: &[&str]) -> Option<Diagnostic> {
    let message = "a reload does not change the user of the process; restart it for that";
    changed.contains(&"user").then(|| Diagnostic::warning(config.origin("user"), "user", message))
}

fn log_result(reloaded: &ReloadResult) {
    match reloaded {
        Ok(ReloadSummary { successor: Some(pid), .. }) => {
            tracing::info!(pid, "the successor serves; ending with the last connection");
        }
        Ok(summary) => {
            for problem in &summary.warnings {
                if problem.is_error() { tracing::error!("{problem}") } else { tracing::warn!("{problem}") }
            }
            tracing::info!(changed = summary.changed.join(", "), "reloaded");
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!("reload refused, serving as before: {problem}");
            }
        }
    }
}

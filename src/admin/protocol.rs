//! The control socket of a running nodegate: its commands and its path. Each message is one JSON object on a line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::handle::{ReloadResult, SupervisorHandle};
use crate::admin::socket::ControlSocket;
use crate::admin::status_reporter::StatusReporter;
use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::metrics::counters::Metrics;
use crate::metrics::labels::ReloadLabel;
use crate::metrics::process::LastReload;
use crate::metrics::report::{RouteTableReport, StatusReport, seconds_since_1970};
use crate::os::listener::ListeningSocket;
use crate::state::shared::AppState;
use crate::tls::TlsAcceptor;

pub(crate) const MAX_COMMAND_BYTES: u64 = 1024;
/// Limit of seconds that a reload may wait for its confirmation.
pub const MAX_CONFIRM_SECONDS: u64 = 86_400;

/// `{"command":"reload","confirm":60}`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum ControlRequest {
    Status,
    Reload {
        /// seconds after which it is reverted
        confirm: Option<u64>,
        /// accepts settings that were reverted before; absent unless true, because an older process does not know it
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    Confirm,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlResponse {
    Status(Box<StatusReport>),
    Reloaded {
        /// keys whose value has changed
        changed: Vec<String>,
        warnings: Vec<String>,
        /// the process that took over
        successor: Option<u32>,
    },
    /// nothing was changed, for these reasons
    Refused(Vec<String>),
    /// whether a reload was waiting for its confirmation
    Confirmed(bool),
    /// the command cannot be parsed
    Malformed(String),
}

/// The path beside the pid file. A trial has its port in the name.
pub fn socket_path(config: &Config, port: u16) -> Option<PathBuf> {
    let directory = config.root.path(config.product.pid_file.as_ref()?.parent()?);
    let name = &config.product.name;
    let trial = if config.is_trial() { format!("-{port}") } else { String::new() };
    Some(directory.join(format!("nodegate-{name}{trial}.sock")))
}

/// The main thread's side: the state that it reports, and the socket while it is open.
pub struct ControlServer {
    metrics: Arc<Metrics>,
    reporter: Arc<StatusReporter>,
    handle: SupervisorHandle,
    /// `None` if the profile has no pid file
    path: Option<PathBuf>,
    socket: Option<ControlSocket>,
}

impl ControlServer {
    /// Opens the socket. Without it the process serves, but accepts no commands.
    pub fn open(handle: SupervisorHandle, state: &Arc<AppState>, sockets: &[ListeningSocket]) -> Self {
        let (config, metrics) = (&state.config, Arc::clone(&state.metrics));
        let reporter = Arc::new(StatusReporter::new(Arc::clone(state)));
        let port = sockets.first().and_then(|first| first.socket.local_addr().ok());
        let port = port.map_or(config.settings.listen.port, |address| address.port());
        let path = socket_path(config, port);
        let mut server = Self { metrics, reporter, handle, path, socket: None };
        server.open_socket();
        server
    }

    fn open_socket(&mut self) {
        let Some(path) = &self.path else { return };
        let opened = ControlSocket::open(path, self.handle.clone(), Arc::clone(&self.reporter));
        let warn = |error: &_| tracing::warn!("control socket {} cannot be opened: {error}", path.display());
        self.socket = opened.inspect_err(warn).ok();
    }

    /// Opens the socket again if its file is gone. A file in its place may be that of a successor.
    fn reopen_socket(&mut self) {
        if self.path.as_ref().is_some_and(|path| path.symlink_metadata().is_err()) {
            self.socket = None;
            self.open_socket();
        }
    }

    /// The source of its reports.
    pub(crate) fn reporter(&self) -> Arc<StatusReporter> {
        Arc::clone(&self.reporter)
    }

    /// Reports the problems of the configuration that is in effect now.
    pub fn has_problems(&self, problems: &[Diagnostic]) {
        self.metrics.process.change(|known| known.problems = crate::admin::socket::texts(problems));
    }

    /// Reports the configuration that is in effect now.
    pub fn serves(&self, state: &Arc<AppState>, sockets: &[ListeningSocket]) {
        let addresses = sockets.iter().filter_map(|it| it.socket.local_addr().ok());
        let listening = addresses.map(|address| address.to_string()).collect();
        self.reporter.serves(Arc::clone(state));
        let acceptor = state.port_protocol.acceptor();
        let certificates = acceptor.map(TlsAcceptor::certificates).unwrap_or_default();
        let certificate_problems = acceptor.map(TlsAcceptor::problems).unwrap_or_default();
        self.metrics.process.change(|known| {
            known.profile.clone_from(&state.config.product.name);
            known.node.clone_from(&state.config.settings.node_name);
            known.listening = listening;
            known.certificates = certificates;
            known.certificate_problems = certificate_problems;
            known.routes = Some(route_table_report(&state.config));
        });
    }

    /// Reports the result of a reload, and how long it waits for its confirmation. Opens a deleted socket again.
    pub fn reloaded(&mut self, reloaded: &ReloadResult, confirm: Option<Duration>) {
        self.reopen_socket();
        let at = seconds_since_1970();
        let problems =
            reloaded.as_ref().err().map(|problems| crate::admin::socket::texts(problems)).unwrap_or_default();
        let waits = confirm.filter(|_| reloaded.is_ok());
        let unconfirmed_until = waits.map(|timeout| at.saturating_add(timeout.as_secs()));
        let last = LastReload { at, problems, unconfirmed_until };
        let outcome = if reloaded.is_ok() { ReloadLabel::Done } else { ReloadLabel::Refused };
        self.metrics.reloads[outcome].inc();
        self.metrics.process.change(|known| known.last_reload = Some(last));
    }

    /// Reports that the reload is confirmed.
    pub fn confirmed(&self) {
        self.metrics.process.change(|known| {
            if let Some(last) = &mut known.last_reload {
                last.unconfirmed_until = None;
            }
        });
    }

    /// Reports that an unconfirmed reload was reverted: `origins` are the settings that the files still have, with
    /// their origins. It is no problem if the reload `has_changed` nothing.
    pub fn reverted(&self, origins: Vec<String>, has_changed: bool) {
        let problems = has_changed.then(|| "reverted: it was not confirmed".to_owned()).into_iter().collect();
        let last = LastReload { at: seconds_since_1970(), problems, unconfirmed_until: None };
        self.metrics.reloads[ReloadLabel::Reverted].inc();
        self.metrics.reloads[ReloadLabel::TakenBack].inc();
        self.metrics.process.change(|known| {
            known.last_reload = Some(last);
            known.reverted = origins;
        });
    }

    /// Reports that the files no longer have the reverted settings, or that these are in effect.
    pub fn forget_reverted(&self) {
        self.metrics.process.change(|known| known.reverted.clear());
    }
}

fn route_table_report(config: &Config) -> RouteTableReport {
    let routes = &config.routes;
    RouteTableReport {
        summary: routes.describe(&config.product),
        methods: routes.table.methods().len(),
        file: routes.source.file().map(|path| path.display().to_string()),
    }
}

//! No nodegate answers at the control socket: whether one runs all the same, and what serves the port in its place.

use std::io::ErrorKind;

use super::port_owner::{self, Owner, OwnerKind};
use crate::admin::client::ControlClient;
use crate::admin::protocol;
use crate::config::Config;
use crate::os::daemon_process::DaemonProcess;
use crate::upstream::client::io_message;

/// Why there is no connection to the control socket.
pub(super) struct NoSocket {
    pub(super) reason: String,
    is_forbidden: bool,
}

pub(super) enum Absence {
    /// a process of nodegate without a socket
    Mute(DaemonProcess),
    /// this user may not use the socket
    Forbidden,
    /// nodegate does not run; another program may have its port
    NotRunning(Option<Owner>),
}

/// Connects to the control socket; `None` if the profile has none.
pub(super) fn connect(config: &Config) -> Option<Result<ControlClient, NoSocket>> {
    let path = protocol::socket_path(config, config.settings.listen.port)?;
    Some(ControlClient::connect(&path).map_err(|error| NoSocket {
        reason: format!("{}: {}", path.display(), io_message(&error)),
        is_forbidden: error.kind() == ErrorKind::PermissionDenied,
    }))
}

/// With `--root` the ports of this machine are those of others.
pub(super) fn of(config: &Config, no_socket: &NoSocket) -> Absence {
    if let Some(original) = port_owner::original(config) {
        return Absence::NotRunning(Some(original));
    }
    if let Some(process) = DaemonProcess::find(config) {
        return Absence::Mute(process);
    }
    if no_socket.is_forbidden {
        return Absence::Forbidden;
    }
    Absence::NotRunning(config.root.is_system().then(|| port_owner::server(config)).flatten())
}

impl NoSocket {
    /// The profile has no pid file.
    pub(super) fn without_path() -> Self {
        let reason = "the profile has no pid file, and so no control socket".to_owned();
        Self { reason, is_forbidden: false }
    }
}

/// nodegate does not run: one line.
pub(super) fn text(config: &Config, server: Option<&Owner>, reason: &str) -> String {
    match server {
        Some(owner) => serves_instead(config, owner),
        None => format!("nodegate does not run for {} ({reason})", config.product.name),
    }
}

/// The same if another program has its port.
pub(super) fn serves_instead(config: &Config, owner: &Owner) -> String {
    let is_original = owner.kind == OwnerKind::Original && !config.is_trial();
    let port = if is_original { config.own_port } else { config.settings.listen.port };
    let name = &config.product.name;
    format!("nodegate does not run for {name}: {} serves port {port}", owner.text(&config.product.daemon))
}

/// This user cannot see whether nodegate runs.
pub(super) fn forbidden(config: &Config, no_socket: &NoSocket) -> String {
    let name = &config.product.name;
    format!("whether nodegate runs for {name} is not known: {}; ask as root", no_socket.reason)
}

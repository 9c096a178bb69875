//! The subject of all probes: the configuration, and the status that the running process reports.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::admin::client::ControlClient;
use crate::admin::protocol::{self, ControlRequest, ControlResponse};
use crate::cli::check::{self, Checked};
use crate::cli::port_owner::{self, Owner, OwnerKind};
use crate::config::command_line::command_line;
use crate::config::diagnostic::Diagnostic;
use crate::config::{Config, ConfigSources};
use crate::metrics::report::StatusReport;
use crate::os::daemon_process::DaemonProcess;
use crate::upstream::client::io_message;

/// Longest wait for the worker of the pages.
const WORKER_TIMEOUT: Duration = Duration::from_secs(4);

/// The configuration of one run, and what several probes need.
pub(super) struct Subject {
    pub(super) config: Config,
    /// as on the command line, for the commands that mend something
    pub(super) profile: String,
    options: ConfigSources,
    status: OnceLock<StatusAnswer>,
    checked: OnceLock<Result<Checked, Vec<Diagnostic>>>,
    original: OnceLock<Option<Owner>>,
}

/// The answer of the control socket.
#[derive(Clone, Debug)]
pub(super) enum StatusAnswer {
    Running(Box<StatusReport>),
    /// a process has the socket open, and gives no answer
    Silent(String),
    /// this user may not ask
    Forbidden(String),
    /// no process has it open, with the reason
    Absent(String),
}

impl StatusAnswer {
    pub(super) fn report(&self) -> Option<&StatusReport> {
        match self {
            Self::Running(report) => Some(report),
            Self::Silent(_) | Self::Forbidden(_) | Self::Absent(_) => None,
        }
    }
}

impl Subject {
    pub(super) fn new(config: Config, profile: &str, options: &ConfigSources) -> Self {
        let (status, checked, original) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { config, profile: profile.to_owned(), options: options.clone(), status, checked, original }
    }

    /// Checks once, with shorter timeouts than those of the settings. The error is that of the profile.
    pub(super) fn check(&self) -> &Result<Checked, Vec<Diagnostic>> {
        self.checked.get_or_init(|| {
            let mut config = Config::load(&self.profile, &self.options)?;
            let timeouts = &mut config.settings.timeout;
            for timeout in [&mut timeouts.connect, &mut timeouts.answer, &mut timeouts.answer_unprivileged] {
                *timeout = (*timeout).min(WORKER_TIMEOUT);
            }
            Ok(check::examine(config))
        })
    }

    /// The outcome of the check, if it has ended.
    pub(super) fn known_check(&self) -> Option<&Checked> {
        self.checked.get()?.as_ref().ok()
    }

    #[cfg(test)]
    pub(super) fn of_test(profile: &str) -> Self {
        let options = ConfigSources::default();
        Self::new(Config::load(profile, &options).unwrap(), profile, &options)
    }

    /// Asks once; other probes wait for the same answer.
    pub(super) fn status(&self) -> &StatusAnswer {
        self.status.get_or_init(|| ask(&self.config))
    }

    /// The original, if it serves and nodegate does not run.
    pub(super) fn original(&self) -> Option<&Owner> {
        let look = || {
            let is_absent = matches!(self.status(), StatusAnswer::Absent(_));
            let find = || port_owner::original(&self.config).or_else(|| port_owner::server(&self.config));
            let server = is_absent.then(find).flatten();
            server.filter(|owner| owner.kind == OwnerKind::Original)
        };
        self.original.get_or_init(look).as_ref()
    }

    /// The process of the pid file: nodegate or the original.
    pub(super) fn pid_file_process(&self) -> Option<u32> {
        DaemonProcess::find(&self.config).and_then(|found| u32::try_from(found.pid.as_raw()).ok())
    }

    /// Whether the daemons of this machine and its service manager belong to the configuration.
    pub(super) fn is_system(&self) -> bool {
        self.config.root.is_system()
    }

    /// A command of nodegate for this profile, with the options of this run.
    pub(super) fn command(&self, verb: &str) -> String {
        command_line(verb, &self.profile, &self.options)
    }

    /// The command that serves the product's port in place of the original. A unit has no options of the command line.
    pub(super) fn takeover(&self) -> String {
        command_line("takeover", &self.profile, &ConfigSources::default()) + " --trial 10m"
    }

    /// The unit that serves this product: that of the daemon that nodegate replaces, if it is installed.
    pub(super) fn unit(&self) -> String {
        let daemon = format!("{}.service", self.config.product.daemon);
        let folders = ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"];
        let is_there = |folder| self.config.root.path(folder).join(&daemon).exists();
        if folders.into_iter().any(is_there) { daemon } else { self.instance() }
    }

    /// The unit of nodegate on a machine without the original.
    pub(super) fn instance(&self) -> String {
        if !self.profile.contains('/') {
            return format!("nodegate@{}.service", self.config.product.name);
        }
        let path = Path::new(&self.profile).canonicalize().unwrap_or_else(|_| self.profile.clone().into());
        format!("nodegate@{}.service", escaped(&path.to_string_lossy()))
    }
}

/// A path as the name of an instance, like `systemd-escape` writes it (systemd.unit(5)).
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for (number, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => text.push('-'),
            b'.' if number == 0 => text.push_str("\\x2e"),
            b':' | b'_' | b'.' => text.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            byte => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

fn ask(config: &Config) -> StatusAnswer {
    let Some(path) = protocol::socket_path(config, config.settings.listen.port) else {
        return StatusAnswer::Absent("the profile has no pid file, and so no control socket".to_owned());
    };
    let text = |message: &str| format!("{}: {message}", path.display());
    let mut client = match ControlClient::connect(&path) {
        Ok(client) => client,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return StatusAnswer::Forbidden(text(&io_message(&error)));
        }
        Err(error) => return StatusAnswer::Absent(text(&io_message(&error))),
    };
    match client.ask(ControlRequest::Status) {
        Ok(ControlResponse::Status(report)) => StatusAnswer::Running(report),
        Ok(_) => StatusAnswer::Silent(text("an answer that is no status")),
        Err(error) => StatusAnswer::Silent(text(&io_message(&error))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_escaped_like_systemd_does() {
        for (path, name) in [
            ("/etc/nodegate/mine.toml", "-etc-nodegate-mine.toml"),
            ("/srv/my-own_profile é.toml", "-srv-my\\x2down_profile\\x20\\xc3\\xa9.toml"),
        ] {
            assert_eq!(super::escaped(path), name);
        }
    }
}

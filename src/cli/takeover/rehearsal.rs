//! nodegate on a free port of the loopback address, in the sandbox of its unit, beside the original: what fails here
//! costs no client anything.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::CompareOptions;
use super::drop_ins;
use super::health::{self, HealthTargets};
use super::subject::Subject;
use super::systemctl::{self, Unit};

/// The worker that renders pages may start later than nodegate.
const ATTEMPTS: u32 = 5;
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);
/// The comparison ends after this time.
const COMPARE_SECONDS: &str = "120";
const COMPARE_RATE: &str = "20";

/// The unit. When it is dropped, it stops and is removed.
pub(super) struct Rehearsal<'a> {
    subject: &'a Subject,
    unit: Unit,
    pub(super) port: u16,
}

impl<'a> Rehearsal<'a> {
    /// # Errors
    /// The last lines of the log, if nodegate does not start.
    pub(super) fn start(subject: &'a Subject) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        drop(listener);
        let rehearsal = Self { subject, unit: Unit::instance("nodegate-rehearsal", subject.daemon()), port };
        let text = drop_ins::rehearsal(&subject.config, &subject.command(), port);
        let placed = subject.files.place_runtime_unit(&rehearsal.unit.name, &text);
        placed.map_err(|error| error.to_string())?;
        systemctl::daemon_reload()?;
        // A command that was killed leaves its unit behind.
        rehearsal.unit.restart().map_err(|error| format!("{error}\n{}", rehearsal.unit.log()))?;
        Ok(rehearsal)
    }

    /// `nodegate check`, while the worker runs that renders pages.
    pub(super) fn check_settings(&self) -> Result<(), String> {
        let mut command = Command::new(&self.subject.program);
        command.args(["check", &self.subject.profile]).stdin(Stdio::null()).stdout(Stdio::null());
        let output = command.stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }

    pub(super) async fn check_health(&self, targets: &HealthTargets) -> Result<(), String> {
        let server = health::server(&self.subject.config.product, Ipv4Addr::LOCALHOST.into(), self.port)?;
        let mut attempt = 1;
        loop {
            match targets.check(&server).await {
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
            tokio::time::sleep(ATTEMPT_INTERVAL).await;
        }
    }

    /// `nodegate compare` with the original. Its output is the user's.
    pub(super) fn compare(&self, options: &CompareOptions) -> Result<bool, String> {
        let mut command = Command::new(&self.subject.program);
        command.args(["compare", &self.subject.profile, "--set", &format!("listen.port={}", self.port)]);
        command.args(["--seconds", COMPARE_SECONDS, "--rate", COMPARE_RATE]).stdin(Stdio::null());
        if let Some(file) = &options.credential_file {
            command.arg("--credential-file").arg(file);
        }
        if let Some(name) = &options.credential_variable {
            command.arg("--credential-variable").arg(name);
        }
        command.status().map(|status| status.success()).map_err(|error| error.to_string())
    }
}

impl Drop for Rehearsal<'_> {
    fn drop(&mut self) {
        let stopped = self.unit.stop();
        let removed =
            self.subject.files.remove_runtime_unit(&self.unit.name).map_err(|error| error.to_string());
        if let Err(error) = stopped.and(removed).and_then(|()| systemctl::daemon_reload()) {
            tracing::warn!("the rehearsal is not removed: {error}");
        }
    }
}

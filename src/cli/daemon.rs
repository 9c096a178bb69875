//! The verbs of the daemon that nodegate replaces: `start`, `stop`, `restart`, `status`.

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{CommandResult, fail, locate, port_owner, reload, run, say, write_to_stderr};
use crate::cli::arguments::DaemonVerb;
use crate::config::{Config, ConfigSources};
use crate::os::daemon_process::DaemonProcess;
use crate::os::daemonize::{self, StartOutcome};

/// Added to the time that the settings allow for a stop.
const STOP_MARGIN: Duration = Duration::from_secs(5);

pub fn run(profile: &str, options: &ConfigSources, verb: DaemonVerb) -> CommandResult {
    if let DaemonVerb::Start { debug: true } = verb {
        return Ok(run::run(profile, options));
    }
    let config = locate(profile, options)?;
    let running = DaemonProcess::find(&config);
    Ok(match (verb, running) {
        (DaemonVerb::Start { .. }, Some(running)) => fail(&format!("already running (pid {})", running.pid)),
        (DaemonVerb::Start { .. } | DaemonVerb::Restart, None) => start(profile, options, &config),
        // The original reloads by a signal as well, and starts what has taken the place of its program.
        (DaemonVerb::Restart, Some(running)) if port_owner::original(&config).is_some() => {
            reload::signal(running, "it is the original")
        }
        (DaemonVerb::Restart, Some(_)) => reload::run(profile, options, None, false)?,
        (DaemonVerb::Stop, Some(running)) => stop(running, config.settings.timeout.stop),
        (DaemonVerb::Stop, None) => ExitCode::SUCCESS,
        (DaemonVerb::Status, running) => {
            say(if running.is_some() { "running" } else { "stopped" });
            ExitCode::SUCCESS
        }
    })
}

fn start(profile: &str, options: &ConfigSources, config: &Config) -> ExitCode {
    if config.product.pid_file.is_none() || config.settings.listen.port != config.own_port {
        return fail(
            "there is no pid file on another port, so the daemon cannot be found: use `nodegate run`",
        );
    }
    let serves = |pid| DaemonProcess::find(config) == Some(DaemonProcess { pid });
    match daemonize::run(profile, options, serves) {
        Ok(StartOutcome::Serves) => ExitCode::SUCCESS,
        Ok(StartOutcome::Ended(status)) => fail(&format!("start failed ({status})")),
        Ok(StartOutcome::TooSlow) => fail("start failed: the daemon did not start serving in time"),
        Err(error) => fail(&format!("start failed: {error}")),
    }
}

fn stop(running: DaemonProcess, timeout: Duration) -> ExitCode {
    if let Err(error) = running.signal(Signal::SIGTERM) {
        return fail(&format!("cannot signal pid {}: {error}", running.pid));
    }
    if running.wait_for_end(timeout + STOP_MARGIN) {
        return ExitCode::SUCCESS;
    }
    let _ = running.signal(Signal::SIGKILL);
    write_to_stderr(format_args!("pid {} did not end by itself and was killed", running.pid));
    if running.wait_for_end(STOP_MARGIN) { ExitCode::SUCCESS } else { fail("it does not end") }
}

//! The verbs of the daemon whose place is taken: `start`, `stop`, `restart`, `status`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{fail, locate, reload, run, say};
use crate::cli::arguments::Verb;
use crate::config::{Config, Options};
use crate::os::daemon_process::Running;
use crate::os::daemonize;
use crate::os::daemonize::Started;

/// Beyond the time that a stop may take by the settings.
const GRACE: Duration = Duration::from_secs(5);

pub fn run(profile: &str, options: &Options, verb: Verb) -> ExitCode {
    if let Verb::Start { debug: true } = verb {
        return run::run(profile, options);
    }
    let config = match locate(profile, options) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let running = Running::find(&config);
    match (verb, running) {
        (Verb::Start { .. }, Some(running)) => fail(&format!("already running (pid {})", running.pid)),
        (Verb::Start { .. } | Verb::Restart, None) => start(profile, options, &config),
        (Verb::Restart, Some(_)) => reload::run(profile, options, None, false),
        (Verb::Stop, Some(running)) => stop(running, config.settings.timeout.stop),
        (Verb::Stop, None) => ExitCode::SUCCESS,
        (Verb::Status, running) => {
            say(if running.is_some() { "running" } else { "stopped" });
            ExitCode::SUCCESS
        }
    }
}

fn start(profile: &str, options: &Options, config: &Config) -> ExitCode {
    if config.product.pid_file.is_none() || config.settings.listen.port != config.own_port {
        return fail("on another port there is no pid file to find it by: use `nodegate run`");
    }
    let serves = |pid| Running::find(config) == Some(Running { pid });
    match daemonize::run(profile, options, serves) {
        Ok(Started::Serves) => ExitCode::SUCCESS,
        Ok(Started::Ended(status)) => fail(&format!("start failed ({status})")),
        Ok(Started::TooSlow) => fail("start failed: it does not come to serve"),
        Err(error) => fail(&format!("start failed: {error}")),
    }
}

fn stop(running: Running, patience: Duration) -> ExitCode {
    if let Err(error) = running.signal(Signal::SIGTERM) {
        return fail(&format!("cannot signal pid {}: {error}", running.pid));
    }
    if running.ends_within(patience + GRACE) {
        return ExitCode::SUCCESS;
    }
    let _ = running.signal(Signal::SIGKILL);
    let _ = writeln!(std::io::stderr(), "pid {} did not end by itself and was killed", running.pid);
    if running.ends_within(GRACE) { ExitCode::SUCCESS } else { fail("it does not end") }
}

//! `nodegate reload PROFILE` and `nodegate confirm PROFILE`: new settings for the one that is running.

use std::io::{self, Write as _};
use std::process::ExitCode;

use nix::sys::signal::Signal;

use super::{CommandResult, NOT_RUNNING, complain, fail, locate, say};
use crate::admin::client::ControlClient;
use crate::admin::protocol::{self, ControlRequest, ControlResponse};
use crate::config::{Config, ConfigSources};
use crate::os::daemon_process::DaemonProcess;
use crate::upstream::client::io_message;

/// Reloads. `confirm` reverts the reload after so many seconds; `force` also takes settings that were reverted before.
pub fn run(profile: &str, options: &ConfigSources, confirm: Option<u64>, force: bool) -> CommandResult {
    ask(profile, options, ControlRequest::Reload { confirm, force })
}

pub fn confirm(profile: &str, options: &ConfigSources) -> CommandResult {
    ask(profile, options, ControlRequest::Confirm)
}

fn ask(profile: &str, options: &ConfigSources, question: ControlRequest) -> CommandResult {
    let config = locate(profile, options)?;
    let Some(path) = protocol::socket_path(&config, config.settings.listen.port) else {
        return Err(fail("the profile has no pid file, and so no control socket"));
    };
    let mut asker = match ControlClient::connect(&path) {
        Ok(asker) => asker,
        Err(error) => {
            let reason = format!("{}: {}", path.display(), io_message(&error));
            return Ok(without_socket(&config, question, &reason));
        }
    };
    let answer = asker.ask(question).map_err(|error| fail(&format!("no answer: {error}")))?;
    Ok(tell(&config.product.name, question, answer))
}

fn tell(profile: &str, question: ControlRequest, answer: ControlResponse) -> ExitCode {
    match answer {
        ControlResponse::Reloaded { changed, warnings, successor } => {
            complain(&warnings);
            let what = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
            let by = successor.map(|pid| format!(" by its successor, pid {pid}")).unwrap_or_default();
            say(&format!("reloaded{by}; changed: {what}"));
            if let ControlRequest::Reload { confirm: Some(seconds), .. } = question {
                say(&format!("taken back in {seconds} s unless you confirm it: nodegate confirm {profile}"));
                say("the files keep these settings all the same: if you do not confirm, correct them");
            }
            ExitCode::SUCCESS
        }
        ControlResponse::Refused(problems) => {
            complain(&problems);
            fail("nothing was changed")
        }
        ControlResponse::Confirmed(true) => {
            say("confirmed");
            ExitCode::SUCCESS
        }
        ControlResponse::Confirmed(false) => {
            fail("nothing waits to be confirmed: it is in force, or was taken back")
        }
        ControlResponse::Malformed(reason) => fail(&reason),
        ControlResponse::Status(_) => fail("unexpected answer"),
    }
}

/// Falls back to a signal, which reports no outcome.
fn without_socket(config: &Config, question: ControlRequest, reason: &str) -> ExitCode {
    let name = &config.product.name;
    let Some(running) = DaemonProcess::find(config) else {
        let _ = writeln!(io::stderr(), "{name} is not running ({reason})");
        return ExitCode::from(NOT_RUNNING);
    };
    if question != (ControlRequest::Reload { confirm: None, force: false }) {
        return fail(&format!("it cannot be asked: {reason}"));
    }
    match running.signal(Signal::SIGHUP) {
        Ok(()) => {
            say(&format!("asked pid {} to reload; the log tells what comes of it ({reason})", running.pid));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("cannot signal pid {}: {error}", running.pid)),
    }
}

//! `nodegate reload PROFILE` and `nodegate confirm PROFILE`: new settings for the running process.

use std::io::{self, Write as _};
use std::process::ExitCode;

use nix::sys::signal::Signal;

use super::command_line::command_line;
use super::{CommandResult, NOT_RUNNING, complain, fail, locate, say};
use crate::admin::client::ControlClient;
use crate::admin::protocol::{self, ControlRequest, ControlResponse};
use crate::config::{Config, ConfigSources};
use crate::os::daemon_process::DaemonProcess;
use crate::upstream::client::io_message;

/// Reloads. `confirm` reverts the reload after so many seconds; `force` also accepts settings that were reverted
/// before.
pub fn run(profile: &str, options: &ConfigSources, confirm: Option<u64>, force: bool) -> CommandResult {
    send(profile, options, ControlRequest::Reload { confirm, force })
}

pub fn confirm(profile: &str, options: &ConfigSources) -> CommandResult {
    send(profile, options, ControlRequest::Confirm)
}

fn send(profile: &str, options: &ConfigSources, request: ControlRequest) -> CommandResult {
    let config = locate(profile, options)?;
    let Some(path) = protocol::socket_path(&config, config.settings.listen.port) else {
        return Err(fail("the profile has no pid file, and so no control socket"));
    };
    let mut client = match ControlClient::connect(&path) {
        Ok(client) => client,
        Err(error) => {
            let reason = format!("{}: {}", path.display(), io_message(&error));
            return Ok(without_socket(&config, request, &reason));
        }
    };
    let answer = client.ask(request).map_err(|error| fail(&format!("no answer: {error}")))?;
    Ok(print_response(&command_line("confirm", profile, options), request, answer))
}

fn print_response(confirm: &str, request: ControlRequest, answer: ControlResponse) -> ExitCode {
    match answer {
        ControlResponse::Reloaded { changed, warnings, successor } => {
            complain(&warnings);
            let what = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
            let by = successor.map(|pid| format!(" by its successor, pid {pid}")).unwrap_or_default();
            say(&format!("reloaded{by}; changed: {what}"));
            if let ControlRequest::Reload { confirm: Some(seconds), .. } = request {
                say(&format!("reverted in {seconds} s unless you confirm it: {confirm}"));
                say("the files keep these settings even then: if you do not confirm, correct the files");
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
            fail("no reload waits for a confirmation: the last one is in effect, or was reverted")
        }
        ControlResponse::Malformed(reason) => fail(&reason),
        ControlResponse::Status(_) => fail("unexpected answer"),
    }
}

/// Falls back to a signal, which reports no outcome.
fn without_socket(config: &Config, request: ControlRequest, reason: &str) -> ExitCode {
    let name = &config.product.name;
    let Some(running) = DaemonProcess::find(config) else {
        let _ = writeln!(io::stderr(), "{name} is not running ({reason})");
        return ExitCode::from(NOT_RUNNING);
    };
    if request != (ControlRequest::Reload { confirm: None, force: false }) {
        return fail(&format!("the control socket does not answer: {reason}"));
    }
    match running.signal(Signal::SIGHUP) {
        Ok(()) => {
            say(&format!("sent SIGHUP to pid {}; its log has the result ({reason})", running.pid));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("cannot signal pid {}: {error}", running.pid)),
    }
}

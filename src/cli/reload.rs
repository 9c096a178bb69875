//! `nodegate reload PROFILE` and `nodegate confirm PROFILE`: new settings for the running process.

use std::process::ExitCode;

use nix::sys::signal::Signal;

use super::absence::{self, Absence, NoSocket};
use super::{CommandResult, NOT_RUNNING, complain, fail, locate, say, write_to_stderr};
use crate::admin::protocol::{ControlRequest, ControlResponse};
use crate::config::command_line::command_line;
use crate::config::{Config, ConfigSources};
use crate::os::daemon_process::DaemonProcess;

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
    let Some(connected) = absence::connect(&config) else {
        return Err(fail(&NoSocket::without_path().reason));
    };
    let mut client = match connected {
        Ok(client) => client,
        Err(no_socket) => return Ok(without_socket(&config, request, &no_socket)),
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

/// A nodegate without a socket gets a signal, which reports no outcome. The original is left alone.
fn without_socket(config: &Config, request: ControlRequest, no_socket: &NoSocket) -> ExitCode {
    let reason = &no_socket.reason;
    match absence::of(config, no_socket) {
        Absence::Mute(running) if request == (ControlRequest::Reload { confirm: None, force: false }) => {
            signal(running, reason)
        }
        Absence::Mute(_) => fail(&format!("the control socket does not answer: {reason}")),
        Absence::Forbidden => fail(&absence::forbidden(config, no_socket)),
        Absence::NotRunning(server) => {
            write_to_stderr(absence::text(config, server.as_ref(), reason));
            ExitCode::from(NOT_RUNNING)
        }
    }
}

pub(super) fn signal(running: DaemonProcess, reason: &str) -> ExitCode {
    match running.signal(Signal::SIGHUP) {
        Ok(()) => {
            say(&format!("sent SIGHUP to pid {}; its log has the result ({reason})", running.pid));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("cannot signal pid {}: {error}", running.pid)),
    }
}

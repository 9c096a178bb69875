//! `nodegate status PROFILE`: the state of the running process, once or every second.

mod queue;
mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::text::TextStyle;
use super::absence::{self, Absence, NoSocket};
use super::{CommandResult, NOT_RUNNING, fail, locate, say};
use crate::admin::client::ControlClient;
use crate::admin::protocol::{ControlRequest, ControlResponse};
use crate::config::{Config, ConfigSources};
use crate::metrics::report::StatusReport;
use crate::os::daemon_process::DaemonProcess;

/// Interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor of a terminal to the top, and clears everything below.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Clone, Copy)]
pub struct StatusStyle {
    pub watch: bool,
    pub json: bool,
}

pub fn run(profile: &str, options: &ConfigSources, style: StatusStyle) -> CommandResult {
    let config = locate(profile, options)?;
    Ok(match absence::connect(&config).unwrap_or_else(|| Err(NoSocket::without_path())) {
        Ok(client) => show(client, style),
        Err(no_socket) => show_little(&config, &no_socket, style),
    })
}

fn show(mut client: ControlClient, style: StatusStyle) -> ExitCode {
    let on_terminal = io::stdout().is_terminal();
    let paint = TextStyle::new(on_terminal && std::env::var_os("NO_COLOR").is_none());
    let mut before: Option<(Instant, StatusReport)> = None;
    loop {
        let report = match client.ask(ControlRequest::Status) {
            Ok(ControlResponse::Status(report)) => *report,
            Ok(other) => return fail(&format!("unexpected answer: {other:?}")),
            Err(_) if before.is_some() => return ended(style),
            Err(error) => return fail(&format!("no answer: {error}")),
        };
        let now = Instant::now();
        let rate = before.as_ref().map(|(then, seen)| per_second(seen, &report, now - *then));
        let shown = if style.json { as_json(&report, rate) } else { text::render(&report, rate, paint) };
        let clear = if style.watch && on_terminal && !style.json { CLEAR } else { "" };
        if writeln!(io::stdout().lock(), "{clear}{shown}").is_err() || !style.watch {
            return ExitCode::SUCCESS;
        }
        before = Some((now, report));
        sleep(WATCH_INTERVAL);
    }
}

fn per_second(before: &StatusReport, after: &StatusReport, passed: Duration) -> f64 {
    let answered = after.requests.total.saturating_sub(before.requests.total);
    f64::from(u32::try_from(answered).unwrap_or(u32::MAX)) / passed.as_secs_f64()
}

fn as_json(report: &StatusReport, rate: Option<f64>) -> String {
    let mut value = json!(report);
    if let (Some(rate), Value::Object(fields)) = (rate, &mut value) {
        fields.insert("requests_per_second".to_owned(), json!(rate));
    }
    value.to_string()
}

fn ended(style: StatusStyle) -> ExitCode {
    say(if style.json { r#"{"running":false}"# } else { "it has ended" });
    ExitCode::from(NOT_RUNNING)
}

/// Without the socket: the state by the pid file and by the port.
fn show_little(config: &Config, no_socket: &NoSocket, style: StatusStyle) -> ExitCode {
    let (name, reason) = (&config.product.name, &no_socket.reason);
    match absence::of(config, no_socket) {
        Absence::Mute(DaemonProcess { pid }) => {
            say(&if style.json {
                json!({ "running": true, "profile": name, "pid": pid.as_raw() }).to_string()
            } else {
                format!("{name} is running (pid {pid}), but does not report its status: {reason}")
            });
            ExitCode::SUCCESS
        }
        Absence::Forbidden => fail(&absence::forbidden(config, no_socket)),
        Absence::NotRunning(server) => {
            let mut found = json!({ "running": false, "profile": name });
            if let (Some(owner), Value::Object(fields)) = (&server, &mut found) {
                fields.insert("served_by".to_owned(), json!(owner.text(&config.product.daemon)));
            }
            let text = || absence::text(config, server.as_ref(), reason);
            say(&if style.json { found.to_string() } else { text() });
            ExitCode::from(NOT_RUNNING)
        }
    }
}

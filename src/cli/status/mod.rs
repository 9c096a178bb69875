//! `nodegate status PROFILE`: what the running one does, once or again and again.

mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::text::Paint;
use super::{NOT_RUNNING, fail, locate, say};
use crate::admin::client::Asker;
use crate::admin::protocol;
use crate::admin::protocol::{Answer, Question};
use crate::config::{Config, Options};
use crate::metrics::report::Report;
use crate::os::daemon_process::Running;
use crate::upstream::client::io_message;

/// Between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);
/// A terminal's cursor goes home, and all below is cleared.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Clone, Copy)]
pub struct Style {
    pub watch: bool,
    pub json: bool,
}

pub fn run(profile: &str, options: &Options, style: Style) -> ExitCode {
    let config = match locate(profile, options) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match connect(&config) {
        Ok(asker) => show(asker, style),
        Err(reason) => show_little(&config, &reason, style),
    }
}

/// Why the socket does not answer is told where there is nothing else to tell.
fn connect(config: &Config) -> Result<Asker, String> {
    let path = protocol::place(config, config.settings.listen.port).ok_or("the profile has no pid file")?;
    Asker::connect(&path).map_err(|error| format!("{}: {}", path.display(), io_message(&error)))
}

fn show(mut asker: Asker, style: Style) -> ExitCode {
    let on_terminal = io::stdout().is_terminal();
    let paint = Paint::new(on_terminal && std::env::var_os("NO_COLOR").is_none());
    let mut before: Option<(Instant, Report)> = None;
    loop {
        let report = match asker.ask(Question::Status) {
            Ok(Answer::Status(report)) => *report,
            Ok(other) => return fail(&format!("unexpected answer: {other:?}")),
            Err(_) if before.is_some() => return ended(style),
            Err(error) => return fail(&format!("no answer: {error}")),
        };
        let now = Instant::now();
        let rate = before.as_ref().map(|(then, seen)| per_second(seen, &report, now - *then));
        let shown = if style.json { as_json(&report, rate) } else { text::of(&report, rate, paint) };
        let clear = if style.watch && on_terminal && !style.json { CLEAR } else { "" };
        if writeln!(io::stdout().lock(), "{clear}{shown}").is_err() || !style.watch {
            return ExitCode::SUCCESS;
        }
        before = Some((now, report));
        sleep(INTERVAL);
    }
}

fn per_second(before: &Report, after: &Report, passed: Duration) -> f64 {
    let answered = after.requests.total.saturating_sub(before.requests.total);
    f64::from(u32::try_from(answered).unwrap_or(u32::MAX)) / passed.as_secs_f64()
}

fn as_json(report: &Report, rate: Option<f64>) -> String {
    let mut value = json!(report);
    if let (Some(rate), Value::Object(fields)) = (rate, &mut value) {
        fields.insert("requests_per_second".to_owned(), json!(rate));
    }
    value.to_string()
}

fn ended(style: Style) -> ExitCode {
    say(if style.json { r#"{"running":false}"# } else { "it has ended" });
    ExitCode::from(NOT_RUNNING)
}

/// Without the socket: what the pid file tells.
fn show_little(config: &Config, reason: &str, style: Style) -> ExitCode {
    let running = Running::find(config);
    let name = &config.product.name;
    let shown = match running {
        Some(Running { pid }) if style.json => {
            json!({ "running": true, "profile": name, "pid": pid.as_raw() }).to_string()
        }
        Some(Running { pid }) => format!("{name} is running (pid {pid}), and tells no more: {reason}"),
        None if style.json => json!({ "running": false, "profile": name }).to_string(),
        None => format!("{name} is not running ({reason})"),
    };
    say(&shown);
    if running.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) }
}

//! The commands; their exit codes are those of `docs/operate/commands.md`.

pub mod arguments;

pub mod acl;
pub mod check;
pub mod compare;
pub mod daemon;
pub mod generate;
pub mod pages;
pub mod profiles;
pub mod reload;
pub mod route;
pub mod run;
pub mod status;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::{Config, ConfigSources};

/// The exit code of a command. An error is the exit code after the message is printed.
pub type CommandResult = Result<ExitCode, ExitCode>;

/// The exit code if the daemon does not run.
const NOT_RUNNING: u8 = 3;

/// Writes a line to stdout. A reader that has gone away is not an error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn complain(problems: &[impl Display]) {
    let mut stderr = std::io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "{problem}");
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}

/// Loads the configuration to find the running process, which checks the settings itself.
fn locate(profile: &str, options: &ConfigSources) -> Result<Config, ExitCode> {
    Config::load(profile, options).map_err(|problems| {
        complain(&problems);
        ExitCode::FAILURE
    })
}

/// Loads the configuration for a command that does not serve: any error ends it.
fn load(profile: &str, options: &ConfigSources) -> Result<Config, ExitCode> {
    let config = locate(profile, options)?;
    if config.has_errors() {
        complain(&config.problems);
        return Err(ExitCode::FAILURE);
    }
    Ok(config)
}

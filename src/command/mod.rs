//! What each command does; the exit codes are those of `docs/operating.md`.

pub mod acl;
pub mod check;
pub mod daemon;
pub mod generate;
pub mod profiles;
pub mod route;
pub mod run;

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::problem::Problem;
use crate::config::{Config, Options};

/// Writes a line to stdout; a reader that has gone away is none of our business.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn complain(problems: &[Problem]) {
    let mut stderr = std::io::stderr().lock();
    for problem in problems {
        let _ = writeln!(stderr, "{problem}");
    }
}

/// Loads for a command that only asks: any error ends it.
fn load(profile: &str, options: &Options) -> Result<Config, ExitCode> {
    let failed = |problems: &[Problem]| {
        complain(problems);
        Err(ExitCode::FAILURE)
    };
    match Config::load(profile, options) {
        Ok(config) if config.has_errors() => failed(&config.problems),
        Ok(config) => Ok(config),
        Err(problems) => failed(&problems),
    }
}

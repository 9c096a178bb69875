//! The commands; their exit codes are those of `docs/operate/commands.md`.

mod arguments;

mod absence;
mod acl;
mod check;
mod compare;
mod daemon;
mod doctor;
mod generate;
mod package;
mod pages;
mod port_owner;
mod profile_diff;
mod profiles;
mod reload;
mod route;
mod run;
mod status;
mod takeover;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::{Arguments, Command, DaemonArguments};
use crate::config;
use crate::config::{Config, ConfigSources};
use crate::os::logging::{self, StderrReader};

/// The exit code of a command; an error is that of a command whose message is printed already.
type CommandResult = Result<ExitCode, ExitCode>;

/// The exit code if the daemon does not run.
const NOT_RUNNING: u8 = 3;

/// Runs the command line of this process: a command, or the verbs of the daemon whose name the program was called by.
pub fn main() -> ExitCode {
    let name = arguments::called_as(std::env::args_os().next());
    let result = match config::profile_of_daemon(&name) {
        Some(profile) => run_as_daemon(&profile),
        None => run_command(),
    };
    result.unwrap_or_else(|code| code)
}

fn run_command() -> CommandResult {
    let arguments = Arguments::parse();
    let options = arguments.sources.options();
    let is_background = matches!(arguments.command, Command::Run { background: true, .. });
    let reader = if is_background { StderrReader::Absent } else { StderrReader::Stderr };
    logging::start(arguments.debug, reader);
    match arguments.command {
        Command::Run { profile, .. } => Ok(run::run(&profile, &options)),
        Command::Check { profile, json } => Ok(check::run(&profile, &options, json)),
        Command::Doctor { profile, json, bundle } => {
            Ok(doctor::run(&profile, &options, &doctor::DoctorOutput { json, bundle }))
        }
        Command::Acl { profile, addresses } => acl::run(&profile, &options, &addresses),
        Command::Route { profile, method, path } => route::run(&profile, &options, &method, &path),
        Command::Status { profile, watch, json } => {
            status::run(&profile, &options, status::StatusStyle { watch, json })
        }
        Command::Reload { profile, confirm, force } => reload::run(&profile, &options, confirm, force),
        Command::Confirm { profile } => reload::confirm(&profile, &options),
        Command::Compare { profile, comparison } => compare::run(&profile, &options, &comparison),
        Command::ProfileDiff { profile, diff } => Ok(profile_diff::run(&profile, &options, &diff)),
        Command::Pages { profile } => pages::run(&profile, &options),
        Command::Takeover { profile, takeover } => takeover::take_over(&profile, &options, &takeover),
        Command::Giveback { profile } => takeover::give_back(&profile, &options),
        Command::Guard { profile } => takeover::guard(&profile, &options),
        Command::Profiles { name } => Ok(profiles::run(name.as_deref())),
        Command::Generate { what, directory } => Ok(generate::run(what, &directory)),
    }
}

fn run_as_daemon(profile: &str) -> CommandResult {
    let arguments = DaemonArguments::parse();
    logging::start(arguments.debug(), StderrReader::Stderr);
    daemon::run(profile, &arguments.sources.options(), arguments.verb)
}

/// Writes a line to stdout; a reader that has gone away is none of our business.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn complain(problems: &[impl Display]) {
    problems.iter().for_each(write_to_stderr);
}

fn fail(message: &str) -> ExitCode {
    write_to_stderr(message);
    ExitCode::FAILURE
}

/// Writes a line to stderr as a whole. stderr has no buffer, so that `writeln!` would write it in pieces, and the output
/// of a program behind a pipe could come between them.
fn write_to_stderr(line: impl Display) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
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

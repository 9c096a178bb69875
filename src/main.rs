//! Command line → configuration → run.

use std::process::ExitCode;

use clap::Parser as _;
use nodegate::cli::CommandResult;
use nodegate::cli::arguments::{self, Arguments, Command, DaemonArguments};
use nodegate::cli::{acl, check, compare, daemon, generate, pages, profiles, reload, route, run, status};
use nodegate::config;
use nodegate::os::logging::{self, StderrReader};

fn main() -> ExitCode {
    let name = arguments::called_as(std::env::args_os().next());
    let result = match config::profile_of_daemon(&name) {
        Some(profile) => in_place_of_a_daemon(&profile),
        None => command(),
    };
    result.unwrap_or_else(|code| code)
}

fn command() -> CommandResult {
    let arguments = Arguments::parse();
    let options = arguments.options();
    let alone = matches!(arguments.command, Command::Run { background: true, .. });
    let reader = if alone { StderrReader::Nobody } else { StderrReader::Stderr };
    logging::start(arguments.debug, reader);
    match arguments.command {
        Command::Run { profile, .. } => Ok(run::run(&profile, &options)),
        Command::Check { profile, json } => Ok(check::run(&profile, &options, json)),
        Command::Acl { profile, addresses } => acl::run(&profile, &options, &addresses),
        Command::Route { profile, method, path } => route::run(&profile, &options, &method, &path),
        Command::Status { profile, watch, json } => {
            status::run(&profile, &options, status::StatusStyle { watch, json })
        }
        Command::Reload { profile, confirm, force } => reload::run(&profile, &options, confirm, force),
        Command::Confirm { profile } => reload::confirm(&profile, &options),
        Command::Compare { profile, comparison } => compare::run(&profile, &options, &comparison),
        Command::Pages { profile } => pages::run(&profile, &options),
        Command::Profiles { name } => Ok(profiles::run(name.as_deref())),
        Command::Generate { what, directory } => Ok(generate::run(what, &directory)),
    }
}

fn in_place_of_a_daemon(profile: &str) -> CommandResult {
    let arguments = DaemonArguments::parse();
    logging::start(arguments.debug(), StderrReader::Stderr);
    daemon::run(profile, &arguments.options(), arguments.verb)
}

//! Command line → configuration → run.

use std::process::ExitCode;

use clap::Parser as _;
use nodegate::cli::{Arguments, Command};
use nodegate::command::{acl, check, profiles, route, run};
use nodegate::process::logging;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start(arguments.debug);
    let options = arguments.options();
    match arguments.command {
        Command::Run { profile } => run::run(&profile, &options),
        Command::Check { profile, json } => check::run(&profile, &options, json),
        Command::Acl { profile, addresses } => acl::run(&profile, &options, &addresses),
        Command::Route { profile, method, path } => route::run(&profile, &options, &method, &path),
        Command::Profiles { name } => profiles::run(name.as_deref()),
    }
}

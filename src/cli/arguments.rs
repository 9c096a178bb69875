//! The command lines of nodegate and of the daemons whose names it can be called by.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::admin::protocol::MAX_CONFIRM_SECONDS;
use crate::cli::compare::ComparisonOptions;
use crate::cli::profile_diff::ProfileDiffOptions;
use crate::cli::takeover::TakeoverOptions;
use crate::config::ConfigSources;
use crate::config::root::RootDirectory;

/// Follows the list of commands in `--help`; the manual page has it too.
pub const NOTES: &str = include_str!("../../docs/man/help.txt");

/// Reverse proxy in front of the API, the consoles and the files of a node: access lists, TLS, tickets, CSRF tokens,
/// tunnels.
#[derive(Debug, Parser)]
#[command(name = "nodegate", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "`nodegate --help` describes profiles, settings and exit codes, with examples.")]
#[command(after_long_help = NOTES)]
pub struct Arguments {
    #[command(flatten)]
    pub sources: SettingsArguments,
    /// Write a debug log to stderr
    #[arg(long, global = true)]
    pub debug: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// The sources of settings.
#[derive(Args, Debug)]
pub struct SettingsArguments {
    /// Look up every absolute path of profile and settings under DIR
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Set a value in the strongest layer; repeatable: --set listen.port=8007
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT
    Run {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Log to the journal if there is one, because no terminal reads stderr
        #[arg(long, hide = true)]
        background: bool,
    },
    /// Verify all that `run` would use; print each setting with its origin
    Check {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Find out why it does not work, and print the command that mends it
    Doctor {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Write a support bundle without secrets, a .tar.gz, into a new file
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Print for each address whether it may connect, and why
    Acl {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Addresses; `-` reads them from stdin
        #[arg(required = true, value_name = "ADDR")]
        addresses: Vec<String>,
    },
    /// Print where a request would go, and why
    Route {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Such as GET
        method: String,
        /// With or without a query
        path: String,
    },
    /// Show the running process: connections, requests, consoles, tunnels
    Status {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Repeat every second
        #[arg(long)]
        watch: bool,
        /// Print one JSON object, or one a line
        #[arg(long)]
        json: bool,
    },
    /// Make the running process read settings, certificates and keys again
    Reload {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        /// Revert after so many seconds unless you run `confirm`
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_CONFIRM_SECONDS))]
        confirm: Option<u64>,
        /// Apply settings that were reverted before and that the files still hold
        #[arg(long)]
        force: bool,
    },
    /// Keep the settings of `reload --confirm`
    Confirm {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
    },
    /// Send equal requests to the original and a trial; show differences
    #[command(alias = "shadow")]
    Compare {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        #[command(flatten)]
        comparison: ComparisonOptions,
    },
    /// Show what the installed product serves and nodegate lacks
    ProfileDiff {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        #[command(flatten)]
        diff: ProfileDiffOptions,
    },
    /// Request each page of the profile from the server on its port
    Pages {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
    },
    /// Serve the product's port in place of the original, after checks
    Takeover {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
        #[command(flatten)]
        takeover: TakeoverOptions,
    },
    /// Give the product's port back to the original
    Giveback {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
    },
    /// Watch a trial: the unit of `takeover` runs it
    #[command(hide = true)]
    Guard {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
    },
    /// List the built-in profiles, or print one
    Profiles {
        /// Name of a built-in profile
        name: Option<String>,
    },
    /// Write the manual pages or the shell completions into a directory
    #[command(hide = true)]
    Generate {
        what: GeneratedFiles,
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Files generated from the definition of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum GeneratedFiles {
    Man,
    Completions,
}

/// Replaces a node's own daemon, with that daemon's verbs.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "This is nodegate; `nodegate --help` lists its other commands.")]
pub struct DaemonArguments {
    #[command(flatten)]
    pub sources: SettingsArguments,
    #[command(subcommand)]
    pub verb: DaemonVerb,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DaemonVerb {
    /// Start in the background
    Start {
        /// Stay in the foreground, and write a debug log to stderr
        #[arg(long)]
        debug: bool,
    },
    /// Stop, and wait for the end
    Stop,
    /// Read the settings again without dropping a console; start the daemon if it does not run
    Restart,
    /// Print `running` or `stopped`
    Status,
}

impl DaemonArguments {
    /// Whether to write a debug log.
    pub fn debug(&self) -> bool {
        matches!(self.verb, DaemonVerb::Start { debug: true })
    }
}

impl SettingsArguments {
    pub fn options(&self) -> ConfigSources {
        ConfigSources { root: RootDirectory::new(self.root.clone()), sets: self.sets.clone() }
    }
}

/// The name that this program was called by.
pub fn called_as(first: Option<OsString>) -> String {
    let path = first.unwrap_or_default();
    Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

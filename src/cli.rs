//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Options;
use crate::config::root::Root;

/// Gate in front of the API, the consoles and the files of a node: access lists, TLS, tickets, CSRF tokens, tunnels.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    /// Look up every absolute path of profile and settings under DIR
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Strongest layer of settings; repeatable, such as --set listen.port=8007
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Log in detail on stderr
    #[arg(long, global = true)]
    pub debug: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT
    Run {
        /// Name of a built-in profile, or the path of a .toml file
        profile: String,
    },
    /// Validate everything that `run` would use and print each effective setting with its origin
    Check {
        profile: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say for each address whether it may connect, and why
    Acl {
        profile: String,
        /// Addresses; `-` reads them from stdin
        #[arg(required = true, value_name = "ADDR")]
        addresses: Vec<String>,
    },
    /// Say where a request would go, and why
    Route { profile: String, method: String, path: String },
    /// List the built-in profiles, or print one
    Profiles { name: Option<String> },
}

impl Arguments {
    pub fn options(&self) -> Options {
        Options { root: Root::new(self.root.clone()), sets: self.sets.clone() }
    }
}

//! Real clients, as people have them, through the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod api;
mod guest;
mod headless_viewer;
mod npm;
mod remote_viewer;
mod virtual_screen;

/// Debian's own, for the modules that come as packages.
const PYTHON: &str = "/usr/bin/python3";

/// A script beside the tests, or a file below the target folder.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a client to its end, without any configuration of the user.
fn run(command: &mut Command) -> Output {
    undisturbed(command).stdin(Stdio::null()).output().unwrap_or_else(|error| missing(command, &error))
}

fn undisturbed(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
    {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

fn missing(command: &Command, error: &std::io::Error) -> ! {
    panic!("{}: {error}; `make test` installs what the tests need", command.get_program().display())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

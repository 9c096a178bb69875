//! The installed version of a package of the product.

use std::process::Command;
use std::time::Duration;

use crate::config::root::RootDirectory;
use crate::os::program::{self, ProgramError, ProgramLimits};

const LIMITS: ProgramLimits =
    ProgramLimits { time: Duration::from_secs(4), output_bytes: 1 << 16, memory_bytes: None };

/// The state of one package.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum PackageState {
    Installed(String),
    Absent,
    Unknown(&'static str),
}

pub(super) fn state(root: &RootDirectory, package: &str) -> PackageState {
    match query(root, package) {
        Ok(Some(text)) => match text.split_once(' ') {
            Some(("installed", version)) => PackageState::Installed(version.to_owned()),
            Some(_) | None => PackageState::Absent,
        },
        Ok(None) => PackageState::Absent,
        Err(ProgramError::NotStarted(_)) => PackageState::Unknown("dpkg-query is not installed"),
        Err(ProgramError::TooSlow) => PackageState::Unknown("dpkg-query does not answer"),
    }
}

/// `installed 9.2.11`, or `None` for a package that is not known.
pub(super) fn query(root: &RootDirectory, package: &str) -> Result<Option<String>, ProgramError> {
    let mut command = Command::new("dpkg-query");
    command.arg("--root").arg(root.path("/")).env("LC_ALL", "C");
    command.args(["--show", "--showformat", "${db:Status-Status} ${Version}", "--", package]);
    let output = program::run(&mut command, String::new(), LIMITS)?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

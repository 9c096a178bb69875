//! The files below /run that the commands and the guard share. A reboot removes them, as it ends a trial.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::comparison::ComparisonReport;
use super::drop_ins;
use super::health::HealthTargets;
use super::verdict::AnswerCounts;
use crate::cli::compare::client::RequestHeader;
use crate::cli::compare::credential;

const DIRECTORY: &str = "/run/nodegate-takeover";

/// A trial, as the command hands it over to the guard.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TrialRecord {
    pub(super) milliseconds: u64,
    /// seconds since 1970
    pub(super) ends_at: u64,
    pub(super) baseline: AnswerCounts,
    pub(super) targets: HealthTargets,
    /// other answers do not end the trial
    #[serde(default)]
    pub(super) accept_differences: bool,
    /// `None` before the first round
    #[serde(default)]
    pub(super) comparison: Option<ComparisonReport>,
}

/// The files of one daemon.
#[derive(Clone, Debug)]
pub(super) struct TrialFiles {
    directory: PathBuf,
    daemon: String,
}

/// Held until it is dropped.
pub(super) type FileLock = Flock<File>;

impl TrialFiles {
    pub(super) fn new(daemon: &str) -> Self {
        Self { directory: PathBuf::from(DIRECTORY), daemon: daemon.to_owned() }
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)
    }

    /// Of the commands. `None` if another one runs.
    pub(super) fn lock_commands(&self) -> io::Result<Option<FileLock>> {
        self.prepare()?;
        let file = File::create(self.path("command"))?;
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
    }

    /// Of a change of the unit: the guard and a command decide one after the other.
    pub(super) fn lock_switch(&self) -> io::Result<FileLock> {
        let file = File::create(self.path("switch"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    pub(super) fn write(&self, record: &TrialRecord) -> io::Result<()> {
        let text = serde_json::to_string(record).map_err(io::Error::other)?;
        // A command may read it at the same time.
        let written = self.path("new");
        fs::write(&written, text)?;
        fs::rename(written, self.path("json"))
    }

    pub(super) fn read(&self) -> io::Result<TrialRecord> {
        serde_json::from_str(&fs::read_to_string(self.path("json"))?).map_err(io::Error::other)
    }

    /// Hands the credential over to the guard, in memory: /run is no disk.
    pub(super) fn write_credential(&self, (name, value): &RequestHeader) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path("header"))?;
        file.write_all(&[name.as_str().as_bytes(), b": ", value.as_bytes()].concat())
    }

    /// Reads it once.
    pub(super) fn take_credential(&self) -> Result<Option<RequestHeader>, String> {
        let path = self.path("header");
        let header = if path.exists() { credential::read(Some(&path), None) } else { Ok(None) };
        self.forget_credential();
        header
    }

    pub(super) fn forget_credential(&self) {
        // Absent without a credential, and after the guard has read it.
        let _ = fs::remove_file(self.path("header"));
    }

    /// Wants another comparison of the guard.
    pub(super) fn request_comparison(&self) -> io::Result<()> {
        File::create(self.path("compare")).map(drop)
    }

    pub(super) fn take_comparison_request(&self) -> bool {
        fs::remove_file(self.path("compare")).is_ok()
    }

    /// Records why the last trial has ended. The script behind the guard does nothing then.
    pub(super) fn write_end(&self, reason: &str) -> io::Result<()> {
        fs::write(self.path("end"), reason)
    }

    pub(super) fn end(&self) -> Option<String> {
        fs::read_to_string(self.path("end")).ok()
    }

    pub(super) fn forget_end(&self) {
        // Absent before the first trial.
        let _ = fs::remove_file(self.path("end"));
    }

    /// Writes the script that the guard's unit runs at its end.
    pub(super) fn write_script(&self) -> io::Result<PathBuf> {
        let path = self.directory.join("trial-end");
        fs::write(&path, drop_ins::TRIAL_END_SCRIPT)?;
        Ok(path)
    }

    fn path(&self, kind: &str) -> PathBuf {
        Path::new(&self.directory).join(format!("{}.{kind}", self.daemon))
    }
}

//! The files below /run that the commands and the guard share. A reboot removes them, as it ends a trial.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::drop_ins;
use super::health::HealthTargets;
use super::verdict::AnswerCounts;

const DIRECTORY: &str = "/run/nodegate-takeover";

/// A trial, as the command hands it over to the guard.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TrialRecord {
    pub(super) milliseconds: u64,
    /// seconds since 1970
    pub(super) ends_at: u64,
    pub(super) baseline: AnswerCounts,
    pub(super) targets: HealthTargets,
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
        fs::write(self.path("json"), text)
    }

    pub(super) fn read(&self) -> io::Result<TrialRecord> {
        serde_json::from_str(&fs::read_to_string(self.path("json"))?).map_err(io::Error::other)
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

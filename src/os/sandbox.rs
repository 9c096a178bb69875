//! Drops rights for good before the process serves: new privileges, capabilities, and with landlock the right to
//! write and to run programs outside of a few directories. If the kernel cannot do something, the log says so.
//!
//! The rules name permanent directories, because a rule for a directory on a cluster's file system ends with each
//! remount. Reading is not restricted: a reload may name other certificates, keys and pages.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

/// The process may write below these, and beside the files that the configuration names at the start.
const WRITABLE: [&str; 4] = ["/dev", "/run", "/tmp", "/var"];
/// The process may run programs below these, and beside its own binary: its successor is there.
const EXECUTABLE: [&str; 7] = ["/bin", "/lib", "/lib32", "/lib64", "/opt", "/sbin", "/usr"];
/// Landlock's features since Linux 6.2. Only making and removing files, directories and sockets is restricted.
const SUPPORTED_ABI: ABI = ABI::V3;

/// Writable directories of a confined process. Landlock confines the process for good.
static CONFINED_TO: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Call it before the second thread starts: a thread inherits the restrictions of its parent. Not with `--root`.
pub fn confine(config: &Config, becomes_user: bool) {
    if let Err(error) = set_no_new_privs(true) {
        tracing::warn!(%error, "programs that this process starts could gain privileges");
    }
    if becomes_user {
        drop_capabilities();
    }
    if !config.root.is_system() || CONFINED_TO.get().is_some() {
        return;
    }
    let writable = writable(config);
    match restrict(&writable) {
        Ok(RulesetStatus::NotEnforced) => tracing::debug!("landlock: not available in this kernel"),
        Ok(status @ (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced)) => {
            tracing::debug!(?status, ?writable, "landlock: confined");
            let _ = CONFINED_TO.set(writable);
        }
        Err(error) => tracing::debug!(%error, "landlock: not confined"),
    }
}

/// The predecessor confined itself, and this process inherits the restrictions.
pub fn inherit(writable: Vec<PathBuf>) {
    let _ = CONFINED_TO.set(writable);
}

/// The writable directories; `None` without a restriction.
pub fn confined_to() -> Option<&'static [PathBuf]> {
    CONFINED_TO.get().map(Vec::as_slice)
}

/// The problem of a log that a confined process cannot write.
pub fn problem(config: &Config) -> Option<Diagnostic> {
    let log = config.settings.access_log.as_deref()?;
    let writable = confined_to()?;
    let folder = log.parent()?;
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if writable.iter().any(|directory| real.starts_with(directory)) {
        return None;
    }
    let message = format!(
        "{} is outside the directories that the running process may write to; restart it, or choose a path below /var",
        log.display()
    );
    Some(Diagnostic::error(config.origin("log.access"), "log.access", message))
}

/// Programs that this process starts cannot get a capability either.
fn drop_capabilities() {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => (),
            Err(Errno::INVAL) => return, // the kernel has no further capabilities
            Err(error) => return tracing::warn!(%error, "the capabilities cannot be dropped"),
        }
    }
}

fn writable(config: &Config) -> Vec<PathBuf> {
    let pid_file = config.product.pid_file.as_ref().map(|path| config.root.path(path));
    let spool = config.product.upload.as_ref().map(|upload| config.root.path(&upload.spool));
    let named = [config.settings.access_log.clone(), pid_file, spool].into_iter().flatten();
    let beside = named.filter_map(|path| path.parent()?.canonicalize().ok());
    let mut writable: Vec<_> = WRITABLE.map(PathBuf::from).into_iter().chain(beside).collect();
    writable.retain(|path| path != Path::new("/"));
    writable.dedup();
    writable
}

fn restrict(writable: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let own = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let executable = EXECUTABLE.map(PathBuf::from).into_iter().chain(own);
    let used: BitFlags<AccessFs> = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_write(SUPPORTED_ABI) | AccessFs::Execute)?
        .create()?
        .add_rules(path_beneath_rules(writable, used))?
        .add_rules(path_beneath_rules(executable, AccessFs::Execute))?
        .restrict_self()?;
    Ok(status.ruleset)
}

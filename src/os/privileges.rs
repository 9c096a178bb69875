//! Changes from root to the user of the settings in all threads, after everything that needs root is open.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, chown, fchown};
use std::path::Path;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;
use crate::os::listener::ListeningSocket;

/// The user to serve as; `None` if not started as root, or with `--root`.
pub fn user_to_become(config: &Config) -> Result<Option<User>, Vec<Diagnostic>> {
    if !geteuid().is_root() || !config.root.is_system() {
        return Ok(None);
    }
    let name = &config.settings.user;
    let problem = |message: String| vec![Diagnostic::error(config.origin("user"), "user", message)];
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(problem(format!("there is no user '{name}' on this machine"))),
        Err(error) => Err(problem(format!("'{name}' cannot be looked up: {error}"))),
    }
}

/// Makes the directories of log and pid file, and the log itself, owned by the user. The user opens the log again
/// after each rotation.
pub fn hand_over_files(config: &Config, user: Option<&User>) {
    let log = config.settings.access_log.as_deref();
    let pid_file = config.product.pid_file.as_ref().map(|path| config.root.path(path));
    for directory in [log, pid_file.as_deref()].into_iter().flatten().filter_map(Path::parent) {
        if directory.is_dir() {
            continue;
        }
        if let Err(error) = std::fs::create_dir_all(directory) {
            tracing::warn!("{} cannot be made: {error}", directory.display());
        } else if let Some(user) = user {
            give(directory, user);
        }
    }
    if let (Some(log), Some(user)) = (log, user)
        && let Err(error) = make_for(log, user)
    {
        tracing::debug!("the owner of {} stays as it is: {error}", log.display());
    }
}

/// Makes a new file for the user. It does not touch an existing file or link: the directory belongs to the user, who
/// could otherwise make root give away any file.
fn make_for(path: &Path, user: &User) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(path)?;
    fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

fn give(directory: &Path, user: &User) {
    if let Err(error) = chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw())) {
        tracing::warn!("the owner of {} cannot be changed to '{}': {error}", directory.display(), user.name);
    }
}

/// Drops root for good. The C library does so in every thread.
///
/// The user also becomes the owner of the listening sockets, because only the owner may bind others beside them on a
/// reload.
pub fn become_user(user: Option<&User>, sockets: &[ListeningSocket]) -> Result<(), Vec<Diagnostic>> {
    let Some(user) = user else { return Ok(()) };
    for ListeningSocket { socket, .. } in sockets {
        if let Err(error) = fchown(&**socket, Some(user.uid.as_raw()), Some(user.gid.as_raw())) {
            tracing::debug!(%error, "the owner of a listening socket cannot be changed");
        }
    }
    let drop_all = || -> nix::Result<()> {
        let name = CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
        initgroups(&name, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)
    };
    drop_all().map_err(|error| {
        let message = format!("cannot become user '{}': {error}", user.name);
        vec![Diagnostic::error(crate::config::diagnostic::ValueOrigin::Profile, "user", message)]
    })
}

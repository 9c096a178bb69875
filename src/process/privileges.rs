//! From root to the user of the settings, for all threads, once everything that needs root is open.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::config::Config;
use crate::config::problem::Problem;

/// The user to serve as: none when not started as root, or with `--root`.
pub fn user_to_become(config: &Config) -> Result<Option<User>, Vec<Problem>> {
    if !geteuid().is_root() || !config.root.is_system() {
        return Ok(None);
    }
    let name = &config.settings.user;
    let problem = |message: String| vec![Problem::error(config.origin("user"), "user", message)];
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(problem(format!("there is no user '{name}' on this machine"))),
        Err(error) => Err(problem(format!("'{name}' cannot be looked up: {error}"))),
    }
}

/// Makes the directories of log and pid file, owned by the user that will write there.
pub fn hand_over_directories(config: &Config, user: Option<&User>) {
    let log = config.settings.access_log.as_deref();
    let pid_file = config.product.pid_file.as_ref().map(|path| config.root.path(path));
    for directory in [log, pid_file.as_deref()].into_iter().flatten().filter_map(Path::parent) {
        if directory.is_dir() {
            continue;
        }
        if let Err(error) = std::fs::create_dir_all(directory) {
            tracing::warn!("{} cannot be made: {error}", directory.display());
        } else if let Some(user) = user {
            let _ = chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()));
        }
    }
}

/// Gives root up for good. The C library does so in every thread.
pub fn become_user(user: Option<&User>) -> Result<(), Vec<Problem>> {
    let Some(user) = user else { return Ok(()) };
    let drop_all = || -> nix::Result<()> {
        let name = CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
        initgroups(&name, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)
    };
    drop_all().map_err(|error| {
        let message = format!("cannot become user '{}': {error}", user.name);
        vec![Problem::error(crate::config::problem::Origin::Profile, "user", message)]
    })
}

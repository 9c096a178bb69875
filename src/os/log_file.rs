//! Whether the access log can be written. Without it nodegate serves, and logs no request.

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::config::diagnostic::Diagnostic;

/// Begins each message.
pub const NOT_LOGGED: &str = "no request is logged: ";

/// A warning if the log has no directory.
pub fn missing_directory(config: &Config) -> Option<Diagnostic> {
    let directory = config.settings.access_log.as_deref()?.parent()?;
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return None;
    }
    let reason = format!(
        "the directory {} does not exist: create it for the user '{}', and add it to ReadWritePaths= of the unit",
        directory.display(),
        config.settings.user
    );
    Some(warning(config, &reason))
}

/// A warning if this process cannot write the log, or has no directory for it.
pub fn problem(config: &Config) -> Option<Diagnostic> {
    let log = config.settings.access_log.as_deref()?;
    missing_directory(config).or_else(|| {
        let place = if log.exists() { log } else { log.parent()? };
        let error = access(place, AccessFlags::W_OK).err()?;
        // A file system that is read-only for a service only.
        let more =
            if error == Errno::EROFS { "; add it to ReadWritePaths= of the unit, and restart" } else { "" };
        Some(warning(config, &format!("{} cannot be written: {}{more}", place.display(), error.desc())))
    })
}

fn warning(config: &Config, reason: &str) -> Diagnostic {
    Diagnostic::warning(config.origin("log.access"), "log.access", format!("{NOT_LOGGED}{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;
    use crate::config::root::RootDirectory;

    #[test]
    fn a_log_without_directory_is_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let load = |log: &str| {
            let sets = vec![format!("log.access={log}")];
            let options = ConfigSources { root: RootDirectory::new(directory.path().to_owned()), sets };
            Config::load("pve", &options).unwrap()
        };
        let text = |found: Option<Diagnostic>| found.map(|problem| problem.text());
        let there = directory.path().display();
        assert_eq!(text(problem(&load("/access.log"))), None);
        assert_eq!(text(problem(&load(""))), None, "no log is wanted");
        let missing = load("/missing/access.log");
        let expected = format!(
            "--set: log.access: no request is logged: the directory {there}/missing does not exist: \
             create it for the user 'www-data', and add it to ReadWritePaths= of the unit"
        );
        assert_eq!(text(missing_directory(&missing)), Some(expected));
        assert_eq!(problem(&missing), missing_directory(&missing));
    }
}

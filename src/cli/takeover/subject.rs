//! The unit that a command is about, and what makes the command impossible.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Local};
use nix::unistd::geteuid;

use super::comparison::ComparisonReport;
use super::drop_ins::UnitCommand;
use super::record::{FileLock, TrialFiles};
use super::systemctl::{self, Unit};
use super::unit_files::UnitFiles;
use crate::cli::{fail, locate, pages};
use crate::config::{Config, ConfigSources};

/// Directories that the sandbox of the unit hides.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

pub(super) struct Subject {
    pub(super) profile: String,
    pub(super) config: Config,
    pub(super) program: PathBuf,
    pub(super) unit: Unit,
    pub(super) guard: Unit,
    pub(super) files: UnitFiles,
    pub(super) trial: TrialFiles,
}

impl Subject {
    /// Settings may be wrong: giving back works all the same.
    pub(super) fn new(profile: &str, options: &ConfigSources) -> Result<Self, ExitCode> {
        if let Some(obstacle) = obstacle(options) {
            return Err(fail(&obstacle));
        }
        let config = locate(profile, options)?;
        let daemon = &config.product.daemon;
        let unit = Unit::of_daemon(daemon);
        if !unit.is_known() {
            let message = format!(
                "systemd knows no {}: there is no original to take over from (without it: systemctl enable --now \
                 nodegate@{profile})",
                unit.name
            );
            return Err(fail(&message));
        }
        Ok(Self {
            profile: unit_word(profile).map_err(|message| fail(&message))?,
            program: std::env::current_exe().map_err(|error| fail(&format!("this program: {error}")))?,
            guard: Unit::instance("nodegate-trial", daemon),
            files: UnitFiles::new(Path::new("/"), daemon),
            trial: TrialFiles::new(daemon),
            unit,
            config,
        })
    }

    pub(super) fn daemon(&self) -> &str {
        &self.config.product.daemon
    }

    pub(super) fn command(&self) -> UnitCommand<'_> {
        UnitCommand { program: &self.program, profile: &self.profile }
    }

    /// One command at a time.
    pub(super) fn lock(&self) -> Result<FileLock, ExitCode> {
        let lock = self.trial.lock_commands().map_err(|error| fail(&error.to_string()))?;
        lock.ok_or_else(|| {
            fail(&format!("another command is about to switch {}: wait for it", self.unit.name))
        })
    }

    /// The program as www-data starts it.
    pub(super) fn check_program(&self) -> Result<(), ExitCode> {
        let program = self.program.display();
        if HIDDEN.iter().any(|hidden| self.program.starts_with(hidden)) {
            return Err(fail(&format!(
                "{} cannot run {program}, which its sandbox hides: copy the program to /usr/local/bin",
                self.unit.name
            )));
        }
        unit_word(&program.to_string()).map(drop).map_err(|message| fail(&message))
    }

    /// The address of the server on this machine, or the reason why this machine cannot connect to it.
    pub(super) fn address(&self) -> Result<IpAddr, String> {
        pages::reachable_address(&self.config)
    }

    /// The original listens on the profile's own port.
    pub(super) fn original_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address().ok()?, self.config.own_port))
    }

    /// What the guard of the trial has compared.
    pub(super) fn comparison(&self) -> Option<ComparisonReport> {
        self.trial.read().ok()?.comparison
    }

    /// The deadline of the trial that runs, for a message.
    pub(super) fn deadline(&self) -> String {
        let ends_at = self.trial.read().ok().and_then(|record| i64::try_from(record.ends_at).ok());
        let ends_at = ends_at.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        ends_at.map_or_else(
            || "its deadline".to_owned(),
            |time| time.with_timezone(&Local).format("%H:%M:%S").to_string(),
        )
    }
}

fn obstacle(options: &ConfigSources) -> Option<String> {
    if !options.root.is_system() {
        Some("the unit serves this system, so --root has no meaning here".to_owned())
    } else if !options.sets.is_empty() {
        Some(
            "the unit has no --set: write the settings to the file of the profile in /etc/nodegate, and try them \
             with `nodegate run`"
                .to_owned(),
        )
    } else if !systemctl::is_init() {
        Some(
            "systemd does not run this machine (/run/systemd/system is missing), and the unit is systemd's"
                .to_owned(),
        )
    } else if !geteuid().is_root() {
        Some("only root can change a unit: run this command as root".to_owned())
    } else {
        None
    }
}

/// A word of `ExecStart=` that needs no quotes. A path becomes absolute.
fn unit_word(text: &str) -> Result<String, String> {
    let word = if text.contains('/') {
        let path = std::path::absolute(text).map_err(|error| format!("{text}: {error}"))?;
        path.display().to_string()
    } else {
        text.to_owned()
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if word.chars().all(is_plain) {
        Ok(word)
    } else {
        Err(format!("{word}: a unit cannot name this path; use one of letters, digits and ._-+@"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_need_no_quotes() {
        assert_eq!(unit_word("pve").unwrap(), "pve");
        assert_eq!(unit_word("/etc/nodegate/my-own.toml").unwrap(), "/etc/nodegate/my-own.toml");
        assert!(unit_word("mine.d/a.toml").unwrap().starts_with('/'));
        for word in ["/a b", "/a%b", "/a;b", "/a\"b", "/a$b", "/a\nb"] {
            assert!(unit_word(word).is_err(), "{word}");
        }
    }

    #[test]
    fn options_that_the_unit_lacks_are_refused() {
        let set = ConfigSources { sets: vec!["workers=2".to_owned()], ..ConfigSources::default() };
        assert!(obstacle(&set).unwrap().contains("/etc/nodegate"));
        let root = crate::config::root::RootDirectory::new("/nowhere".into());
        let root = ConfigSources { root, sets: Vec::new() };
        assert!(obstacle(&root).unwrap().contains("--root"));
    }
}

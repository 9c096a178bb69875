//! The entries of a bundle besides the doctor's own report.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::{Value, json};

use super::redact::{Redacted, Redaction};
use crate::cli::doctor::deadline::{self, ProgramError};
use crate::cli::doctor::service;
use crate::cli::doctor::subject::{StatusAnswer, Subject};
use crate::cli::package;
use crate::config;
use crate::tls::certificate_files;

const PROGRAM_TIMEOUT: Duration = Duration::from_secs(4);
const LOG_LINES: usize = 300;
/// Bytes of a log's end that are read.
const MAX_LOG_BYTES: u64 = 128 << 10;

#[derive(Clone, Copy)]
pub(super) enum EntryKind {
    Check,
    Settings,
    Status,
    Profile,
    Versions,
    Units,
    Journal,
    AccessLog,
    Files,
}

/// The contents of an entry before the redaction.
pub(super) enum Entry {
    Text(String),
    Json(Value),
}

impl Entry {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn redacted(self, redaction: &Redaction) -> Redacted {
        match self {
            Self::Text(text) => redaction.text(&text),
            Self::Json(value) => redaction.json(value),
        }
    }

    fn of_program(output: Result<String, ProgramError>) -> Self {
        Self::Text(match output {
            Ok(text) => text,
            Err(ProgramError::Missing) => "the program is not installed\n".to_owned(),
            Err(ProgramError::TooSlow) => "the program did not answer in time\n".to_owned(),
            Err(ProgramError::Failed(reason)) => format!("{reason}\n"),
        })
    }
}

impl EntryKind {
    pub(super) const ALL: [Self; 9] = [
        Self::Check,
        Self::Settings,
        Self::Status,
        Self::Profile,
        Self::Versions,
        Self::Units,
        Self::Journal,
        Self::AccessLog,
        Self::Files,
    ];

    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Check => "check.txt",
            Self::Settings => "settings.json",
            Self::Status => "status.json",
            Self::Profile => "profile.toml",
            Self::Versions => "versions.txt",
            Self::Units => "units.txt",
            Self::Journal => "journal.txt",
            Self::AccessLog => "access-log.txt",
            Self::Files => "files.txt",
        }
    }

    pub(super) fn gather(self, subject: &Subject) -> Entry {
        match self {
            Self::Check => check(subject),
            Self::Settings => match subject.known_check() {
                Some(checked) => Entry::Json(checked.report.clone()),
                None => Entry::text("null\n"),
            },
            Self::Status => status(subject),
            Self::Profile => profile(subject),
            Self::Versions => versions(subject),
            Self::Units => units(subject),
            Self::Journal => journal(subject),
            Self::AccessLog => access_log(subject),
            Self::Files => files(subject),
        }
    }
}

fn check(subject: &Subject) -> Entry {
    let Some(checked) = subject.known_check() else { return Entry::text("the check did not end in time\n") };
    let problems = checked.errors.iter().chain(&checked.warnings).map(ToString::to_string);
    Entry::Text(
        checked.lines.iter().cloned().chain(problems).fold(String::new(), |text, line| text + &line + "\n"),
    )
}

fn status(subject: &Subject) -> Entry {
    Entry::Json(match subject.status() {
        StatusAnswer::Running(report) => json!(report),
        StatusAnswer::Silent(reason) | StatusAnswer::Forbidden(reason) | StatusAnswer::Absent(reason) => {
            json!({ "unknown": reason })
        }
    })
}

fn profile(subject: &Subject) -> Entry {
    let built_in = config::built_in_profile(&subject.profile).map(str::to_owned);
    let text = built_in.map_or_else(|| fs::read_to_string(&subject.profile), Ok);
    Entry::Text(text.unwrap_or_else(|error| format!("# {error}\n")))
}

fn versions(subject: &Subject) -> Entry {
    let mut text = format!("nodegate {}\n{}\n", env!("CARGO_PKG_VERSION"), openssl::version::version());
    if let Ok(system) = nix::sys::utsname::uname() {
        let parts = [system.sysname(), system.release(), system.version(), system.machine()];
        let parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
        let _ = writeln!(text, "{}", parts.join(" "));
    }
    text += &fs::read_to_string(subject.config.root.path("/etc/os-release")).unwrap_or_default();
    let worker = subject.config.product.worker_package.iter();
    for name in ["nodegate", "systemd"]
        .into_iter()
        .map(str::to_owned)
        .chain(worker.cloned())
        .chain(subject.config.product.doctor.packages.keys().cloned())
    {
        let state = package::query(&subject.config.root, &name).ok().flatten();
        let state = state.unwrap_or_else(|| "not installed".to_owned());
        let _ = writeln!(text, "{name}: {state}");
    }
    Entry::Text(text)
}

/// The properties in effect, and the files with their drop-ins.
fn units(subject: &Subject) -> Entry {
    if !subject.is_system() {
        return Entry::text("with --root the units of this machine were not looked at\n");
    }
    let mut command = Command::new("systemctl");
    command.args(["cat", "--no-pager", "--"]).args(service::names(subject));
    let parts = [service::shown(subject), deadline::output(&mut command, PROGRAM_TIMEOUT)];
    let texts = parts.map(|output| match Entry::of_program(output) {
        Entry::Text(text) => text,
        Entry::Json(value) => value.to_string(),
    });
    Entry::Text(texts.join("\n"))
}

fn journal(subject: &Subject) -> Entry {
    if !subject.is_system() {
        return Entry::text("with --root the journal of this machine was not read\n");
    }
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output=short-iso", "--lines", &LOG_LINES.to_string()]);
    for unit in service::names(subject) {
        command.args(["--unit", &unit]);
    }
    Entry::of_program(deadline::output(&mut command, PROGRAM_TIMEOUT))
}

fn access_log(subject: &Subject) -> Entry {
    let Some(path) = subject.config.settings.access_log.as_deref() else {
        return Entry::text("log.access is empty\n");
    };
    Entry::Text(match last_lines(path) {
        Ok(text) => text,
        Err(error) => format!("{}: {error}\n", path.display()),
    })
}

fn last_lines(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may have lost its beginning, and with it the name before a secret.
    let skipped = usize::from(length > MAX_LOG_BYTES);
    let lines: Vec<_> = text.lines().skip(skipped).collect();
    let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    Ok(last.iter().fold(String::new(), |text, line| text + line + "\n"))
}

/// Modes and owners, without contents.
fn files(subject: &Subject) -> Entry {
    let mut text = String::new();
    for path in listed_files(subject) {
        let line = match fs::symlink_metadata(&path) {
            Ok(metadata) => describe(&metadata),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(text, "{}: {line}", path.display());
    }
    Entry::Text(text)
}

fn describe(metadata: &Metadata) -> String {
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    let user = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
    let group = Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name);
    format!(
        "{:06o} {user} {group} {} bytes, changed at {}",
        metadata.mode(),
        metadata.len(),
        metadata.mtime()
    )
}

fn listed_files(subject: &Subject) -> Vec<PathBuf> {
    let (config, product) = (&subject.config, &subject.config.product);
    let keys = product.auth.iter().flat_map(|auth| {
        let tickets = auth.ticket.iter().flat_map(|kind| [Some(&kind.key), kind.old_key.as_ref()]);
        tickets.flatten().chain([&auth.csrf.secret])
    });
    let connect = product.connect.iter().map(|connect| &connect.secret);
    let nodes = product.nodes.iter().map(|nodes| &nodes.file);
    let spool = product.upload.iter().map(|upload| Path::new(&upload.spool)).filter_map(Path::parent);
    let of_product =
        keys.chain(connect).chain(nodes).chain(&product.pid_file).map(|path| config.root.path(path));
    let log = config.settings.access_log.iter();
    let mut all: Vec<_> =
        config.files.iter().cloned().chain(certificate_files::files_of_all(config)).collect();
    all.extend(of_product.chain(spool.map(|path| config.root.path(path))).chain(log.cloned()));
    let parents: Vec<_> = all.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect();
    all.extend(parents);
    all.sort();
    all.dedup();
    all
}

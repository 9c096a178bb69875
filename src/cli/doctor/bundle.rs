//! The support bundle: a compressed archive of what helps to find a fault. Every entry passes the redaction.

mod archive;
mod entries;
mod redact;

use std::io;
use std::path::Path;
use std::time::Duration;

use self::entries::EntryKind;
use self::redact::Redaction;
use super::deadline;
use super::report::Report;
use super::subject::Subject;
use std::sync::Arc;

/// For all entries together, which are gathered at the same time.
const GATHER_TIMEOUT: Duration = Duration::from_secs(4);
/// For the files with secrets, which may lie on a file system that hangs.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(2);

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    #[error("it exists already; choose another name")]
    Exists,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the patterns of the redaction: {0}")]
    Redaction(String),
}

/// Fails early if the file cannot be written, before the probes take their time.
pub(super) fn check_destination(file: &Path) -> Result<(), BundleError> {
    match file.symlink_metadata() {
        Ok(_) => Err(BundleError::Exists),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the bundle. Without a subject the profile could not be loaded.
pub(super) fn write(file: &Path, report: &Report, subject: Option<&Arc<Subject>>) -> Result<(), BundleError> {
    let known = subject.cloned().map(|subject| {
        let read =
            deadline::run_all(vec![()], SECRETS_TIMEOUT, move |()| redact::secrets_of_files(&subject.config));
        read.into_iter().filter_map(|((), known)| known).flatten().collect()
    });
    let redaction = Redaction::new(known.unwrap_or_default()).map_err(BundleError::Redaction)?;
    let mut texts = vec![
        ("doctor.json".to_owned(), redaction.json(report.to_json())),
        ("doctor.txt".to_owned(), redaction.text(&report.to_text())),
    ];
    if let Some(subject) = subject {
        let gathered = Arc::clone(subject);
        let kinds = EntryKind::ALL.to_vec();
        let entries = deadline::run_all(kinds, GATHER_TIMEOUT, move |kind| kind.gather(&gathered));
        for (kind, entry) in entries {
            let entry = entry.unwrap_or_else(|| entries::Entry::text("it was not gathered in time\n"));
            texts.push((kind.file_name().to_owned(), entry.redacted(&redaction)));
        }
    }
    let bytes = archive::compress(
        &format!("nodegate-doctor-{}", archive::folder_name(&report.profile)),
        report.at,
        texts,
    )?;
    archive::publish(file, &bytes)
}

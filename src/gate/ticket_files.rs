//! One kind of ticket with the files that decide on it.

use std::time::{Duration, SystemTime};

use openssl::pkey::{PKey, Public};

use super::ticket::{self, DatedKey, Rules, TicketError};
use super::unix;
use crate::config::product;
use crate::config::root::Root;
use crate::config::sections;
use crate::upstream::nodes::NodeFile;
use crate::watched_file::{FileError, Snapshot, WatchedFile};

const DAY: i64 = 86_400;

/// One kind of ticket and the files that decide on it.
pub(super) struct TicketFiles {
    pub(super) kind: product::TicketKind,
    pub(super) key: WatchedFile<PKey<Public>>,
    old_key: Option<WatchedFile<PKey<Public>>>,
    lifetime: Option<WatchedFile<String>>,
}

impl TicketFiles {
    pub(super) fn new(kind: product::TicketKind, root: &Root) -> Self {
        Self {
            key: WatchedFile::new(root.path(&kind.key), public_key),
            old_key: kind.old_key.as_ref().map(|path| WatchedFile::new(root.path(path), public_key)),
            lifetime: kind.lifetime.as_ref().map(|at| WatchedFile::new(root.path(&at.file), plain_text)),
            kind,
        }
    }

    pub(super) fn verify(
        &self,
        ticket: &str,
        rules: &product::Gate,
        nodes: &NodeFile,
        now: SystemTime,
    ) -> Result<Result<String, TicketError>, FileError> {
        let current = self.key.current()?;
        let old = match self.old_key.as_ref().map(WatchedFile::current).transpose() {
            Err(error) if error.is_missing() => Ok(None),
            read => read,
        };
        let current = dated(&current, now);
        let overdue = self.kind.key_lifetime.is_some_and(|lifetime| current.age > lifetime);
        let rules = Rules {
            prefix: &self.kind.prefix,
            schemes: &rules.schemes,
            current,
            old: old.as_ref().ok().and_then(Option::as_ref).map(|old| dated(old, now)),
            min_age: self.kind.min_age,
            max_age: self.max_age()?,
            key_lifetime: self.kind.key_lifetime,
            quorate: overdue && nodes.current().is_ok_and(|table| table.quorate),
            realm: self.kind.realm.as_deref(),
            user_length: rules.user_length,
        };
        match (ticket::verify(ticket, &rules, unix(now)), old) {
            // The key that cannot be read might have fitted.
            (Err(TicketError::Signature | TicketError::Age), Err(error)) => Err(error),
            (judged, _) => Ok(judged),
        }
    }

    /// Seconds; from the file of sections where the profile names one.
    fn max_age(&self) -> Result<i64, FileError> {
        let (Some(at), Some(file)) = (&self.kind.lifetime, &self.lifetime) else {
            return Ok(self.kind.max_age);
        };
        let text = match file.current() {
            Ok(snapshot) => snapshot.value,
            Err(error) if error.is_missing() => return Ok(at.default * DAY),
            Err(error) => return Err(error),
        };
        let days = sections::parse(&text)
            .iter()
            .find(|section| section.kind == "section" && section.id == at.section)
            .and_then(|section| section.value(&at.key)?.parse::<i64>().ok())
            .unwrap_or(at.default);
        Ok(days.saturating_mul(DAY))
    }
}

fn dated(snapshot: &Snapshot<PKey<Public>>, now: SystemTime) -> DatedKey<'_> {
    let age = now.duration_since(snapshot.modified).unwrap_or(Duration::ZERO).as_secs();
    DatedKey { key: &snapshot.value, age: i64::try_from(age).unwrap_or(i64::MAX / 2) }
}

fn public_key(pem: &[u8]) -> Result<PKey<Public>, String> {
    PKey::public_key_from_pem(pem).map_err(|_| "holds no public key in PEM form".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "a parser of WatchedFile may fail")]
fn plain_text(bytes: &[u8]) -> Result<String, String> {
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

//! One kind of ticket, with the key files that verify it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use openssl::pkey::Id;

use super::error::AuthError;
use super::rule_check::KeyTypes;
use super::ticket::{self, DatedKey, TicketError, TicketKey, TicketRules, VerifiedTicket, VerifiedUser};
use crate::config::grammar::SignatureScheme;
use crate::config::product;
use crate::config::root::RootDirectory;
use crate::config::section_file;
use crate::fs::cached_file::{CachedFile, FileError, FileSnapshot, POLL_INTERVAL};
use crate::os::unix_time::unix_time;
use crate::upstream::nodes::NodeFile;

const DAY: i64 = 86_400;

/// The inputs of a verification besides the ticket and its files.
#[derive(Clone, Copy)]
pub(super) struct VerifyContext<'a> {
    pub(super) rules: &'a product::AuthRules,
    pub(super) nodes: &'a NodeFile,
    pub(super) now: SystemTime,
}

/// One kind of ticket and its key files.
pub struct TicketFiles {
    pub(super) kind: product::TicketKind,
    pub(super) key: CachedFile<TicketKey>,
    old_key: Option<CachedFile<TicketKey>>,
    lifetime: Option<CachedFile<String>>,
}

impl TicketFiles {
    pub(super) fn new(kind: product::TicketKind, schemes: &[SignatureScheme], root: &RootDirectory) -> Self {
        let parser = key_parser(schemes);
        let key = |path: &PathBuf| CachedFile::new(root.path(path), parser).with_ttl(POLL_INTERVAL);
        let lifetime = kind.lifetime.as_ref().map(|at| CachedFile::of_text(root.path(&at.file)));
        Self {
            key: key(&kind.key),
            old_key: kind.old_key.as_ref().map(key),
            lifetime: lifetime.map(|file| file.with_ttl(POLL_INTERVAL)),
            kind,
        }
    }

    /// The user that a ticket was given to. Before nodegate rejects a ticket it reads the files again, because the ticket
    /// may be younger than the last read.
    pub(super) fn verify(&self, ticket: &str, at: VerifyContext<'_>) -> Result<VerifiedUser, AuthError> {
        let verify = || self.with_rules(at, |rules, now| ticket::verify(ticket, rules, now));
        match verify() {
            Err(AuthError::Ticket(TicketError::Signature | TicketError::Age) | AuthError::KeyFile(_))
                if self.have_changed() =>
            {
                verify()
            }
            verified => verified,
        }
    }

    /// Whether a ticket that was verified before needs no second verification.
    pub(super) fn is_still_good(&self, signed: &VerifiedTicket, at: VerifyContext<'_>) -> bool {
        self.with_rules(at, |rules, now| ticket::recheck_age(signed, rules, now)).is_ok()
    }

    /// Adds the versions of the keys. `None` if a key cannot be read.
    pub(super) fn add_key_versions(&self, versions: &mut Vec<u8>) -> Option<()> {
        versions.extend(self.key.get().ok()?.value.version());
        match self.old_key.as_ref().map(CachedFile::get).transpose() {
            Ok(Some(old)) => versions.extend(old.value.version()),
            Ok(None) => (),
            Err(error) if error.is_missing() => (),
            Err(_) => return None,
        }
        Some(())
    }

    fn have_changed(&self) -> bool {
        let key = self.key.refresh();
        let old_key = self.old_key.as_ref().is_some_and(CachedFile::refresh);
        let lifetime = self.lifetime.as_ref().is_some_and(CachedFile::refresh);
        key || old_key || lifetime
    }

    /// Runs `check` with the rules and the current files.
    fn with_rules<T>(
        &self,
        at: VerifyContext<'_>,
        check: impl FnOnce(&TicketRules<'_>, i64) -> Result<T, TicketError>,
    ) -> Result<T, AuthError> {
        let current = self.key.get()?;
        let old = match self.old_key.as_ref().map(CachedFile::get).transpose() {
            Err(error) if error.is_missing() => Ok(None),
            read => read,
        };
        let current = dated(&current, at.now);
        let overdue = self.kind.key_lifetime.is_some_and(|lifetime| current.age > lifetime);
        let rules = TicketRules {
            form: &at.rules.ticket_form,
            prefix: &self.kind.prefix,
            schemes: &at.rules.schemes,
            current,
            old: old.as_ref().ok().and_then(Option::as_ref).map(|old| dated(old, at.now)),
            min_age: self.kind.min_age,
            max_age: self.max_age()?,
            key_lifetime: self.kind.key_lifetime,
            quorate: overdue && at.nodes.get().is_ok_and(|table| table.quorate),
            realm: self.kind.realm.as_deref(),
            user_length: at.rules.user_length,
        };
        match (check(&rules, unix_time(at.now)), old) {
            // The unreadable key may be the right one.
            (Err(TicketError::Signature | TicketError::Age), Err(error)) => Err(error.into()),
            (checked, _) => Ok(checked?),
        }
    }

    /// Seconds, from the section file if the profile names one.
    fn max_age(&self) -> Result<i64, FileError> {
        let (Some(at), Some(file)) = (&self.kind.lifetime, &self.lifetime) else {
            // Without a limit no ticket is new enough; `rule_check` reports such a profile.
            return Ok(self.kind.max_age.unwrap_or(0));
        };
        let text = match file.get() {
            Ok(snapshot) => snapshot.value,
            Err(error) if error.is_missing() => return Ok(at.default * DAY),
            Err(error) => return Err(error),
        };
        let found = section_file::find_value(&text, &at.section, &at.key);
        let days: i64 = found.and_then(|days| days.parse().ok()).unwrap_or(at.default);
        Ok(days.saturating_mul(DAY))
    }
}

fn dated(snapshot: &FileSnapshot<TicketKey>, now: SystemTime) -> DatedKey<'_> {
    let age = now.duration_since(snapshot.modified).unwrap_or(Duration::ZERO).as_secs();
    DatedKey { key: &snapshot.value, age: i64::try_from(age).unwrap_or(i64::MAX / 2) }
}

/// A key that no scheme of the profile can use is an error of its file, not of the tickets.
fn key_parser(schemes: &[SignatureScheme]) -> fn(&[u8]) -> Result<TicketKey, String> {
    match KeyTypes::new(schemes) {
        KeyTypes { rsa: true, ed25519: false } => |pem| public_key(pem, &[Id::RSA]),
        KeyTypes { rsa: false, ed25519: true } => |pem| public_key(pem, &[Id::ED25519]),
        KeyTypes { .. } => |pem| public_key(pem, &[Id::RSA, Id::ED25519]),
    }
}

fn public_key(pem: &[u8], types: &[Id]) -> Result<TicketKey, String> {
    let key = TicketKey::from_pem(pem).map_err(|_| "holds no public key in PEM form".to_owned())?;
    if types.contains(&key.public.id()) {
        Ok(key)
    } else {
        Err("holds a key of a type that no scheme in product.auth.schemes uses".to_owned())
    }
}

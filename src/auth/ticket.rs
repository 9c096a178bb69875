//! Login tickets: form, signature, age.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use percent_encoding::percent_decode_str;

use super::text_forms::{decode_signature, read_time};
use crate::config::grammar::{SignatureScheme, TicketField, TicketForm};

/// A public key and the hash by which it is recognised.
pub struct TicketKey {
    pub(super) public: PKey<Public>,
    version: [u8; 32],
}

impl TicketKey {
    pub fn from_pem(pem: &[u8]) -> Result<Self, ErrorStack> {
        Ok(Self { public: PKey::public_key_from_pem(pem)?, version: openssl::sha::sha256(pem) })
    }

    /// Equal only for the same key.
    pub fn version(&self) -> &[u8; 32] {
        &self.version
    }
}

/// A public key and the seconds since its file was written (not below 0).
#[derive(Clone, Copy)]
pub struct DatedKey<'a> {
    pub key: &'a TicketKey,
    pub age: i64,
}

/// The rules for one kind of ticket, with the keys of this moment.
pub struct TicketRules<'a> {
    pub form: &'a TicketForm,
    pub prefix: &'a str,
    pub schemes: &'a [SignatureScheme],
    pub current: DatedKey<'a>,
    pub old: Option<DatedKey<'a>>,
    /// seconds, both ends exclusive
    pub min_age: i64,
    pub max_age: i64,
    /// seconds after which a key is due for rotation
    pub key_lifetime: Option<i64>,
    /// a cluster without quorum cannot rotate its key; only read when the key is overdue
    pub quorate: bool,
    /// the ticket names a mail address, not a user
    pub realm: Option<&'a str>,
    /// limit of bytes of a user name
    pub user_length: usize,
}

/// Why a ticket is rejected. The client does not learn the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TicketError {
    #[error("it does not have the form of a ticket")]
    Form,
    #[error("it is half a login: the second factor is missing")]
    SecondFactorMissing,
    #[error("its user name is not valid")]
    User,
    #[error("its signature fits no key")]
    Signature,
    #[error("it is too old or from the future")]
    Age,
    #[error("it was good, but its key was replaced")]
    KeyReplaced,
}

impl TicketError {
    /// Whether the ticket may be forged, which counts as a failed login. A ticket outside every age can never be good,
    /// whatever its signature.
    pub fn is_guess(self) -> bool {
        match self {
            Self::Form | Self::User | Self::Signature => true,
            Self::SecondFactorMissing | Self::Age | Self::KeyReplaced => false,
        }
    }
}

/// The parts of a ticket before it is verified.
struct TicketParts<'a> {
    signed: &'a str,
    data: &'a str,
    time: i64,
    signature: Vec<u8>,
}

/// A ticket whose signature was verified. Later requests only check its age.
#[derive(Clone, Copy)]
pub struct VerifiedTicket {
    time: i64,
    key: [u8; 32],
}

/// Clocks of nodes may differ by this much, and the file of a rotated key is this late.
const SLACK_SECONDS: i64 = 300;

/// The user that the ticket was given to, at Unix time `now`.
///
/// The age is checked first: a browser keeps a cookie longer than the product keeps the key, so an expired ticket
/// may match no key without being a forgery.
pub fn verify(
    ticket: &str,
    rules: &TicketRules<'_>,
    now: i64,
) -> Result<(String, VerifiedTicket), TicketError> {
    let parts = split(ticket, rules.prefix, rules.form).ok_or(TicketError::Form)?;
    let user = user_of(parts.data, rules)?;
    let age = now - parts.time;
    let current = (rules.current.key, current_ages(rules));
    let keys = [Some(current), rules.old.map(|old| (old.key, old_ages(rules, old)))];
    if keys.iter().flatten().all(|(_, ages)| check_age(age, *ages).is_err()) {
        return Err(TicketError::Age);
    }
    let mut failure = TicketError::Signature;
    for (key, ages) in keys.into_iter().flatten() {
        if !rules.schemes.iter().any(|scheme| is_signed(&parts, &key.public, *scheme).unwrap_or(false)) {
            continue;
        }
        match check_age(age, ages) {
            Ok(()) => return Ok((user, VerifiedTicket { time: parts.time, key: key.version })),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Checks the age of a ticket that `verify` accepted. `None`: its key is no longer in use, so verify it again.
pub fn recheck_age(
    signed: &VerifiedTicket,
    rules: &TicketRules<'_>,
    now: i64,
) -> Option<Result<(), TicketError>> {
    let ages = match rules.old {
        _ if rules.current.key.version == signed.key => current_ages(rules),
        Some(old) if old.key.version == signed.key => old_ages(rules, old),
        Some(_) | None => return None,
    };
    Some(check_age(now - signed.time, ages))
}

/// The age range of a ticket of the current key: not older than the key itself, and not made after the key should
/// have been rotated.
fn current_ages(rules: &TicketRules<'_>) -> (i64, i64) {
    let Some(lifetime) = rules.key_lifetime else { return (rules.min_age, rules.max_age) };
    let key_age = rules.current.age;
    let overdue = key_age > lifetime && rules.quorate;
    let min = if overdue { key_age - lifetime } else { rules.min_age };
    let max = if key_age < rules.max_age { key_age + SLACK_SECONDS } else { rules.max_age };
    (min, max)
}

/// A ticket of the key before the last rotation must be older than that.
fn old_ages(rules: &TicketRules<'_>, old: DatedKey<'_>) -> (i64, i64) {
    (old.age - SLACK_SECONDS, rules.max_age)
}

fn check_age(age: i64, (min, max): (i64, i64)) -> Result<(), TicketError> {
    if min < age && age < max { Ok(()) } else { Err(TicketError::Age) }
}

/// The signature covers everything before its separator.
fn split<'a>(ticket: &'a str, prefix: &str, form: &TicketForm) -> Option<TicketParts<'a>> {
    if ticket.contains(char::is_whitespace) {
        return None;
    }
    let separator = form.separator.as_str();
    let (signed, signature) = ticket.rsplit_once(form.signature_separator.as_str())?;
    let inner = signed.strip_prefix(prefix)?.strip_prefix(separator)?;
    let (data, time) = match form.fields.as_slice() {
        [TicketField::Prefix, TicketField::User, TicketField::Time] => inner.rsplit_once(separator)?,
        [TicketField::Prefix, TicketField::Time, TicketField::User] => {
            let (time, data) = inner.split_once(separator)?;
            (data, time)
        }
        _ => return None,
    };
    let signature = decode_signature(form.signature, signature)?;
    Some(TicketParts { signed, data, time: read_time(form.time, time)?, signature })
}

/// A scheme verifies only with a key of its own type: OpenSSL would take another scheme for another key.
fn is_signed(
    parts: &TicketParts<'_>,
    key: &PKey<Public>,
    scheme: SignatureScheme,
) -> Result<bool, ErrorStack> {
    let (id, digest) = match scheme {
        SignatureScheme::Pkcs1Sha1 => (Id::RSA, MessageDigest::sha1()),
        SignatureScheme::Pkcs1Sha256 | SignatureScheme::PssSha256 => (Id::RSA, MessageDigest::sha256()),
        SignatureScheme::Ed25519 => (Id::ED25519, MessageDigest::null()),
    };
    if key.id() != id {
        return Ok(false);
    }
    if scheme == SignatureScheme::Ed25519 {
        let mut verifier = Verifier::new_without_digest(key)?;
        return verifier.verify_oneshot(&parts.signature, parts.signed.as_bytes());
    }
    let mut verifier = Verifier::new(digest, key)?;
    if scheme == SignatureScheme::PssSha256 {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        // When verifying, OpenSSL takes this value for the salt length of the signature.
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
    }
    verifier.update(parts.signed.as_bytes())?;
    verifier.verify(&parts.signature)
}

/// The user of a ticket's data. Half a login names a user too, but proves only the first factor.
fn user_of(data: &str, rules: &TicketRules<'_>) -> Result<String, TicketError> {
    let data = percent_decode_str(data).decode_utf8().map_err(|_| TicketError::Form)?;
    if let Some(realm) = rules.realm {
        let user = format!("{data}@{realm}");
        let plain = !data.is_empty() && !data.contains(|c: char| c.is_whitespace() || c.is_control());
        return if plain { Ok(user) } else { Err(TicketError::User) };
    }
    let mut user = &*data;
    for half in &rules.form.half_logins {
        let Some(rest) = data.strip_prefix(&half.prefix) else { continue };
        let complete = half.complete.as_deref().and_then(|end| completed_user(rest, end));
        user = complete.ok_or(TicketError::SecondFactorMissing)?;
        break;
    }
    if is_user(user, rules.user_length) { Ok(user.to_owned()) } else { Err(TicketError::User) }
}

/// The text before `end`, if `end` begins nowhere earlier.
fn completed_user<'a>(rest: &'a str, end: &str) -> Option<&'a str> {
    let user = rest.strip_suffix(end)?;
    let mark = end.chars().next()?;
    (!user.contains(mark)).then_some(user)
}

/// `USER@REALM`, USER without white space, `:` and `/`, REALM a letter and more of `[A-Za-z0-9.\-_]`.
fn is_user(text: &str, longest: usize) -> bool {
    let Some((name, realm)) = text.rsplit_once('@') else { return false };
    (3..=longest).contains(&text.len())
        && !name.is_empty()
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/'))
        && realm.len() > 1
        && realm.starts_with(|first: char| first.is_ascii_alphabetic())
        && realm.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

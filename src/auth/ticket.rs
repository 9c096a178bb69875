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
    /// # Errors
    /// The bytes hold no public key in PEM form.
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
    /// the key
    pub key: &'a TicketKey,
    /// seconds since its file was written, at least 0
    pub age: i64,
}

/// The rules for one kind of ticket, with the keys of this moment.
pub struct TicketRules<'a> {
    /// the grammar of the profile's tickets
    pub form: &'a TicketForm,
    /// the first field of this kind of ticket
    pub prefix: &'a str,
    /// the accepted signature schemes
    pub schemes: &'a [SignatureScheme],
    /// the key that signs new tickets
    pub current: DatedKey<'a>,
    /// the key before the last rotation
    pub old: Option<DatedKey<'a>>,
    /// seconds, both ends exclusive
    pub min_age: i64,
    /// seconds, exclusive
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
    /// not the form of a ticket
    #[error("it does not have the form of a ticket")]
    Form,
    /// half a login
    #[error("it is half a login: the second factor is missing")]
    SecondFactorMissing,
    /// an invalid user name
    #[error("its user name is not valid")]
    User,
    /// no key fits
    #[error("its signature fits no key")]
    Signature,
    /// expired, or from the future
    #[error("it is too old or from the future")]
    Age,
    /// was good before its key was replaced
    #[error("it was good, but its key was replaced")]
    KeyReplaced,
}

impl TicketError {
    /// Whether the ticket may be forged, which counts as a failed login. A ticket outside every age can never be good,
    /// even with a valid signature.
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

/// The user that a verified ticket was given to.
pub struct VerifiedUser {
    /// with its realm
    pub user: String,
    /// for later checks of its age
    pub ticket: VerifiedTicket,
}

/// Clocks of nodes may differ by this much, and the file of a rotated key is this late.
const SLACK_SECONDS: i64 = 300;

/// The user that the ticket was given to, at Unix time `now`.
///
/// The age comes first: a browser keeps a cookie longer than the product keeps the key that signed it, so an expired ticket
/// may fit no key and is no forgery for that.
pub fn verify(ticket: &str, rules: &TicketRules<'_>, now: i64) -> Result<VerifiedUser, TicketError> {
    let parts = split(ticket, rules.prefix, rules.form).ok_or(TicketError::Form)?;
    let user = user_of(parts.data, rules)?;
    let age = now - parts.time;
    let current = (rules.current.key, AgeRange::of_current_key(rules));
    let keys = [Some(current), rules.old.map(|old| (old.key, AgeRange::of_old_key(rules, old)))];
    if keys.iter().flatten().all(|(_, ages)| ages.check(age).is_err()) {
        return Err(TicketError::Age);
    }
    let mut failure = TicketError::Signature;
    for (key, ages) in keys.into_iter().flatten() {
        if !rules.schemes.iter().any(|scheme| is_signed(&parts, &key.public, *scheme).unwrap_or(false)) {
            continue;
        }
        match ages.check(age) {
            Ok(()) => {
                return Ok(VerifiedUser {
                    user,
                    ticket: VerifiedTicket { time: parts.time, key: key.version },
                });
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Checks the age of a ticket that `verify` accepted.
///
/// # Errors
/// The ticket has expired, or its key is no longer in use. In the second case verify the ticket again.
pub fn recheck_age(signed: &VerifiedTicket, rules: &TicketRules<'_>, now: i64) -> Result<(), TicketError> {
    let ages = match rules.old {
        _ if rules.current.key.version == signed.key => AgeRange::of_current_key(rules),
        Some(old) if old.key.version == signed.key => AgeRange::of_old_key(rules, old),
        Some(_) | None => return Err(TicketError::Signature),
    };
    ages.check(now - signed.time)
}

/// The ages of good tickets in seconds, both ends exclusive.
#[derive(Clone, Copy)]
struct AgeRange {
    min: i64,
    max: i64,
}

impl AgeRange {
    /// A ticket is not older than its key. It is not so young that only a key overdue for rotation can have signed it.
    fn of_current_key(rules: &TicketRules<'_>) -> Self {
        let TicketRules { min_age: min, max_age: max, .. } = *rules;
        let Some(lifetime) = rules.key_lifetime else { return Self { min, max } };
        let key_age = rules.current.age;
        let overdue = key_age > lifetime && rules.quorate;
        Self {
            min: if overdue { key_age - lifetime } else { min },
            max: if key_age < max { key_age + SLACK_SECONDS } else { max },
        }
    }

    /// A ticket of the key before the last rotation must be older than that.
    fn of_old_key(rules: &TicketRules<'_>, old: DatedKey<'_>) -> Self {
        Self { min: old.age - SLACK_SECONDS, max: rules.max_age }
    }

    fn check(self, age: i64) -> Result<(), TicketError> {
        if self.min < age && age < self.max { Ok(()) } else { Err(TicketError::Age) }
    }
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

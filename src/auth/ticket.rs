//! Login tickets `PREFIX:DATA:HHHHHHHH::SIGNATURE`: form, signature, age.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use percent_encoding::percent_decode_str;

use crate::config::product::SignatureScheme;

/// A public key, and what tells it from every other one.
pub struct TicketKey {
    public: PKey<Public>,
    version: [u8; 32],
}

impl TicketKey {
    pub fn from_pem(pem: &[u8]) -> Result<Self, ErrorStack> {
        Ok(Self { public: PKey::public_key_from_pem(pem)?, version: openssl::sha::sha256(pem) })
    }

    /// The same for the same key only.
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

/// What one kind of ticket must satisfy, with the keys as they are now.
pub struct TicketRules<'a> {
    pub prefix: &'a str,
    pub schemes: &'a [SignatureScheme],
    pub current: DatedKey<'a>,
    pub old: Option<DatedKey<'a>>,
    /// seconds, both ends exclusive
    pub min_age: i64,
    pub max_age: i64,
    /// seconds after which a key is due for rotation
    pub key_lifetime: Option<i64>,
    /// a cluster without quorum cannot rotate its key; looked at only when the key is overdue
    pub quorate: bool,
    /// the ticket names a mail address, not a user
    pub realm: Option<&'a str>,
    /// longest user name in bytes
    pub user_length: usize,
}

/// Why a ticket is no good. The client is told none of this.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TicketError {
    #[error("it does not have the form of a ticket")]
    Form,
    #[error("it is half a login: the second factor is missing")]
    Half,
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
            Self::Half | Self::Age | Self::KeyReplaced => false,
        }
    }
}

/// The parts of a ticket before anything is believed.
struct TicketParts<'a> {
    signed: &'a str,
    data: &'a str,
    time: i64,
    signature: Vec<u8>,
}

/// What stays true of a good ticket: only its age has to be judged again.
#[derive(Clone, Copy)]
pub struct VerifiedTicket {
    time: i64,
    key: [u8; 32],
}

/// Clocks of nodes may differ by this much, and the file of a rotated key is this late.
const SLACK: i64 = 300;

/// The user that the ticket was given to, at Unix time `now`.
///
/// The age comes first: a browser keeps a cookie longer than the product keeps the key that signed it, so an expired ticket
/// may fit no key and is no forgery for that.
pub fn verify(
    ticket: &str,
    rules: &TicketRules<'_>,
    now: i64,
) -> Result<(String, VerifiedTicket), TicketError> {
    let parts = split(ticket, rules.prefix).ok_or(TicketError::Form)?;
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

/// Whether a ticket that `verify` found good still is. `None`: it has to be verified anew, for the keys are others.
pub fn judge_again(
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

/// How old a ticket of the current key may be: not older than the key itself, and not so young that a key which
/// should have been rotated away must have made it.
fn current_ages(rules: &TicketRules<'_>) -> (i64, i64) {
    let Some(lifetime) = rules.key_lifetime else { return (rules.min_age, rules.max_age) };
    let key_age = rules.current.age;
    let overdue = key_age > lifetime && rules.quorate;
    let min = if overdue { key_age - lifetime } else { rules.min_age };
    let max = if key_age < rules.max_age { key_age + SLACK } else { rules.max_age };
    (min, max)
}

/// A ticket of the key before the last rotation must be older than that.
fn old_ages(rules: &TicketRules<'_>, old: DatedKey<'_>) -> (i64, i64) {
    (old.age - SLACK, rules.max_age)
}

fn check_age(age: i64, (min, max): (i64, i64)) -> Result<(), TicketError> {
    if min < age && age < max { Ok(()) } else { Err(TicketError::Age) }
}

/// `PREFIX:DATA:HHHHHHHH::SIGNATURE`, the signature covering everything before `::`.
fn split<'a>(ticket: &'a str, prefix: &str) -> Option<TicketParts<'a>> {
    let (signed, signature) = ticket.rsplit_once("::")?;
    let inner = signed.strip_prefix(prefix)?.strip_prefix(':')?;
    let (data, time) = inner.rsplit_once(':')?;
    let is_time = time.len() == 8 && time.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if !is_time || ticket.contains(char::is_whitespace) || signature.contains(':') {
        return None;
    }
    let time = i64::from_str_radix(time, 16).ok()?;
    Some(TicketParts { signed, data, time, signature: STANDARD.decode(signature).ok()? })
}

fn is_signed(
    parts: &TicketParts<'_>,
    key: &PKey<Public>,
    scheme: SignatureScheme,
) -> Result<bool, ErrorStack> {
    let digest = match scheme {
        SignatureScheme::Pkcs1Sha1 => MessageDigest::sha1(),
        SignatureScheme::Pkcs1Sha256 | SignatureScheme::PssSha256 => MessageDigest::sha256(),
    };
    let mut verifier = Verifier::new(digest, key)?;
    if scheme == SignatureScheme::PssSha256 {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        // Verifying, OpenSSL takes this value for "as long as the signature says".
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
    }
    verifier.update(parts.signed.as_bytes())?;
    verifier.verify(&parts.signature)
}

/// `USER@REALM`; `u2f!USER!verified` is a full login as well; every other form with `!` is half a one.
fn user_of(data: &str, rules: &TicketRules<'_>) -> Result<String, TicketError> {
    let data = percent_decode_str(data).decode_utf8().map_err(|_| TicketError::Form)?;
    if let Some(realm) = rules.realm {
        let user = format!("{data}@{realm}");
        let plain = !data.is_empty() && !data.contains(|c: char| c.is_whitespace() || c.is_control());
        return if plain { Ok(user) } else { Err(TicketError::User) };
    }
    if data.starts_with("!tfa!") || data.starts_with("tfa!") {
        return Err(TicketError::Half);
    }
    let user = match data.strip_prefix("u2f!").map(|rest| rest.split_once('!')) {
        Some(Some((user, "verified"))) => user,
        Some(_) => return Err(TicketError::Half),
        None => &data,
    };
    if is_user(user, rules.user_length) { Ok(user.to_owned()) } else { Err(TicketError::User) }
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

//! Login tickets `PREFIX:DATA:HHHHHHHH::SIGNATURE`: form, signature, age.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use percent_encoding::percent_decode_str;

use crate::config::product::Scheme;

/// A public key and the seconds since its file was written (not below 0).
#[derive(Clone, Copy)]
pub struct DatedKey<'a> {
    pub key: &'a PKey<Public>,
    pub age: i64,
}

/// What one kind of ticket must satisfy, with the keys as they are now.
pub struct Rules<'a> {
    pub prefix: &'a str,
    pub schemes: &'a [Scheme],
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
}

/// The parts of a ticket before anything is believed.
struct Parts<'a> {
    signed: &'a str,
    data: &'a str,
    time: i64,
    signature: Vec<u8>,
}

/// Clocks of nodes may differ by this much, and the file of a rotated key is this late.
const SLACK: i64 = 300;

/// The user that the ticket was given to, at Unix time `now`.
pub fn verify(ticket: &str, rules: &Rules<'_>, now: i64) -> Result<String, TicketError> {
    let parts = split(ticket, rules.prefix).ok_or(TicketError::Form)?;
    let user = user_of(parts.data, rules)?;
    let age = now - parts.time;
    let with_current = judge(&parts, rules, rules.current.key, current_ages(rules), age);
    match (with_current, rules.old) {
        (Err(_), Some(old)) => judge(&parts, rules, old.key, (old.age - SLACK, rules.max_age), age)?,
        (outcome, _) => outcome?,
    }
    Ok(user)
}

/// How old a ticket of the current key may be: not older than the key itself, and not so young that a key which
/// should have been rotated away must have made it.
fn current_ages(rules: &Rules<'_>) -> (i64, i64) {
    let Some(lifetime) = rules.key_lifetime else { return (rules.min_age, rules.max_age) };
    let key_age = rules.current.age;
    let overdue = key_age > lifetime && rules.quorate;
    let min = if overdue { key_age - lifetime } else { rules.min_age };
    let max = if key_age < rules.max_age { key_age + SLACK } else { rules.max_age };
    (min, max)
}

fn judge(
    parts: &Parts<'_>,
    rules: &Rules<'_>,
    key: &PKey<Public>,
    (min, max): (i64, i64),
    age: i64,
) -> Result<(), TicketError> {
    if !rules.schemes.iter().any(|scheme| is_signed(parts, key, *scheme).unwrap_or(false)) {
        return Err(TicketError::Signature);
    }
    if min < age && age < max { Ok(()) } else { Err(TicketError::Age) }
}

/// `PREFIX:DATA:HHHHHHHH::SIGNATURE`, the signature covering everything before `::`.
fn split<'a>(ticket: &'a str, prefix: &str) -> Option<Parts<'a>> {
    let (signed, signature) = ticket.rsplit_once("::")?;
    let inner = signed.strip_prefix(prefix)?.strip_prefix(':')?;
    let (data, time) = inner.rsplit_once(':')?;
    let is_time = time.len() == 8 && time.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if !is_time || ticket.contains(char::is_whitespace) || signature.contains(':') {
        return None;
    }
    let time = i64::from_str_radix(time, 16).ok()?;
    Some(Parts { signed, data, time, signature: STANDARD.decode(signature).ok()? })
}

fn is_signed(parts: &Parts<'_>, key: &PKey<Public>, scheme: Scheme) -> Result<bool, ErrorStack> {
    let digest = match scheme {
        Scheme::Pkcs1Sha1 => MessageDigest::sha1(),
        Scheme::Pkcs1Sha256 | Scheme::PssSha256 => MessageDigest::sha256(),
    };
    let mut verifier = Verifier::new(digest, key)?;
    if scheme == Scheme::PssSha256 {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
    }
    verifier.update(parts.signed.as_bytes())?;
    verifier.verify(&parts.signature)
}

/// `USER@REALM`; `u2f!USER!verified` is a full login as well; every other form with `!` is half a one.
fn user_of(data: &str, rules: &Rules<'_>) -> Result<String, TicketError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
    use super::*;

    const KEY: &[u8] = include_bytes!("../../tests/data/vectors/authkey.pub");
    const VECTORS: &str = include_str!("../../tests/data/vectors/tickets.tsv");
    const MADE: i64 = 0x6B02_4400;
    const DAY: i64 = 86_400;
    const ALL: &[Scheme] = &[Scheme::Pkcs1Sha1, Scheme::Pkcs1Sha256, Scheme::PssSha256];

    fn key() -> PKey<Public> {
        PKey::public_key_from_pem(KEY).unwrap()
    }

    /// A key of another pair, which has signed nothing here.
    fn other_key() -> PKey<Public> {
        let pair = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        PKey::public_key_from_pem(&pair.public_key_to_pem().unwrap()).unwrap()
    }

    /// Rules with a current key of that age.
    fn rules<'a>(prefix: &'a str, key: &'a PKey<Public>, age: i64) -> Rules<'a> {
        Rules {
            prefix,
            schemes: ALL,
            current: DatedKey { key, age },
            old: None,
            min_age: -300,
            max_age: 7200,
            key_lifetime: Some(DAY),
            quorate: true,
            realm: None,
            user_length: 64,
        }
    }

    /// Prefix, data and ticket of each vector.
    fn vectors() -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = VECTORS.lines().filter_map(|line| line.strip_prefix("ticket\t"));
        let rows = rows.map(|row| row.splitn(3, '\t').collect::<Vec<_>>());
        rows.map(|fields| (fields[0], fields[1], fields[2])).collect()
    }

    fn ticket_of_root() -> &'static str {
        vectors().iter().find(|(prefix, data, _)| (*prefix, *data) == ("PVE", "root@pam")).unwrap().2
    }

    #[test]
    fn tickets_of_the_original_name_their_user() {
        let key = key();
        assert_eq!(vectors().len(), 5);
        for (prefix, data, ticket) in vectors() {
            let mut rules = rules(prefix, &key, 10_000);
            let mut expected = Ok(data.to_owned());
            if prefix == "PMGQUAR" {
                rules.realm = Some("quarantine");
                expected = Ok(format!("{data}@quarantine"));
            } else if data.starts_with('!') {
                expected = Err(TicketError::Half);
            }
            assert_eq!(verify(ticket, &rules, MADE), expected, "{data}");
            let wanted = if prefix == "PVE" { "PMG" } else { "PVE" };
            assert_eq!(verify(ticket, &Rules { prefix: wanted, ..rules }, MADE), Err(TicketError::Form));
        }
    }

    #[test]
    fn no_byte_of_a_ticket_can_be_changed() {
        let key = key();
        let rules = rules("PVE", &key, 10_000);
        let ticket = ticket_of_root();
        for at in 0..ticket.len() {
            for bit in [1, 2, 32] {
                let mut changed = ticket.as_bytes().to_vec();
                changed[at] ^= bit;
                let changed = String::from_utf8(changed).unwrap();
                assert!(verify(&changed, &rules, MADE).is_err(), "byte {at} of {changed}");
            }
            assert!(verify(&ticket[..at], &rules, MADE).is_err(), "{at} bytes");
        }
        for more in [format!("{ticket}="), format!("{ticket} "), format!(" {ticket}"), format!("{ticket}\n")]
        {
            assert_eq!(verify(&more, &rules, MADE), Err(TicketError::Form), "{more:?}");
        }
    }

    #[test]
    fn only_the_schemes_of_the_profile_count() {
        let key = key();
        let schemes = &[Scheme::Pkcs1Sha256, Scheme::PssSha256];
        let rules = Rules { schemes, ..rules("PVE", &key, 10_000) };
        assert_eq!(verify(ticket_of_root(), &rules, MADE), Err(TicketError::Signature));
    }

    #[test]
    fn the_ends_of_an_age_do_not_belong_to_it() {
        let key = key();
        let rules = rules("PVE", &key, 10_000);
        for (age, good) in [(-300, false), (-299, true), (0, true), (7199, true), (7200, false)] {
            assert_eq!(verify(ticket_of_root(), &rules, MADE + age).is_ok(), good, "{age}");
        }
    }

    #[test]
    fn the_age_of_the_current_key_narrows_the_age_of_its_tickets() {
        let key = key();
        // key age, quorate, key lifetime, first and last good age
        let cases = [
            (0, true, Some(DAY), (-299, 299)),
            (7199, true, Some(DAY), (-299, 7498)),
            (7200, true, Some(DAY), (-299, 7199)),
            (DAY, true, Some(DAY), (-299, 7199)),
            (DAY + 1, true, Some(DAY), (2, 7199)),
            (DAY + 3600, true, Some(DAY), (3601, 7199)),
            (DAY + 3600, false, Some(DAY), (-299, 7199)),
            (0, true, None, (-299, 7199)),
            (DAY * 9, true, None, (-299, 7199)),
        ];
        for (age, quorate, key_lifetime, (first, last)) in cases {
            let rules = Rules { key_lifetime, quorate, ..rules("PVE", &key, age) };
            let judge = |age: i64| verify(ticket_of_root(), &rules, MADE + age);
            for (age, good) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
                let expected = if good { Ok("root@pam".to_owned()) } else { Err(TicketError::Age) };
                assert_eq!(judge(age), expected, "key {:?} ticket {age}", rules.current.age);
            }
        }
    }

    #[test]
    fn the_old_key_is_good_for_what_it_signed_before_the_rotation() {
        let (key, other) = (key(), other_key());
        let judge = |old_age: i64, age: i64| {
            let old = Some(DatedKey { key: &key, age: old_age });
            verify(ticket_of_root(), &Rules { old, ..rules("PVE", &other, 10_000) }, MADE + age)
        };
        for (old_age, first) in [(0, -299), (3600, 3301), (7400, 7101)] {
            for (age, good) in [(first - 1, false), (first, true), (7199, true), (7200, false)] {
                assert_eq!(judge(old_age, age).is_ok(), good, "key {old_age} ticket {age}");
            }
        }
        for age in [0, 7199, 7200, 7201, 8000] {
            assert!(judge(7500, age).is_err(), "{age}");
        }
    }
}

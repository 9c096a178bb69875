//! Login tickets, verified with the vectors that the originals' own libraries made.

use std::sync::LazyLock;

use nodegate::testing::auth::ticket;
use nodegate::testing::auth::ticket::{DatedKey, TicketError, TicketKey, TicketRules, recheck_age};
use nodegate::testing::config::{AuthRules, SignatureScheme};
use openssl::pkey::PKey;

use super::gate_rules;

/// How the built-in profiles write a ticket.
static RULES: LazyLock<AuthRules> = LazyLock::new(|| gate_rules("pve"));
const KEY: &[u8] = include_bytes!("../../data/vectors/authkey.pub");
const VECTORS: &str = include_str!("../../data/vectors/tickets.tsv");
const MADE: i64 = 0x6B02_4400;
const DAY: i64 = 86_400;
const ALL: &[SignatureScheme] =
    &[SignatureScheme::Pkcs1Sha1, SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256];

fn key() -> TicketKey {
    TicketKey::from_pem(KEY).unwrap()
}

/// The user, and that a second look at a good ticket finds it good as well.
fn verify(ticket: &str, rules: &TicketRules<'_>, now: i64) -> Result<String, TicketError> {
    let verified = ticket::verify(ticket, rules, now)?;
    assert_eq!(recheck_age(&verified.ticket, rules, now), Ok(()));
    Ok(verified.user)
}

/// A key of another pair, which has signed nothing here.
fn other_key() -> TicketKey {
    let pair = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    TicketKey::from_pem(&pair.public_key_to_pem().unwrap()).unwrap()
}

/// Rules with a current key of that age.
fn rules<'a>(prefix: &'a str, key: &'a TicketKey, age: i64) -> TicketRules<'a> {
    TicketRules {
        form: &RULES.ticket_form,
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
            expected = Err(TicketError::SecondFactorMissing);
        }
        assert_eq!(verify(ticket, &rules, MADE), expected, "{data}");
        let wanted = if prefix == "PVE" { "PMG" } else { "PVE" };
        assert_eq!(verify(ticket, &TicketRules { prefix: wanted, ..rules }, MADE), Err(TicketError::Form));
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
    for more in [format!("{ticket}="), format!("{ticket} "), format!(" {ticket}"), format!("{ticket}\n")] {
        assert_eq!(verify(&more, &rules, MADE), Err(TicketError::Form), "{more:?}");
    }
}

#[test]
fn only_the_schemes_of_the_profile_count() {
    let key = key();
    let schemes = &[SignatureScheme::Pkcs1Sha256, SignatureScheme::PssSha256];
    let rules = TicketRules { schemes, ..rules("PVE", &key, 10_000) };
    assert_eq!(verify(ticket_of_root(), &rules, MADE), Err(TicketError::Signature));
}

#[test]
fn age_limits_are_exclusive() {
    let key = key();
    let rules = rules("PVE", &key, 10_000);
    for (age, good) in [(-300, false), (-299, true), (0, true), (7199, true), (7200, false)] {
        assert_eq!(verify(ticket_of_root(), &rules, MADE + age).is_ok(), good, "{age}");
    }
}

#[test]
fn a_younger_key_limits_its_tickets_age() {
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
        let rules = TicketRules { key_lifetime, quorate, ..rules("PVE", &key, age) };
        let verify_at = |age: i64| verify(ticket_of_root(), &rules, MADE + age);
        for (age, good) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
            let expected = if good { Ok("root@pam".to_owned()) } else { Err(TicketError::Age) };
            assert_eq!(verify_at(age), expected, "key {:?} ticket {age}", rules.current.age);
        }
    }
}

#[test]
fn the_old_key_verifies_pre_rotation_tickets() {
    let (key, other) = (key(), other_key());
    let verify_at = |old_age: i64, age: i64| {
        let old = Some(DatedKey { key: &key, age: old_age });
        verify(ticket_of_root(), &TicketRules { old, ..rules("PVE", &other, 10_000) }, MADE + age)
    };
    for (old_age, first) in [(0, -299), (3600, 3301), (7400, 7101)] {
        for (age, good) in [(first - 1, false), (first, true), (7199, true), (7200, false)] {
            assert_eq!(verify_at(old_age, age).is_ok(), good, "key {old_age} ticket {age}");
        }
    }
    for age in [0, 7199, 7200, 7201, 8000] {
        assert!(verify_at(7500, age).is_err(), "{age}");
    }
}

#[test]
fn a_valid_ticket_ends_with_age_or_key() {
    let (key, other) = (key(), other_key());
    let signed = ticket::verify(ticket_of_root(), &rules("PVE", &key, 10_000), MADE).unwrap().ticket;
    let after = |rules: &TicketRules<'_>, seconds| recheck_age(&signed, rules, MADE + seconds);
    assert_eq!(after(&rules("PVE", &key, 10_000), 7199), Ok(()));
    assert_eq!(after(&rules("PVE", &key, 10_000), 7200), Err(TicketError::Age));
    assert_eq!(after(&rules("PVE", &other, 0), 60), Err(TicketError::Signature));
    let rotated = TicketRules { old: Some(DatedKey { key: &key, age: 60 }), ..rules("PVE", &other, 60) };
    assert_eq!(after(&rotated, 60), Ok(()));
    let younger_than_the_rotation = TicketRules { old: Some(DatedKey { key: &key, age: 1000 }), ..rotated };
    assert_eq!(after(&younger_than_the_rotation, 60), Err(TicketError::Age));
}

/// On a node that has rotated its key, a browser that kept its cookie overnight guesses at nothing.
#[test]
fn expired_tickets_of_other_keys_do_not_count() {
    let (key, [first, second]) = (key(), [other_key(), other_key()]);
    let pair = |current, old| TicketRules {
        old: Some(DatedKey { key: old, age: 9000 }),
        ..rules("PVE", current, 9000)
    };
    let cases = [
        ("signed by the current key", pair(&key, &first)),
        ("by the old one", pair(&first, &key)),
        ("by one before that", pair(&first, &second)),
        ("by another one, without an old key", rules("PVE", &first, 9000)),
    ];
    for (name, rules) in cases {
        for age in [7200, 3 * DAY, -300, -DAY] {
            let error = verify(ticket_of_root(), &rules, MADE + age).unwrap_err();
            assert!(error == TicketError::Age && !error.is_guess(), "{name}, {age} s: {error}");
        }
    }
    let forged = verify(ticket_of_root(), &pair(&first, &second), MADE + 60).unwrap_err();
    assert!(forged == TicketError::Signature && forged.is_guess(), "{forged}");
    // The current key signed it too late, the old one did not sign it.
    let overdue = TicketRules { current: DatedKey { key: &key, age: DAY + 3600 }, ..pair(&key, &first) };
    let overdue = TicketRules { old: Some(DatedKey { key: &first, age: 300 }), ..overdue };
    assert_eq!(verify(ticket_of_root(), &overdue, MADE + 60), Err(TicketError::Age));
}

//! Tickets: form, signature, age.

use nodegate_standin::{Keys, Scheme, now};

use super::{Attempt, INVALID_PVE, cookie, settled};
use crate::support::{Nodegate, Site, all_at_once};

/// Reads with each ticket, all at once.
fn verify_each(site: &Site, gate: &Nodegate, reason: &str, cases: &[(String, bool, &str)]) {
    all_at_once(cases, |(ticket, good, what)| {
        let attempt = Attempt::read(site, gate, &cookie(site, ticket));
        if *good { attempt.assert_passes(what) } else { attempt.assert_refused(reason, what) }
    });
}

/// A ticket is valid from five minutes before its time until it is two hours old.
#[test]
fn tickets_are_valid_from_minus_300_to_7200() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let aged = |age: i64| site.keys.ticket("PVE", "root@pam", now() - age);
    verify_each(
        &site,
        &gate,
        INVALID_PVE,
        &[
            (aged(0), true, "a fresh ticket"),
            (aged(-280), true, "a ticket of a clock that is a little ahead"),
            (aged(-320), false, "a ticket from the future"),
            (aged(7180), true, "an old ticket"),
            (aged(7220), false, "an expired ticket"),
            (aged(86_400 * 30), false, "last month's ticket"),
        ],
    );
}

#[test]
fn an_altered_ticket_is_rejected() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let good = site.ticket("root@pam");
    let (signed, signature) = good.rsplit_once("::").unwrap();
    let (named, time) = signed.rsplit_once(':').unwrap();
    let stranger = Keys::fresh().ticket("PVE", "root@pam", now());
    let other_signature = stranger.rsplit_once("::").unwrap().1;
    let flipped =
        signature.replacen(&signature[10..11], if &signature[10..11] == "A" { "B" } else { "A" }, 1);
    let refused: Vec<_> = [
        (stranger.clone(), "a forged ticket"),
        (format!("{signed}::{other_signature}"), "another key's signature"),
        (format!("{signed}::{flipped}"), "a changed signature"),
        (format!("PVE:admin@pam:{time}::{signature}"), "a changed user"),
        (format!("{named}:{:08X}::{signature}", now() + 1), "a changed time"),
        (good[..good.len() - 1].to_owned(), "a ticket without its last byte"),
        (good[..good.len() - 40].to_owned(), "a truncated ticket"),
        (format!("{signed}::"), "a ticket without signature"),
        (signed.to_owned(), "the signed part alone"),
        (format!("{good}A"), "a ticket with a byte too many"),
        (format!("x{good}"), "a ticket with a byte before it"),
        (format!("{}::{signature}", signed.to_lowercase()), "a ticket in lower case"),
        (format!("{good}::{signature}"), "a ticket signed twice"),
        ("PVE:root@pam:::".into(), "a ticket of colons"),
        ("PVE".into(), "a prefix"),
        ("x".into(), "a letter"),
        ("A".repeat(6000), "very much of one letter"),
    ]
    .into_iter()
    .map(|(ticket, what)| (ticket, false, what))
    .collect();
    verify_each(&site, &gate, INVALID_PVE, &refused);
}

#[test]
fn a_ticket_for_something_else_is_refused() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let of = |prefix: &str| site.keys.ticket(prefix, "root@pam", now());
    verify_each(
        &site,
        &gate,
        INVALID_PVE,
        &[
            (of("PMG"), false, "the other product's ticket"),
            (of("PMGQUAR"), false, "a quarantine ticket"),
            (of("pve"), false, "a prefix in lower case"),
            (of("PVEX"), false, "a longer prefix"),
            (of("PV"), false, "a shorter prefix"),
            (site.keys.vnc_ticket("PVEVNC", "root@pam", "/vms/100", 5900, now()), false, "a console ticket"),
        ],
    );
}

#[test]
fn half_a_login_is_no_login() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let of = |data: &str| site.keys.ticket("PVE", data, now());
    verify_each(
        &site,
        &gate,
        INVALID_PVE,
        &[
            (site.keys.half_ticket("PVE", "root@pam", now()), false, "a challenge"),
            (of(r#"!tfa!{"totp":true}"#), false, "a challenge signed like a login"),
            (of("tfa!root@pam"), false, "an older challenge"),
            (of("u2f!root@pam!challenge"), false, "a u2f challenge"),
            (of("u2f!root@pam!verified"), true, "a verified u2f login"),
            (of("u2f!root@pam"), false, "u2f without an end"),
            (of("u2f!root@pam!verified!"), false, "u2f with more behind"),
        ],
    );
}

#[test]
fn a_user_has_a_name_and_a_realm() {
    let site = settled();
    let gate = Nodegate::start(&site, &[]);
    let of = |data: &str| site.keys.ticket("PVE", data, now());
    let long = |length: usize| format!("{}@pam", "u".repeat(length - 4));
    verify_each(
        &site,
        &gate,
        INVALID_PVE,
        &[
            (of("jürgen@ldap-1.example_x"), true, "a name beyond ASCII"),
            (of("a@b@pve"), true, "a name with @"),
            (of(&long(64)), true, "the longest name"),
            (of(&long(65)), false, "a name too long"),
            (of("root"), false, "no realm"),
            (of("root@"), false, "an empty realm"),
            (of("root@1pam"), false, "a realm beginning with a digit"),
            (of("@pam"), false, "no name"),
            (of("a:b@pam"), false, "a colon in the name"),
            (of("a/b@pam"), false, "a slash in the name"),
            (of("root@pam!token"), false, "an API token's name"),
            (of(""), false, "nothing"),
        ],
    );
}

#[test]
fn each_signature_scheme_of_the_module_is_known() {
    for site in [settled(), Site::pmg()] {
        let gate = Nodegate::start(&site, &[]);
        let prefix = if site.profile() == "pmg" { "PMG" } else { "PVE" };
        for scheme in [Scheme::Pkcs1Sha1, Scheme::Pkcs1Sha256, Scheme::PssSha256] {
            let ticket = site.keys.ticket_with(prefix, "root@pam", now(), scheme);
            let attempt = Attempt::read(&site, &gate, &cookie(&site, &ticket));
            attempt.assert_passes(&format!("{prefix} {scheme:?}"));
            assert_eq!(attempt.reply.status, 200);
        }
    }
}

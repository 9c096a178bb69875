//! The Mail Gateway: its own prefix, quarantine tickets that live for days, no API tokens.

use nodegate_standin::{API_TOKEN, Keys, now};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Attempt, BAD_CSRF, INVALID_PMG, cookie};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site, all_at_once};

const DAY: i64 = 86_400;
const MAIL: &str = "user@example.com";

/// The age of their key does not matter.
#[test]
fn mail_gateway_tickets_live_two_hours() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let aged = |age: i64| site.keys.ticket("PMG", "root@pam", now() - age);
    let long = |length: usize| format!("{}@pam", "u".repeat(length - 4));
    let cases = [
        (aged(0), true, "a fresh ticket"),
        (aged(7180), true, "an old ticket of a key that is younger"),
        (aged(7220), false, "an expired ticket"),
        (aged(-280), true, "a ticket of a clock that is a little ahead"),
        (aged(-320), false, "a ticket from the future"),
        (site.keys.ticket("PVE", "root@pam", now()), false, "the other product's ticket"),
        (Keys::fresh().ticket("PMG", "root@pam", now()), false, "a forged ticket"),
        (site.keys.old().ticket("PMG", "root@pam", now()), false, "a ticket of an old key"),
        (site.keys.half_ticket("PMG", "root@pam", now()), false, "a challenge"),
        (site.keys.ticket("PMG", &long(128), now()), true, "the longest name"),
        (site.keys.ticket("PMG", &long(129), now()), false, "a name too long"),
        (site.keys.ticket("PMG", MAIL, now())[..60].to_owned(), false, "a truncated ticket"),
    ];
    all_at_once(&cases, |(ticket, good, what)| {
        let attempt = Attempt::read(&site, &gate, &cookie(&site, ticket));
        if *good { attempt.assert_passes(what) } else { attempt.assert_refused(INVALID_PMG, what) }
    });
}

#[test]
fn there_are_no_api_tokens() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let names = ["PVEAPIToken", "PMGAPIToken"];
    all_at_once(&names, |name| {
        let headers = format!("Authorization: {name}={API_TOKEN}\r\n");
        Attempt::read(&site, &gate, &headers).assert_refused("No ticket", name);
    });
}

/// Quarantine tickets by their age, all at once.
fn verify_each(site: &Site, gate: &Nodegate, cases: &[(i64, bool)]) {
    all_at_once(cases, |(age, good)| {
        let ticket = site.keys.ticket("PMGQUAR", MAIL, now() - age);
        let attempt = Attempt::read(site, gate, &cookie(site, &ticket));
        let what = format!("a link {age} s old");
        if *good { attempt.assert_passes(&what) } else { attempt.assert_refused(INVALID_PMG, &what) }
    });
}

/// The lifetime is the one for which the quarantine keeps mail.
#[test]
fn quarantine_tickets_live_as_long_as_mail() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let configuration = "/etc/pmg/pmg.conf";
    verify_each(&site, &gate, &[(-10, true), (-30, false), (7 * DAY - 60, true), (7 * DAY + 60, false)]);
    site.write(configuration, "section: admin\n\tlifetime 99\n\nsection: spamquar\n\tlifetime 2\n");
    verify_each(&site, &gate, &[(2 * DAY - 60, true), (2 * DAY + 60, false)]);
    site.write(configuration, "section: spamquar\n\tviewimages 0\n\tlifetime 30\n");
    verify_each(&site, &gate, &[(30 * DAY - 60, true), (30 * DAY + 60, false)]);
    site.write(configuration, "section: admin\n\tlifetime 99\n");
    verify_each(&site, &gate, &[(7 * DAY - 60, true), (7 * DAY + 60, false)]);
    std::fs::remove_file(site.path(configuration)).unwrap();
    verify_each(&site, &gate, &[(7 * DAY - 60, true), (7 * DAY + 60, false)]);
}

#[test]
fn a_report_link_opens_its_quarantine_session() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let user = format!("{MAIL}@quarantine");
    let link = site.keys.ticket("PMGQUAR", MAIL, now() - 3 * DAY);
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let form = format!("username={}&password={}", escape(&user), escape(&link));
    let reply = gate.request("POST", "/api2/json/access/ticket", "", form.as_bytes());
    let data = &reply.json()["data"];
    assert_eq!(data["ticket"].as_str(), Some(link.as_str()), "{}", reply.text());
    let token = data["CSRFPreventionToken"].as_str().unwrap();
    let session = cookie(&site, data["ticket"].as_str().unwrap());
    let token = format!("CSRFPreventionToken: {token}\r\n");

    let read = Attempt::read(&site, &gate, &session);
    assert_eq!(read.reply.status, 200);
    let write = Attempt::write(&site, &gate, &(session.clone() + &token));
    assert_eq!((write.reached, write.reply.status), (true, 200));
    let start = format!("127.0.0.1 - {user} [");
    eventually("the user is logged", || site.access_log().contains(&start));

    let refused = [
        (String::new(), "no token"),
        (site.csrf(MAIL), "a token of the bare address"),
        (site.csrf("other@example.com@quarantine"), "another address's token"),
    ];
    all_at_once(&refused, |(token, what)| {
        let attempt = Attempt::write(&site, &gate, &(session.clone() + token));
        attempt.assert_refused(BAD_CSRF, what);
    });
}

#[test]
fn an_unreadable_key_is_a_server_error() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    site.write("/etc/pmg/pmg-authkey.pub", "rubbish");
    for prefix in ["PMG", "PMGQUAR"] {
        let ticket = site.keys.ticket(prefix, "root@pam", now());
        let attempt = Attempt::read(&site, &gate, &cookie(&site, &ticket));
        assert_eq!((attempt.reply.status, attempt.reached), (500, false), "{prefix}");
    }
}

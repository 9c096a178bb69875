//! Keys: their age, their rotation, and what happens without them.

use std::fs;
use std::time::Duration;

use nodegate_standin::{Keys, now};

use super::{Attempt, HOUR, INVALID_PVE, cookie, settled};
use crate::support::nodegate::{eventually, wait_for_next_poll};
use crate::support::{Nodegate, Site, all_at_once};

const KEY: &str = "/etc/pve/authkey.pub";
const OLD_KEY: &str = "/etc/pve/authkey.pub.old";

/// Tickets of `keys` by their age in seconds, all at once.
fn verify_each(site: &Site, gate: &Nodegate, keys: &Keys, cases: &[(i64, bool)]) {
    all_at_once(cases, |(age, good)| {
        let ticket = keys.ticket("PVE", "root@pam", now() - age);
        let attempt = Attempt::read(site, gate, &cookie(site, &ticket));
        let what = format!("a ticket {age} s old");
        if *good { attempt.assert_passes(&what) } else { attempt.assert_refused(INVALID_PVE, &what) }
    });
}

#[test]
fn a_ticket_is_not_older_than_its_key() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.age(KEY, 100);
    verify_each(
        &site,
        &gate,
        &site.keys,
        &[(0, true), (350, true), (450, false), (7000, false), (-350, false)],
    );
}

#[test]
fn an_overdue_key_makes_no_new_tickets() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.age(KEY, 25 * HOUR);
    let cases = [(0, false), (3500, false), (3700, true), (7100, true), (7300, false)];
    verify_each(&site, &gate, &site.keys, &cases);
    let members = r#"{"nodename":"node1","version":1,"cluster":{"name":"c","version":1,"nodes":3,"quorate":1},
        "nodelist":{"node1":{"id":1,"online":1,"ip":"127.0.0.1"}}}"#;
    site.write("/etc/pve/.members", members);
    verify_each(&site, &gate, &site.keys, &[(3500, false), (3700, true)]);
    site.write("/etc/pve/.members", members.replace(r#""quorate":1"#, r#""quorate":0"#));
    verify_each(&site, &gate, &site.keys, &[(0, true), (3500, true), (-350, false), (7300, false)]);
}

#[test]
fn the_old_key_verifies_tickets_before_rotation() {
    let site = settled();
    let old = site.keys.old();
    let gate = Nodegate::start(&site, &[]);
    verify_each(&site, &gate, &old, &[(3700, false)]);
    old.write_pve_old(site.root());
    site.age(OLD_KEY, HOUR);
    verify_each(&site, &gate, &old, &[(0, false), (3200, false), (3400, true), (7100, true), (7300, false)]);
    verify_each(&site, &gate, &site.keys, &[(0, true), (7100, true)]);
    site.age(OLD_KEY, 2 * HOUR + 400);
    wait_for_next_poll();
    verify_each(&site, &gate, &old, &[(0, false), (7100, false), (7400, false)]);
}

#[test]
fn a_rotation_is_seen_at_once() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let next = Keys::fresh();
    verify_each(&site, &gate, &site.keys, &[(0, true)]);
    verify_each(&site, &gate, &next, &[(0, false)]);
    site.write(KEY, next.public_pem());
    verify_each(&site, &gate, &next, &[(0, true)]);
    verify_each(&site, &gate, &site.keys, &[(0, false)]);
    site.keys.write_pve_old(site.root());
    verify_each(&site, &gate, &site.keys, &[(0, true)]);
    fs::remove_file(site.path(OLD_KEY)).unwrap();
    wait_for_next_poll();
    verify_each(&site, &gate, &site.keys, &[(0, false)]);
}

/// Answered at once with 500, in words that name no path.
fn assert_unverifiable(attempt: &Attempt, what: &str) {
    assert_eq!(attempt.reply.status, 500, "{what}");
    assert!(!attempt.reached, "{what}");
    assert!(attempt.took < Duration::from_secs(3), "{what}");
    assert!(!attempt.reply.text().contains("/etc/"), "{}", attempt.reply.text());
}

#[test]
fn an_unreadable_key_is_a_server_error() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let read = || Attempt::read(&site, &gate, &cookie);
    let pem = site.keys.public_pem();
    fs::remove_file(site.path(KEY)).unwrap();
    assert_unverifiable(&read(), "no key");
    fs::create_dir(site.path(KEY)).unwrap();
    assert_unverifiable(&read(), "a directory");
    fs::remove_dir(site.path(KEY)).unwrap();
    for rubbish in ["", "rubbish", &pem[..pem.len() / 2]] {
        site.write(KEY, rubbish);
        assert_unverifiable(&read(), rubbish);
    }
    site.write(KEY, pem);
    read().assert_passes("the key is back");
    eventually("the log names the file", || gate.stderr().contains("authkey.pub"));
}

#[test]
fn a_damaged_old_key_affects_no_current_ticket() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write(OLD_KEY, "rubbish");
    verify_each(&site, &gate, &site.keys, &[(0, true)]);
    let old = site.keys.old().ticket("PVE", "root@pam", now());
    assert_unverifiable(&Attempt::read(&site, &gate, &cookie(&site, &old)), "a ticket of the damaged key");
}

#[test]
fn a_returning_cluster_fs_brings_new_keys() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (here, away) = (site.path("/etc/pve"), site.path("/etc/pve.away"));
    verify_each(&site, &gate, &site.keys, &[(0, true)]);
    fs::rename(&here, &away).unwrap();
    wait_for_next_poll();
    assert_unverifiable(&Attempt::read(&site, &gate, &site.cookie("root@pam")), "no /etc/pve");
    fs::rename(&away, &here).unwrap();
    let other = Keys::fresh();
    site.write(KEY, other.public_pem());
    site.age(KEY, 25 * HOUR);
    site.write("/etc/pve/pve-www.key", other.secret_file());
    let ticket = other.ticket("PVE", "root@pam", now() - 7000);
    let token = format!("CSRFPreventionToken: {}\r\n", other.csrf("root@pam", now()));
    Attempt::write(&site, &gate, &(cookie(&site, &ticket) + &token)).assert_passes("the other keys");
}

#[test]
fn without_the_csrf_secret_only_reads_pass() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let secret = "/etc/pve/pve-www.key";
    site.write(secret, "");
    assert_unverifiable(&Attempt::write(&site, &gate, &headers), "an empty secret");
    fs::remove_file(site.path(secret)).unwrap();
    assert_unverifiable(&Attempt::write(&site, &gate, &headers), "no secret");
    Attempt::read(&site, &gate, &headers).assert_passes("a read");
    site.write(secret, site.keys.secret_file());
    Attempt::write(&site, &gate, &headers).assert_passes("the secret is back");
}

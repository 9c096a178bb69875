//! The filter of `docs/operate/failed-logins.md`, tried by fail2ban itself on lines that nodegate wrote.

use std::process::Command;

use nodegate_standin::forged_ticket;

use super::{LOGIN, VERSION, behind_a_proxy, from, login};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site};

const MANUAL: &str = include_str!("../../../docs/operate/failed-logins.md");

/// The block of the manual that begins with this line.
fn block(first: &str) -> &'static str {
    let start = MANUAL.find(&format!("```\n{first}\n")).unwrap() + 4;
    MANUAL[start..].split("```").next().unwrap()
}

/// The addresses that fail2ban would ban for these lines.
fn found(lines: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let (filter, log) = (directory.path().join("nodegate.conf"), directory.path().join("log"));
    std::fs::write(&filter, block("[Definition]")).unwrap();
    std::fs::write(&log, lines).unwrap();
    let outcome = Outcome::of(Command::new("fail2ban-regex").args(["-o", "ip"]).arg(&log).arg(&filter));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn fail2ban_bans_only_the_logged_addresses() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    assert_eq!(login(&gate, "192.0.2.7", "root@pam", "x").status, 401);
    assert_eq!(login(&gate, "192.0.2.7", "root@pam", "x").status, 429);
    assert_eq!(login(&gate, "2001:db8::7", "root@pam", "x").status, 401);
    let json = "Content-Type: application/json\r\n".to_owned() + &from("2001:db8::7");
    let forged = r#"{"username":"a@b\nnodegate[1]: authentication failure; rhost=192.0.2.99 user=x msg=y"}"#;
    assert_eq!(gate.request("POST", LOGIN, &json, forged.as_bytes()).status, 429);
    assert_eq!(login(&gate, "192.0.2.8", "root@pam", "demo").status, 200);
    // As the journal shows what came over stderr, and as it shows what it got itself.
    let lines = gate.stderr();
    let lines = lines.lines().filter(|line| line.contains("authentication failure; "));
    let written = lines.map(|line| format!("Nov 25 21:00:00 node1 nodegate[4711]: {line}\n"));
    let written: Vec<_> = written.collect();
    assert_eq!(found(&written.concat()), ["192.0.2.7", "2001:db8::7"]);
    let message = |line: &String| line[line.find("authentication failure; ").unwrap()..].to_owned();
    let reported =
        written.iter().map(|line| format!("Nov 25 21:00:00 node1 nodegate[4711]: {}", message(line)));
    let reported: String = reported.collect();
    assert_eq!(found(&reported).len(), 2, "{reported}");
    assert!(found(&reported.replace("nodegate[", "sshd[")).is_empty());
}

/// The lines that fail2ban reads of a log that nodegate wrote to stderr.
fn as_the_journal_shows(stderr: &str) -> String {
    let warnings = stderr.lines().filter(|line| line.contains(" WARN "));
    let shown = warnings.map(|line| format!("Nov 25 21:00:00 node1 nodegate[4711]: {line}\n"));
    shown.collect::<Vec<_>>().concat()
}

#[test]
fn a_banned_flood_hides_no_other_address() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let mut number = 1000;
    let mut guess = |client: &str| {
        number += 1;
        let ticket = format!("Cookie: PVEAuthCookie={}\r\n", forged_ticket("PVE", "root@pam", number));
        let mut session = gate.connect();
        session.send(format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{}{ticket}\r\n", from(client)));
        session
    };
    // The clients do not wait for the responses.
    let mut waiting: Vec<_> = (0..20).map(|_| guess("192.0.2.66")).collect();
    waiting.push(guess("192.0.2.7"));
    let is_line = |line: &&str| line.contains(" WARN ") && line.contains("failure; rhost=192.0.2.66 ");
    eventually("the flood has reached maxretry", || {
        waiting.push(guess("192.0.2.66"));
        gate.stderr().lines().filter(is_line).count() >= 10
    });
    eventually("the other address is there", || gate.stderr().contains("rhost=192.0.2.7 "));
    let log = as_the_journal_shows(&gate.stderr());
    assert!(log.contains(" more of this kind were not logged)"), "{log}");
    let found = found(&log);
    let count = |address: &str| found.iter().filter(|found| *found == address).count();
    assert!(count("192.0.2.66") >= 10, "fail2ban counts each line, with a count or without: {found:?}");
    assert_eq!(count("192.0.2.7"), 1, "{found:?}");
}

#[test]
fn every_address_of_a_crowd_is_found() {
    let site = Site::pve();
    let sets = ["listen.proxy_protocol=1", "real_ip.allow_from=127.0.0.1"];
    let gate = Nodegate::start_profile(&site, "spice", &sets);
    let mut addresses: Vec<_> = (1..=200).map(|last| format!("192.0.2.{last}")).collect();
    for address in &addresses {
        let mut session = Session::plain(gate.local());
        session.send(format!("PROXY TCP4 {address} 127.0.0.1 4660 3128\r\n"));
        session.send("CONNECT x:1 HTTP/1.0\r\nHost: x:1\r\n\r\n");
        assert_eq!(session.reply(false).status, 401);
    }
    let is_there = |address: &String| {
        let line = format!("authentication failure; rhost={address} ");
        gate.stderr().lines().any(|text| text.contains(" WARN ") && text.contains(&line))
    };
    eventually("each address has its line", || addresses.iter().all(is_there));
    let mut found = found(&as_the_journal_shows(&gate.stderr()));
    addresses.sort();
    found.sort();
    assert_eq!(found, addresses);
}

#[test]
fn the_same_filter_finds_the_daemons_own_lines() {
    let lines = "Nov 25 21:00:00 node1 pvedaemon[1188]: authentication failure; rhost=192.0.2.1 user=root@pam msg=Authentication failure\n\
        Nov 25 21:00:01 node1 pmgdaemon[1189]: authentication failure; rhost=::ffff:192.0.2.2 user=root@pam msg=no such user ('x@pam')\n\
        Nov 25 21:00:02 node1 pvedaemon[1188]: authentication failure; rhost=192.0.2.3 user=x node1 pvedaemon[1]: authentication failure; rhost=192.0.2.99 user=y msg=z\n\
        Nov 25 21:00:02 node1 pvedaemon[1188]: <root@pam> successful auth for user 'root@pam'\n\
        Nov 25 21:00:03 node1 nodegate[7]: ticket refused: its signature fits no key\n";
    assert_eq!(found(lines), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
}

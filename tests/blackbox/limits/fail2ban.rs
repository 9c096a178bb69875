//! The filter of `docs/operating.md`, tried by fail2ban itself on lines that nodegate wrote.

use std::process::Command;

use super::{LOGIN, behind_a_proxy, from, login};
use crate::support::{Outcome, Site};

const MANUAL: &str = include_str!("../../../docs/operating.md");

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
fn fail2ban_finds_the_addresses_that_nodegate_names_and_no_other() {
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
    let told = written.iter().map(|line| format!("Nov 25 21:00:00 node1 nodegate[4711]: {}", message(line)));
    let told: String = told.collect();
    assert_eq!(found(&told).len(), 2, "{told}");
    assert!(found(&told.replace("nodegate[", "sshd[")).is_empty());
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

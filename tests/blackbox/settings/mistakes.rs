//! Wrong settings are errors that say where; all of them at once.

use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn an_unknown_key_has_place_and_hint() {
    let site = Site::pve();
    site.write(
        "/etc/nodegate/pve.toml",
        "[listen]\nprot = 8007\n\n[acl]\nallow_form = \"10/8\"\n[nothing]\nlike = 1\n",
    );
    let file = site.path("/etc/nodegate/pve.toml").display().to_string();
    let mut check = command(&["--root", site.root().to_str().unwrap(), "check", "pve"]);
    check.env("NODEGATE_LISTEN__PROT", "1").args([
        "--set",
        "wrokers=3",
        "--set",
        "workers",
        "--set",
        "nonsense",
    ]);
    let outcome = Outcome::of(&mut check);
    assert_eq!(outcome.code, 1);
    for line in [
        format!("{file}:2: listen.prot: unknown key; did you mean listen.port?"),
        format!("{file}:5: acl.allow_form: unknown key; did you mean acl.allow_from?"),
        format!("{file}:7: nothing.like: unknown key"),
        "environment NODEGATE_LISTEN__PROT: listen.prot: unknown key; did you mean listen.port?".to_owned(),
        "--set: wrokers: unknown key; did you mean workers?".to_owned(),
        "--set: workers: write KEY=VALUE".to_owned(),
        "--set: nonsense: unknown key".to_owned(),
    ] {
        outcome.complains(&line);
    }
}

#[test]
fn a_misplaced_legacy_name_gets_a_hint() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &["ALLOW_FROM=10.0.0.0/8"]);
    assert_eq!(outcome.code, 1);
    outcome.complains("--set: ALLOW_FROM: unknown key; did you mean acl.allow_from?");
}

#[test]
fn a_key_of_another_table_gets_a_hint() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &["acl.port=1", "listen.deny_from=10/8", "tls.health=1"]);
    assert_eq!(outcome.code, 1);
    outcome.complains("--set: acl.port: unknown key; did you mean listen.port or cluster.port?");
    outcome.complains("--set: listen.deny_from: unknown key; did you mean acl.deny_from?");
    outcome.complains("--set: tls.health: unknown key");
}

#[test]
fn check_and_run_name_every_problem() {
    let site = Site::pve();
    site.legacy("ALLOW_FROM=10.0.0.1/8,10.0.0.300\nPOLICY=maybe\nDISABLE_TLS_1_2=no\n");
    site.write(
        "/etc/nodegate/pve.toml",
        "limits.headers = 1000\ntimeout.idle = 1.5\ntunnel.ports = \"2-1\"\ntimeout.stop = 2026-11-30\n",
    );
    let sets = [
        "listen.port=70000",
        "backend.address=nowhere",
        "tls.ciphers=NONE",
        "compression.enabled=yes",
        "listen.address=1.2.3",
    ];
    let legacy = site.path("/etc/default/pveproxy").display().to_string();
    let file = site.path("/etc/nodegate/pve.toml").display().to_string();
    let expected = [
        format!("{legacy}:1: ALLOW_FROM (acl.allow_from): "),
        format!("{legacy}:2: POLICY (acl.policy): must be allow or deny, not 'maybe'"),
        format!("{legacy}:3: DISABLE_TLS_1_2: must be 0 or 1, not 'no'"),
        format!("{file}:1: limits.headers: must be a whole number from 1 to 100, not '1000'"),
        format!("{file}:2: timeout.idle: must be a whole number from 1 to 86400, not '1.5'"),
        format!("{file}:3: tunnel.ports: must be FIRST-LAST"),
        format!("{file}:4: timeout.stop: must be a text, a number"),
        "--set: listen.port: must be a whole number from 0 to 65535, not '70000'".to_owned(),
        "--set: listen.address: '1.2.3' is neither an address nor a host name".to_owned(),
        "--set: backend.address: 'nowhere': write ADDRESS:PORT".to_owned(),
        "--set: tls.ciphers: no usable cipher in CIPHERS".to_owned(),
        "--set: compression.enabled: must be 0, 1, false or true, not 'yes'".to_owned(),
    ];
    let run = Outcome::of(&mut Nodegate::prepared(&site, "pve", &sets));
    for outcome in [Outcome::check(&site, &sets), run] {
        assert_eq!(outcome.code, 1);
        for start in &expected {
            assert!(
                outcome.stderr.lines().any(|line| line.starts_with(start)),
                "{start}\n{}",
                outcome.stderr
            );
        }
        let entries = outcome.stderr.lines().filter(|line| line.contains("ALLOW_FROM")).count();
        assert_eq!(entries, 2, "each wrong entry has its line: {}", outcome.stderr);
        assert!(outcome.stderr.contains("10.0.0.0/8"), "with what was probably meant");
        assert!(outcome.stderr.contains("10.0.0.300"));
    }
}

#[test]
fn entries_without_commas_get_a_correction() {
    let site = Site::pve();
    let place = format!("{}:1: ", site.path("/etc/default/pveproxy").display());
    let commas = "separate entries with commas; write 10.0.0.0/8,192.168.0.0/16";
    for list in ["10.0.0.0/8 192.168.0.0/16", "10.0.0.0/8;192.168.0.0/16", "10.0.0.0/8\n192.168.0.0/16"] {
        let shown = list.replace('\n', " ");
        for (name, key) in [("ALLOW_FROM", "acl.allow_from"), ("DENY_FROM", "acl.deny_from")] {
            site.legacy(&format!("{name}=\"{list}\"\n"));
            let outcome = Outcome::check(&site, &[]);
            assert_eq!(outcome.code, 1, "{list}");
            outcome.complains(&format!("{place}{name} ({key}): '{shown}': {commas}"));
        }
    }
    site.legacy("ALLOW_FROM=\"10.0.0.0/8,,192.168.0.0/16,\"\n");
    assert_eq!(Outcome::check(&site, &[]).code, 0, "a comma too many is harmless");
    site.legacy("ALLOW_FROM=\"'10.0.0.0/8'\"\n");
    let outcome = Outcome::check(&site, &[]);
    assert!(outcome.stderr.contains("an entry has no quotes of its own; write 10.0.0.0/8"), "{outcome:?}");
}

#[test]
fn a_broken_site_file_names_its_line() {
    let site = Site::pve();
    site.write("/etc/nodegate/pve.toml", "[acl]\npolicy = \"deny\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1);
    let start = format!("{}:2: ", site.path("/etc/nodegate/pve.toml").display());
    assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{outcome:?}");
    assert!(!outcome.stderr.contains("in quotes"), "{outcome:?}");
    for value in ["127.0.0.8", "deny # all"] {
        site.write("/etc/nodegate/pve.toml", format!("[acl]\ndeny_from = {value}\n"));
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1);
        let hint = "; if the value is a text, write it in quotes";
        let is_hint = |line: &str| line.starts_with(&start) && line.ends_with(hint);
        assert!(outcome.stderr.lines().any(is_hint), "{outcome:?}");
    }
}

#[test]
fn an_unreadable_profile_is_a_named_error() {
    let site = Site::pve();
    let outcome = Outcome::ask(&site, &["check", "nope"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("no such profile; the built-in ones are pmg, pve, spice"), "{outcome:?}");
    let missing = site.path("/nope.toml").display().to_string();
    let outcome = Outcome::ask(&site, &["run", &missing]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with(&format!("{missing}: cannot be read")), "{outcome:?}");
    site.write("/nope.toml", "[listen]\nport = 1\n");
    let outcome = Outcome::ask(&site, &["run", &missing]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!("{missing}: has no [product] table; it needs name, daemon, protocol, server"));
    site.write("/nope.toml", "[listen]\nport = 1\n[product]\nname = \"x\"\nkind = 3\n");
    let outcome = Outcome::ask(&site, &["run", &missing]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!(
        "{missing}:5: product.kind: unknown key; the keys of [product] are name, daemon, protocol, server, certificate, auth, \
         api, connect, backend, directory, file, page, variable, console, upload, nodes, page_title, route_scope, \
         compare, doctor, dump, legacy_file, pid_file, routes, coalesce, side_effects, secret_parameters, \
         version_parameters, page_policy, worker_package"
    ));
    outcome.complains(&format!("{missing}:3: product.daemon: is missing: the daemon that nodegate replaces"));
    outcome.complains(&format!("{missing}:3: product.server: is missing: value of the 'Server' header"));
}

//! The commands that only answer: `acl`, `route`, `profiles`, and the exit codes of all.

use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn acl_explains_each_address() {
    let site = Site::pve();
    site.legacy(
        "ALLOW_FROM=\"10/8, 192.168.0.1-192.168.0.5,2001:db8::/32\"\nDENY_FROM=192.168.0.4,fe80::/10\n",
    );
    let asked = ["10.1.2.3", "::ffff:10.1.2.3", "192.168.0.4", "FE80::1", "8.8.8.8", "2001:db8::1"];
    let outcome = Outcome::ask(&site, &[&["acl", "pve"], &asked[..]].concat());
    let lines: Vec<_> = outcome.stdout.lines().collect();
    let file = site.path("/etc/default/pveproxy").display().to_string();
    let expected = [
        format!("10.1.2.3 allow matches acl.allow_from entry 10/8 only ({file}:1)"),
        format!("::ffff:10.1.2.3 allow matches acl.allow_from entry 10/8 only ({file}:1)"),
        "192.168.0.4 allow matches both (192.168.0.1-192.168.0.5, 192.168.0.4), policy allow (profile)"
            .to_owned(),
        format!("FE80::1 deny matches acl.deny_from entry fe80::/10 only ({file}:2)"),
        "8.8.8.8 allow matches neither list, policy allow (profile)".to_owned(),
        format!("2001:db8::1 allow matches acl.allow_from entry 2001:db8::/32 only ({file}:1)"),
    ];
    assert_eq!((outcome.code, lines), (0, expected.iter().map(String::as_str).collect()));
    let strict = Outcome::ask(&site, &["acl", "pve", "192.168.0.4", "8.8.8.8", "--set", "acl.policy=deny"]);
    let expected = "192.168.0.4 deny matches both (192.168.0.1-192.168.0.5, 192.168.0.4), policy deny (--set)\n\
         8.8.8.8 deny matches neither list, policy deny (--set)\n";
    assert_eq!((strict.code, strict.stdout.as_str()), (0, expected));
}

#[test]
fn acl_answers_for_each_listener() {
    let site = Site::pve();
    site.legacy("ALLOW_FROM=10.0.0.0/8\nPOLICY=deny\n");
    site.write(
        "/etc/nodegate/pve.toml",
        "[acl]\nallow_from = \"192.168.0.0/16\"\n\n\
         [[listener]]\nname = \"web\"\nport = 443\nallow_from = [\"all\"]\n\n\
         [[listener]]\nname = \"inside\"\nport = 8443\npolicy = \"allow\"\ndeny_from = \"10.0.0.0/8\"\n\n\
         [[listener]]\nname = \"same\"\nport = 8444\n",
    );
    let outcome = Outcome::ask(&site, &["acl", "pve", "10.1.2.3"]);
    let (legacy, own) = (
        site.path("/etc/default/pveproxy").display().to_string(),
        site.path("/etc/nodegate/pve.toml").display().to_string(),
    );
    let expected = [
        format!("10.1.2.3 deny matches neither list, policy deny ({legacy}:2)"),
        format!(
            "10.1.2.3 allow listener 'web' (port 443): matches listener[1].allow_from entry all only ({own}:7)"
        ),
        format!(
            "10.1.2.3 deny listener 'inside' (port 8443): matches listener[2].deny_from entry 10.0.0.0/8 only ({own}:13)"
        ),
        format!("10.1.2.3 deny listener 'same' (port 8444): matches neither list, policy deny ({legacy}:2)"),
    ];
    assert_eq!((outcome.code, outcome.stdout), (0, expected.join("\n") + "\n"));
}

#[test]
fn acl_reads_stdin_and_names_bad_addresses() {
    let site = Site::pve();
    let mut acl = command(&["--root", site.root().to_str().unwrap(), "acl", "pve", "127.0.0.1", "-", "::1"]);
    let outcome = Outcome::with_input(&mut acl, b"10.0.0.1\r\n\n  10.0.0.2  \n");
    let addresses: Vec<_> = outcome.stdout.lines().filter_map(|line| line.split_once(" allow ")).collect();
    let addresses: Vec<_> = addresses.iter().map(|(address, _)| *address).collect();
    assert_eq!((outcome.code, addresses), (0, vec!["127.0.0.1", "10.0.0.1", "10.0.0.2", "::1"]));
    let outcome = Outcome::with_input(&mut acl, b"10.0.0.300\n10.0.0.0/8\n10.0.0.9\nfe80::1%eth0\n");
    assert_eq!(outcome.code, 1);
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "the good ones are answered all the same");
    for (line, start) in [(1, "10.0.0.300 error "), (2, "10.0.0.0/8 error "), (4, "fe80::1%eth0 error ")] {
        assert!(lines[line].starts_with(start) && lines[line].len() > start.len(), "{lines:?}");
    }
    assert!(lines[3].starts_with("10.0.0.9 allow "), "{lines:?}");
}

#[test]
fn acl_of_a_wrong_list_names_the_entry() {
    let site = Site::pve();
    site.legacy("ALLOW_FROM=10.0.0.1/8\n");
    let outcome = Outcome::ask(&site, &["acl", "pve", "10.0.0.1"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    let place = site.path("/etc/default/pveproxy").display().to_string();
    assert!(outcome.stderr.starts_with(&format!("{place}:1: ALLOW_FROM (acl.allow_from): ")), "{outcome:?}");
    assert!(outcome.stderr.contains("'10.0.0.1/8'"), "{outcome:?}");
}

const MEMBERS: &str = r#"{"nodename":"node1","version":3,"cluster":{"name":"c","version":2,"nodes":2,"quorate":1},
"nodelist":{"node1":{"id":1,"online":1,"ip":"192.0.2.1"},"node2":{"id":2,"online":1,"ip":"192.0.2.2"}}}"#;

fn routes(site: &Site, profile: &str, cases: &[(&str, &str, &str)]) {
    for (method, path, start) in cases {
        let outcome = Outcome::ask(site, &["--set", "node.name=node1", "route", profile, method, path]);
        let line = outcome.stdout.trim_end();
        let rest =
            line.strip_prefix(start).unwrap_or_else(|| panic!("{method} {path}: {start}\n{outcome:?}"));
        assert!(rest.starts_with(' ') && rest.len() > 3, "the reason is missing: {line}");
        assert_eq!((outcome.code, outcome.stdout.lines().count()), (0, 1), "{method} {path}");
    }
}

#[test]
fn route_names_the_destination_of_a_request() {
    let site = Site::pve();
    site.write("/etc/pve/.members", MEMBERS);
    let images = format!("static:{} open", site.path("/usr/share/pve-manager/images/x/logo.png").display());
    let favicon = format!("static:{} open", site.path("/usr/share/pve-manager/images/favicon.ico").display());
    let cases = [
        ("GET", "/api2/json/version", "daemon login"),
        ("HEAD", "/api2/extjs/version?x=1", "daemon login"),
        ("POST", "/api2/json/access/ticket", "daemon open"),
        ("GET", "/api2/json/access/ticket", "daemon open"),
        ("POST", "/api2/json/access/ticket/", "daemon login"),
        ("GET", "/api2/json/access/%64omains", "daemon open"),
        ("POST", "/api2/json/access/domains", "daemon login"),
        ("GET", "/api2/json/nodes/node1/status", "daemon login"),
        ("GET", "/api2/json/nodes/localhost/status", "daemon login"),
        ("GET", "/api2/json/nodes/node2/status", "node:node2 login"),
        ("GET", "/api2/json/nodes/node3/status", "refused:500 login"),
        ("GET", "/api2/json/nodes/node2", "daemon login"),
        ("POST", "/api2/json/nodes/node1/storage/local/upload", "upload login"),
        ("GET", "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900", "websocket login"),
        ("GET", "/", "page open"),
        ("GET", "/?console=kvm", "page open"),
        ("GET", "/pve2/images/x/logo.png", &images),
        ("HEAD", "/favicon.ico", &favicon),
        ("GET", "/nothing", "refused:404 open"),
        ("GET", "/pve2/images/../../../etc/passwd", "refused:404 open"),
        ("GET", "/pve2/images/%2e%2e/%2e%2e/x", "refused:404 open"),
        ("POST", "/", "refused:405 open"),
        ("PATCH", "/api2/json/version", "refused:501 open"),
        ("GET", "/api2", "refused:501 open"),
        ("GET", "/api2/JSON/version", "refused:501 open"),
        ("GET", "no-slash", "refused:400 open"),
    ];
    routes(&site, "pve", &cases);
}

#[test]
fn route_follows_the_rules_of_each_product() {
    let site = Site::pmg();
    let cases = [
        ("GET", "/api2/json/access/auth-realm", "daemon open"),
        ("GET", "/api2/json/access/domains", "daemon login"),
        ("POST", "/api2/json/quarantine/sendlink", "daemon open"),
        ("GET", "/quarantine", "page open"),
        ("POST", "/api2/json/nodes/node1/storage/local/upload", "daemon login"),
    ];
    routes(&site, "pmg", &cases);
    let target = "pvespiceproxy:65f00000:100:node1::0123456789012345678901234567890123456789:61000";
    let cases = [
        ("CONNECT", target, "tunnel login"),
        ("CONNECT", "example.com:443", "refused:401 login"),
        ("GET", "/", "refused:405 login"),
    ];
    routes(&site, "spice", &cases);
}

/// `nodegate` lists its profiles and prints each; it also serves the printed one.
#[test]
fn printed_profiles_can_be_served() {
    let site = Site::pve();
    let outcome = Outcome::ask(&site, &["profiles"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "pmg\npve\nspice\n"));
    let printed = Outcome::ask(&site, &["profiles", "pve"]);
    assert_eq!(printed.code, 0);
    assert_eq!(printed.stdout, include_str!("../../profiles/pve.toml"));
    let outcome = Outcome::ask(&site, &["profiles", "nope"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("pmg, pve, spice"), "{outcome:?}");
    site.write("/own.toml", printed.stdout);
    let path = site.path("/own.toml");
    let gate = Nodegate::start_profile(&site, path.to_str().unwrap(), &[]);
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
}

#[test]
fn exit_codes_separate_usage_from_setup() {
    let site = Site::pve();
    for wrong in [
        &[][..],
        &["serve"],
        &["run"],
        &["check"],
        &["acl", "pve"],
        &["route", "pve", "GET"],
        &["check", "pve", "--nonsense"],
        &["check", "pve", "--set"],
    ] {
        let outcome = Outcome::of(&mut command(wrong));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{wrong:?}");
        assert!(outcome.stderr.contains("--help"), "{outcome:?}");
    }
    for (good, start) in [("--help", "Reverse proxy in front of"), ("--version", "nodegate 0.")] {
        let outcome = Outcome::of(&mut command(&[good]));
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.starts_with(start), "{outcome:?}");
    }
    std::fs::remove_file(site.path("/etc/pve/local/pve-ssl.key")).unwrap();
    assert_eq!(Outcome::check(&site, &[]).code, 1);
    assert_eq!(Outcome::of(&mut Nodegate::prepared(&site, "pve", &[])).code, 1);
}

#[test]
fn a_stopped_service_exits_with_0() {
    let site = Site::pve();
    assert_eq!(Nodegate::start(&site, &[]).stop().code(), Some(0));
}

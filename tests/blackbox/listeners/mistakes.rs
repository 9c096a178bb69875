//! Wrong `[[listener]]` tables are errors that say where.

use super::PVE;
use crate::support::{Nodegate, Outcome, Site};

const WRONG: &str = "\
[[listener]]
name = \"one\"
prot = 443
port = 1443
allow_form = \"10/8\"

[[listener]]
name = \"one\"
address = \"1.2.3\"
port = 70000
policy = \"maybe\"
allow_from = [\"10.0.0.300\"]
tls = \"yes\"

[[listener]]
name = \"twin\"
port = 1443
client_certificates = \"required\"

[[listener]]
name = \"listen\"
port = 1.5
route_scope = \"quarantine\"

[[listener]]
address = \"10.0.0.1\"
";

/// Whether a line of the complaints begins so.
fn complains(outcome: &Outcome, start: &str) {
    assert!(outcome.stderr.lines().any(|line| line.starts_with(start)), "{start}\n{}", outcome.stderr);
}

#[test]
fn listener_mistakes_are_all_named() {
    let site = Site::pve();
    site.write(PVE, WRONG);
    let file = site.path(PVE).display().to_string();
    let expected = [
        "3: listener[1].prot: unknown key; did you mean port?",
        "5: listener[1].allow_form: unknown key; did you mean allow_from?",
        "9: listener[2].address: '1.2.3' is neither an address nor a host name",
        "10: listener[2].port: must be a whole number from 0 to 65535, not '70000'",
        "11: listener[2].policy: must be allow or deny, not 'maybe'",
        "12: listener[2].allow_from: ",
        "13: listener[2].tls: must be 0, 1, false or true, not 'yes'",
        "17: listener[3].port: address :: with port 1443 is taken by the listener 'one'",
        "18: listener[3].client_certificates: without client_ca",
        "22: listener[4].port: must be a whole number from 0 to 65535, not '1.5'",
        "25: listener[5].name: is missing",
        "25: listener[5].port: is missing",
    ];
    for outcome in [Outcome::check(&site, &[]), Outcome::of(&mut Nodegate::prepared(&site, "pve", &[]))] {
        assert_eq!(outcome.code, 1);
        for line in expected {
            complains(&outcome, &format!("{file}:{line}"));
        }
    }
}

#[test]
fn names_are_unique_and_classes_of_routes_exist() {
    let site = Site::pve();
    let table = |name: &str, more: &str| format!("[[listener]]\nname = \"{name}\"\nport = 0\n{more}");
    let file = site.path(PVE).display().to_string();
    let cases = [
        (table("listen", ""), "2: listener[1].name: 'listen' is the name of [listen]"),
        (table("a", "") + &table("a", ""), "5: listener[2].name: 'a' is the name of another listener"),
        (table("a b", ""), "2: listener[1].name: must be 1 to 32 letters"),
        (
            table("a", "route_scope = \"none\"\n"),
            "4: listener[1].route_scope: 'none' is not a route scope of this profile",
        ),
        ("[listener]\nname = \"a\"\n".to_owned(), "1: listener: write [[listener]], once for each"),
        (
            (0..33).map(|number| table(&format!("a{number}"), "")).collect(),
            "97: listener[33]: there can be 32",
        ),
        (table("a", "address = \"192.0.2.77\"\n"), "4: listener[1].address: 192.0.2.77 is not an address"),
    ];
    for (text, problem) in cases {
        site.write(PVE, text);
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1, "{problem}");
        complains(&outcome, &format!("{file}:{problem}"));
    }
}

#[test]
fn useless_settings_of_tunnel_listeners_are_errors() {
    let site = Site::pve();
    site.write("/etc/nodegate/spice.toml", "[[listener]]\nname = \"a\"\nport = 0\ntls = true\n");
    let file = site.path("/etc/nodegate/spice.toml").display().to_string();
    let outcome = Outcome::of(&mut Nodegate::prepared(&site, "spice", &[]));
    outcome.complains(&format!(
        "{file}:4: listener[1].tls: has no effect in the profile spice, which is for tunnels"
    ));
}

/// A listener that no client can show a certificate to asks for none.
#[test]
fn client_certificates_need_a_tls_listener() {
    let site = Site::pve();
    site.write("/etc/nodegate/clients.pem", nodegate_standin::Certificate::ca().certificate_pem());
    let file = site.path(PVE).display().to_string();
    let asks = "[tls]\nclient_ca = \"/etc/nodegate/clients.pem\"\nclient_certificates = \"required\"\n";
    let clear = "[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1\"\nport = 0\ntls = false\n";
    site.write(PVE, format!("{asks}{clear}"));
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1);
    complains(&outcome, &format!("{file}:3: listener[1].client_certificates: without TLS no client"));
    site.write(PVE, format!("{asks}{clear}client_certificates = \"off\"\n"));
    assert_eq!(Outcome::check(&site, &[]).code, 0);
    site.write("/etc/nodegate/spice.toml", asks);
    let outcome = Outcome::of(&mut Nodegate::prepared(&site, "spice", &[]));
    assert_eq!(outcome.code, 1);
    complains(
        &outcome,
        &format!(
            "{}:3: tls.client_certificates: has no effect",
            site.path("/etc/nodegate/spice.toml").display()
        ),
    );
}

#[test]
fn check_prints_each_listeners_settings_and_origins() {
    let site = Site::pve();
    site.write(
        PVE,
        "[acl]\nallow_from = \"10.0.0.0/8\"\n[[listener]]\nname = \"public\"\nport = 0\ntls = false\n",
    );
    let file = site.path(PVE).display().to_string();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for line in [
        format!("listener[1].name = public  ({file}:4)"),
        format!("listener[1].port = 0  ({file}:5)"),
        format!("listener[1].allow_from = 10.0.0.0/8  ({file}:2)"),
        "listener[1].address = ::  (profile)".to_owned(),
    ] {
        assert!(outcome.stdout.lines().any(|said| said == line), "{line}\n{}", outcome.stdout);
    }
    let (_, reported) = Outcome::check_json(&site, &[]);
    assert_eq!(reported["settings"]["listener[1].tls"]["value"], false);
    assert_eq!(reported["settings"]["listener[1].port"]["line"], 5);
}

#[test]
fn open_plaintext_listeners_get_a_warning() {
    let site = Site::pve();
    let warning = "listener[1].tls: warning: passwords and tickets go over the network in clear text";
    for (more, warned) in [
        ("", true),
        ("address = \"127.0.0.1\"\n", false),
        ("allow_from = \"10.0.0.1\"\npolicy = \"deny\"\n", false),
    ] {
        site.write(PVE, format!("[[listener]]\nname = \"clear\"\nport = 0\ntls = false\n{more}"));
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(
            (outcome.code, outcome.stderr.contains(warning)),
            (0, warned),
            "{more}: {}",
            outcome.stderr
        );
    }
}

/// A reload says at once all that `check` says.
#[test]
fn a_reload_names_foreign_addresses_too() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let table = "[[listener]]\nname = \"x\"\nport = 8443\naddress = \"192.0.2.55\"\n\
                 client_ca = \"/missing.pem\"\nclient_certificates = \"required\"\n";
    site.write(PVE, table);
    let port = format!("listen.port={}", gate.port());
    let reload = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    for outcome in [reload, Outcome::check(&site, &[])] {
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let file = site.path(PVE).display().to_string();
        complains(&outcome, &format!("{file}:5: listener[1].client_ca: "));
        let address = "listener[1].address: 192.0.2.55 is not an address of this machine";
        assert!(outcome.stderr.lines().any(|line| line.ends_with(address)), "{outcome:?}");
    }
}

//! `/etc/default/pveproxy` and `/etc/default/pmgproxy`, read without a shell.

use crate::support::{Nodegate, Outcome, Site};

fn place(site: &Site, line: usize) -> String {
    let name = if site.profile() == "pve" { "/etc/default/pveproxy" } else { "/etc/default/pmgproxy" };
    format!("{}:{line}", site.path(name).display())
}

#[test]
fn every_documented_legacy_key_sets_its_setting() {
    let keys = [
        ("LISTEN_IP", "listen.address", "127.0.0.1"),
        ("ALLOW_FROM", "acl.allow_from", "10.0.0.1-10.0.0.5,192.168.0.0/22"),
        ("DENY_FROM", "acl.deny_from", "all"),
        ("POLICY", "acl.policy", "deny"),
        ("CIPHERS", "tls.ciphers", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("CIPHERSUITES", "tls.ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("HONOR_CIPHER_ORDER", "tls.honor_cipher_order", "0"),
        ("DISABLE_TLS_1_2", "tls.disable_tls_1_2", "0"),
        ("DISABLE_TLS_1_3", "tls.disable_tls_1_3", "1"),
        ("TLS_KEY_FILE", "tls.key_file", "/etc/pve/local/other.key"),
        ("COMPRESSION", "compression.enabled", "0"),
        ("PROXY_REAL_IP_HEADER", "real_ip.header", "X-Forwarded-For"),
        ("PROXY_REAL_IP_ALLOW_FROM", "real_ip.allow_from", "192.0.2.1"),
        ("MAX_WORKERS", "workers", "5"),
    ];
    let text = keys.map(|(legacy, _, value)| format!("{legacy}=\"{value}\"\n")).concat();
    for site in [Site::pve(), Site::pmg()] {
        site.legacy(&text);
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        for (index, (_, key, value)) in keys.iter().enumerate() {
            assert_eq!(outcome.setting(key), format!("{key} = {value}  ({})", place(&site, index + 1)));
        }
        assert!(!outcome.stderr.contains("/etc/default"), "{outcome:?}");
    }
}

#[test]
fn tunnels_read_the_api_proxys_file() {
    let site = Site::pve();
    site.legacy("DENY_FROM=10.0.0.0/8\n");
    let outcome = Outcome::ask(&site, &["check", "spice"]);
    assert_eq!(
        outcome.setting("acl.deny_from"),
        format!("acl.deny_from = 10.0.0.0/8  ({})", place(&site, 1))
    );
}

#[test]
fn dhparams_names_a_file() {
    let site = Site::pve();
    site.legacy("DHPARAMS=/etc/ssl/none.pem\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 1);
    let file = site.path("/etc/ssl/none.pem").display().to_string();
    assert!(
        outcome.stderr.contains(&format!("{}: tls.dhparams: {file}: No such file", place(&site, 1))),
        "{outcome:?}"
    );
}

#[test]
fn assignments_are_read_like_a_shell() {
    let site = Site::pve();
    site.legacy(
        "# comment\nNET='10.0.0.0/8' # mine\nexport ALLOW_FROM=\"$NET,\\\n192.168.0.0/16\"\n\
         DENY_FROM=${NET}\nDENY_FROM+=,127.0.0.9\n",
    );
    let outcome = Outcome::check(&site, &[]);
    let line = format!("acl.allow_from = 10.0.0.0/8,192.168.0.0/16  ({})", place(&site, 3));
    assert_eq!(outcome.setting("acl.allow_from"), line);
    let line = format!("acl.deny_from = 10.0.0.0/8,127.0.0.9  ({})", place(&site, 6));
    assert_eq!(outcome.setting("acl.deny_from"), line);
    assert_eq!(outcome.code, 0, "the helper NET is no error: {outcome:?}");
}

#[test]
fn windows_line_ends_are_read() {
    let site = Site::pve();
    site.legacy("POLICY=\"deny\"\r\nCOMPRESSION=0\r\nALLOW_FROM=127.0.0.1\r\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.setting("acl.policy"), format!("acl.policy = deny  ({})", place(&site, 1)));
    assert_eq!(
        outcome.setting("compression.enabled"),
        format!("compression.enabled = 0  ({})", place(&site, 2))
    );
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(gate.get("/api2/json/version", &site.cookie("root@pam")).status, 200);
}

#[test]
fn an_unknown_key_is_only_a_warning() {
    let site = Site::pve();
    site.legacy("POLICY=allow\nALOW_FROM=10.0.0.0/8\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.complains(&format!(
        "{}: ALOW_FROM: warning: unknown key, ignored; did you mean ALLOW_FROM?",
        place(&site, 2)
    ));
    let gate = Nodegate::start(&site, &[]);
    assert!(gate.stderr().contains("ALOW_FROM: warning: unknown key, ignored"), "{}", gate.stderr());
}

/// Guides to the originals write both of these; neither has ever had an effect there.
#[test]
fn keys_of_guides_lead_to_the_right_ones() {
    for (site, name) in [(Site::pve(), "pve"), (Site::pmg(), "pmg")] {
        site.legacy("LISTEN_PORT=443\nBIND_ADDR=192.0.2.1\n");
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let own = site.path(&format!("/etc/nodegate/{name}.toml")).display().to_string();
        outcome.complains(&format!(
            "{}: LISTEN_PORT: warning: unknown key, ignored; set listen.port in {own}",
            place(&site, 1)
        ));
        outcome.complains(&format!(
            "{}: BIND_ADDR: warning: unknown key, ignored; the key here is LISTEN_IP",
            place(&site, 2)
        ));
    }
}

/// Only 0 and 1 are valid.
#[test]
fn invalid_truth_values_name_file_line_key() {
    let keys = ["COMPRESSION", "HONOR_CIPHER_ORDER", "DISABLE_TLS_1_2", "DISABLE_TLS_1_3"];
    let site = Site::pve();
    for wrong in ["yes", "true", "2", "on", "", " 1"] {
        site.legacy(&keys.map(|key| format!("{key}='{wrong}'\n")).concat());
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1, "{wrong}");
        for (index, key) in keys.iter().enumerate() {
            let start = format!("{}: {key}: must be 0 or 1, not '{wrong}'", place(&site, index + 1));
            assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{start}\n{outcome:?}");
        }
    }
}

#[test]
fn nothing_in_the_file_is_ever_run() {
    let site = Site::pve();
    let witness = site.path("/witness");
    for (wrong, line) in [
        (format!("POLICY=allow\nALLOW_FROM=$(touch {})\n", witness.display()), 2),
        (format!("ALLOW_FROM=`touch {}`\n", witness.display()), 1),
        (format!("\n\ntouch {}\n", witness.display()), 3),
        ("f() { :; }\n".to_owned(), 1),
        ("if true; then POLICY=deny; fi\n".to_owned(), 1),
        (". /etc/default/other\n".to_owned(), 1),
    ] {
        site.legacy(&wrong);
        let start = place(&site, line) + ": ";
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1, "{wrong}");
        assert!(outcome.stderr.lines().any(|said| said.starts_with(&start)), "{start} {outcome:?}");
        let outcome = Outcome::of(&mut Nodegate::prepared(&site, "pve", &[]));
        assert_eq!(outcome.code, 1, "{wrong}");
        assert!(outcome.stderr.lines().any(|said| said.starts_with(&start)), "{start} {outcome:?}");
        assert!(!witness.exists(), "{wrong} was run");
    }
}

/// A missing file is no error.
#[test]
fn an_empty_value_means_the_default() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    site.legacy("LISTEN_IP=\"\"\nALLOW_FROM=\nMAX_WORKERS=''\nCIPHERS=\nDHPARAMS=\n");
    let again = Outcome::check(&site, &[]);
    assert_eq!((again.code, &again.stdout), (0, &outcome.stdout));
    assert_eq!(again.setting("listen.address"), "listen.address = ::  (profile)");
    let empty = Outcome::check(&site, &["listen.address="]);
    assert_eq!(empty.setting("listen.address"), "listen.address = ::  (--set)");
}

//! Which pair is served, and what is said of one that cannot be.

use nodegate_standin::{Certificate, KeyKind};

use super::{certificate, s_client, served_name, upload};
use crate::support::{Nodegate, Outcome, Site};

#[test]
fn the_uploaded_pair_comes_first() {
    let site = Site::pve();
    assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "node1.example.com");
    upload(&site, &certificate("uploaded.example.com"));
    assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "uploaded.example.com");
    assert_eq!(Outcome::check(&site, &[]).code, 0);
}

#[test]
fn half_an_uploaded_pair_does_not_count() {
    for missing in ["/etc/pve/local/pveproxy-ssl.pem", "/etc/pve/local/pveproxy-ssl.key"] {
        let site = Site::pve();
        upload(&site, &certificate("uploaded.example.com"));
        std::fs::remove_file(site.path(missing)).unwrap();
        assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "node1.example.com");
        assert_eq!(Outcome::check(&site, &[]).code, 0, "{missing}");
    }
}

#[test]
fn tls_key_file_replaces_the_uploaded_key_only() {
    let site = Site::pve();
    site.legacy("TLS_KEY_FILE=/etc/pve/local/elsewhere.key\n");
    assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "node1.example.com");
    let pair = certificate("uploaded.example.com");
    site.write("/etc/pve/local/pveproxy-ssl.pem", pair.chain_pem());
    site.write("/etc/pve/local/elsewhere.key", pair.key_pem());
    assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "uploaded.example.com");
    assert_eq!(Outcome::check(&site, &[]).code, 0);
}

/// Loud in the log, and enough for `check` to fail.
fn assert_is_reported(site: &Site, gate: &Nodegate, message: &str) {
    let log = gate.stderr();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(message)), "{log}");
    let outcome = Outcome::check(site, &[]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains(message), "{outcome:?}");
}

/// nodegate logs it and serves the node's own pair.
#[test]
fn a_missing_named_key_falls_back() {
    let site = Site::pve();
    upload(&site, &certificate("uploaded.example.com"));
    site.legacy("TLS_KEY_FILE=/etc/pve/local/elsewhere.key\n");
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(served_name(gate.address()), "node1.example.com");
    let message = format!("{}: is missing", site.path("/etc/pve/local/elsewhere.key").display());
    assert_is_reported(&site, &gate, &message);
}

/// The ACME integration renews the certificate and its key, but never looks at `TLS_KEY_FILE`.
#[test]
fn a_mismatched_renewal_falls_back() {
    let site = Site::pve();
    upload(&site, &certificate("renewed.example.com"));
    site.write("/etc/pve/local/elsewhere.key", certificate("before.example.com").key_pem());
    site.legacy("TLS_KEY_FILE=/etc/pve/local/elsewhere.key\n");
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(served_name(gate.address()), "node1.example.com");
    let pem = site.path("/etc/pve/local/pveproxy-ssl.pem").display().to_string();
    let key = site.path("/etc/pve/local/elsewhere.key").display().to_string();
    let message = format!("{key}: the key does not belong to the certificate {pem}");
    assert_is_reported(&site, &gate, &message);
}

/// nodegate names each pair that it cannot serve.
#[test]
fn one_valid_pair_is_enough_to_start() {
    let good = certificate("uploaded.example.com");
    let weak = super::keys::weak_pair();
    let cases = [
        (
            good.chain_pem(),
            good.encrypted_key_pem("secret"),
            "pveproxy-ssl.key: the key has a pass phrase; a daemon cannot type one",
        ),
        (good.chain_pem(), "nonsense".to_owned(), "pveproxy-ssl.key: holds no private key in PEM form"),
        ("nonsense".to_owned(), good.key_pem(), "pveproxy-ssl.pem: holds no certificate in PEM form"),
        (String::new(), good.key_pem(), "pveproxy-ssl.pem: holds no certificate in PEM form"),
        (weak.0, weak.1, "pveproxy-ssl.pem: OpenSSL refuses it: ee key too small"),
    ];
    for (pem, key, message) in cases {
        let site = Site::pve();
        site.write("/etc/pve/local/pveproxy-ssl.pem", pem);
        site.write("/etc/pve/local/pveproxy-ssl.key", key);
        let gate = Nodegate::start(&site, &[]);
        assert_eq!(served_name(gate.address()), "node1.example.com", "{message}");
        assert!(
            gate.stderr().lines().any(|line| line.contains("ERROR") && line.contains(message)),
            "{}",
            gate.stderr()
        );
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1, "{message}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
    }
}

/// The message has every reason.
#[test]
fn without_valid_pair_the_start_fails() {
    let site = Site::pve();
    let pair = certificate("uploaded.example.com");
    site.write("/etc/pve/local/pveproxy-ssl.pem", pair.chain_pem());
    site.write("/etc/pve/local/pveproxy-ssl.key", pair.encrypted_key_pem("secret"));
    std::fs::remove_file(site.path("/etc/pve/local/pve-ssl.key")).unwrap();
    let run = Outcome::of(&mut Nodegate::prepared(&site, "pve", &[]));
    for outcome in [run, Outcome::check(&site, &[])] {
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("pveproxy-ssl.key: the key has a pass phrase"), "{outcome:?}");
        assert!(outcome.stderr.contains("/pve-ssl.key: is missing"), "{outcome:?}");
    }
    site.write("/etc/pve/local/pve-ssl.key", pair.key_pem());
    for name in ["pveproxy-ssl.pem", "pveproxy-ssl.key"] {
        std::fs::remove_file(site.path(&format!("/etc/pve/local/{name}"))).unwrap();
    }
    let mismatched = Outcome::check(&site, &[]).stderr;
    assert!(mismatched.contains("/pve-ssl.key: the key is of another kind"), "{mismatched}");
    assert!(!mismatched.contains("pveproxy-ssl"), "nobody has to write the other pair: {mismatched}");

    std::fs::remove_dir_all(site.path("/etc/pve/local")).unwrap();
    let outcome = Outcome::of(&mut Nodegate::prepared(&site, "pve", &[]));
    assert_eq!(outcome.code, 1);
    for name in ["pveproxy-ssl.pem: is missing; one certificate", "/pve-ssl.pem: is missing; one certificate"]
    {
        assert!(outcome.stderr.contains(name), "{outcome:?}");
    }
}

#[test]
fn the_whole_chain_is_sent() {
    let site = Site::pve();
    let said = s_client(Nodegate::start(&site, &[]).address(), &["-showcerts"]);
    assert_eq!(said.matches("-----BEGIN CERTIFICATE-----").count(), 2, "{said}");
    let leaf = std::fs::read_to_string(site.path("/etc/pve/local/pve-ssl.pem")).unwrap();
    for certificate in leaf.split_inclusive("-----END CERTIFICATE-----\n") {
        assert!(said.contains(certificate), "{said}");
    }
    let ca = Certificate::ca();
    site.write("/ca.pem", ca.certificate_pem());
    upload(&site, &ca.issue("uploaded.example.com", &[], KeyKind::Rsa2048));
    let file = site.path("/ca.pem");
    let said = s_client(Nodegate::start(&site, &[]).address(), &["-CAfile", file.to_str().unwrap()]);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
}

#[test]
fn mail_gateway_file_holds_key_and_certificate() {
    let site = Site::pmg();
    let ca = Certificate::ca();
    let pair = ca.issue("mail.example.com", &[], KeyKind::Rsa2048);
    site.write("/etc/pmg/pmg-api.pem", pair.combined_pem() + &ca.certificate_pem());
    let gate = Nodegate::start(&site, &[]);
    let said = s_client(gate.address(), &["-showcerts"]);
    assert_eq!(said.matches("-----BEGIN CERTIFICATE-----").count(), 2, "{said}");
    assert_eq!(served_name(gate.address()), "mail.example.com");
    site.write("/etc/pmg/pmg-api.pem", pair.chain_pem() + &pair.key_pem());
    assert_eq!(served_name(Nodegate::start(&site, &[]).address()), "mail.example.com", "in either order");
    site.write("/etc/pmg/pmg-api.pem", pair.certificate_pem());
    let outcome = Outcome::of(&mut Nodegate::prepared(&site, "pmg", &[]));
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("pmg-api.pem: holds no private key in PEM form"), "{outcome:?}");
}

#[test]
fn the_tunnel_needs_no_certificate() {
    let site = Site::pve();
    std::fs::remove_dir_all(site.path("/etc/pve/local")).unwrap();
    assert_eq!(Outcome::ask(&site, &["check", "spice"]).code, 0);
    Nodegate::start_profile(&site, "spice", &[]);
}

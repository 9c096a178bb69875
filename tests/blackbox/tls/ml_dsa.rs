//! Certificates with ML-DSA keys, which OpenSSL has since version 3.5.

use super::clients::curl;
use super::{common_name, has_post_quantum, s_client, served_name};
use crate::support::{Nodegate, Outcome, Site};

/// The certificate of `quantum.example.com`, valid for a hundred years.
const PEM: &str = include_str!("../../data/tls/ml-dsa-65.pem");
const KEY: &str = include_str!("../../data/tls/ml-dsa-65.key");
const REMEDY: &str = "use RSA of 2048 bits or more, or EC on P-256 or P-384";

/// OpenSSL serves it to programs. Browsers do not accept it.
#[test]
fn ml_dsa_keys_are_named_in_messages() {
    let site = Site::pve();
    site.write("/etc/pve/local/pveproxy-ssl.pem", PEM);
    site.write("/etc/pve/local/pveproxy-ssl.key", KEY);
    let check = Outcome::check(&site, &[]);
    let gate = Nodegate::start(&site, &[]);
    if has_post_quantum() {
        let pem = site.path("/etc/pve/local/pveproxy-ssl.pem").display().to_string();
        assert_eq!(check.code, 0, "{check:?}");
        check.complains(&format!(
            "{pem}: warning: most browsers cannot connect with it (ML-DSA-65); {REMEDY}"
        ));
        assert_eq!(served_name(gate.address()), "quantum.example.com");
        assert_eq!(curl(&gate, &[]), "404");
    } else {
        let key = site.path("/etc/pve/local/pveproxy-ssl.key").display().to_string();
        let message = format!(
            "{key}:1: the ML-DSA-65 key that begins here needs OpenSSL 3.5 or later, and this is OpenSSL 3."
        );
        assert_eq!(check.code, 1, "{check:?}");
        assert!(check.stderr.contains(&message) && check.stderr.contains(REMEDY), "{check:?}");
        assert_eq!(served_name(gate.address()), "node1.example.com");
    }
}

/// Each client gets the certificate that it can verify.
#[test]
fn an_ml_dsa_certificate_is_served_beside_rsa() {
    let site = Site::pve();
    site.write("/etc/nodegate/quantum.pem", format!("{KEY}{PEM}"));
    let gate = Nodegate::start(&site, &["tls.additional_certificates=/etc/nodegate/quantum.pem"]);
    let shown = |options: &[&str]| {
        common_name(&s_client(gate.address(), &[&["-servername", "quantum.example.com"], options].concat()))
    };
    let (own, quantum) = ("node1.example.com", "quantum.example.com");
    assert_eq!(shown(&[]), if has_post_quantum() { quantum } else { own });
    assert_eq!(served_name(gate.address()), own);
    if has_post_quantum() {
        let said = s_client(gate.address(), &["-servername", quantum]);
        assert!(said.contains("Peer signature type: mldsa65") && said.contains("HTTP/1.1 404 "), "{said}");
    } else {
        assert!(
            gate.stderr().contains("the ML-DSA-65 key that begins here needs OpenSSL 3.5"),
            "{}",
            gate.stderr()
        );
    }
}

//! Several certificates on one port: by name, by kind of key, renewed, about to end, and with what their CA says of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nodegate_standin::{Certificate, KeyKind};

use super::{common_name, s_client, served_name};
use crate::status::report;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Site};

const MORE: &str = "tls.additional_certificates=/etc/nodegate/first.pem,/etc/nodegate/second.pem";

/// Beside the node's own RSA certificate: one file with its key, and one with the key beside it.
fn site(first: &Certificate, second: &Certificate) -> Site {
    let site = Site::pve();
    site.write("/etc/nodegate/first.pem", first.key_pem() + &first.chain_pem());
    site.write("/etc/nodegate/second.pem", second.chain_pem());
    site.write("/etc/nodegate/second.key", second.key_pem());
    site
}

fn issue(name: &str, kind: KeyKind) -> Certificate {
    Certificate::ca().issue(name, &[], kind)
}

/// Common name and kind of key of what a client with these options is shown.
fn shown(address: SocketAddr, options: &[&str]) -> (String, &'static str) {
    let said = s_client(address, options);
    let kind = if said.contains("Server public key is 256 bit") { "ECDSA" } else { "RSA" };
    (common_name(&said), kind)
}

/// Without a match the client gets the profile's own.
#[test]
fn sni_selects_the_certificate() {
    let site = site(&issue("public.example.org", KeyKind::EcP256), &issue("*.example.net", KeyKind::EcP256));
    let gate = Nodegate::start(&site, &[MORE]);
    let cases = [
        ("public.example.org", "public.example.org"),
        ("PUBLIC.example.org", "public.example.org"),
        ("any.example.net", "*.example.net"),
        ("a.b.example.net", "node1.example.com"),
        ("elsewhere.example.org", "node1.example.com"),
        ("node1.example.com", "node1.example.com"),
    ];
    for (asked, name) in cases {
        assert_eq!(shown(gate.address(), &["-servername", asked]).0, name, "{asked}");
    }
    assert_eq!(shown(gate.address(), &["-noservername"]).0, "node1.example.com");
    let check = Outcome::check(&site, &[MORE]);
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stdout.contains("/etc/nodegate/first.pem: localhost, public.example.org"), "{check:?}");
}

#[test]
fn clients_get_a_usable_key_type() {
    let [first, second] = [KeyKind::Rsa2048, KeyKind::EcP256].map(|kind| issue("public.example.org", kind));
    let site = site(&first, &second);
    let gate = Nodegate::start(&site, &[MORE]);
    let asked =
        |more: &[&str]| shown(gate.address(), &[&["-servername", "public.example.org"], more].concat());
    assert_eq!(asked(&[]), ("public.example.org".to_owned(), "ECDSA"));
    assert_eq!(asked(&["-sigalgs", "rsa_pss_rsae_sha256"]), ("public.example.org".to_owned(), "RSA"));
    assert_eq!(asked(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]).1, "RSA");
    assert_eq!(asked(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]).1, "ECDSA");
    let chain = s_client(gate.address(), &["-servername", "public.example.org", "-showcerts"]);
    assert!(chain.contains(&second.chain_pem()[..400]), "{chain}");
    assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----").count(), 2, "each has its own chain: {chain}");
}

/// It is for the same names, and served to clients without SNI as well.
#[test]
fn ecdsa_beside_the_profiles_certificate_is_served() {
    let own = issue("node1.example.com", KeyKind::EcP256);
    let site = site(&own, &issue("public.example.org", KeyKind::EcP256));
    let gate = Nodegate::start(&site, &[MORE]);
    assert_eq!(shown(gate.address(), &["-noservername"]).1, "ECDSA");
    assert_eq!(shown(gate.address(), &["-noservername", "-sigalgs", "rsa_pss_rsae_sha256"]).1, "RSA");
    let outcome = Outcome::of(Command::new("sslscan").args(["--no-colour", &gate.address().to_string()]));
    for cipher in ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"] {
        assert!(outcome.stdout.contains(cipher), "{outcome:?}");
    }
}

/// The others are served.
#[test]
fn a_broken_pair_is_logged_once() {
    let site = site(&issue("public.example.org", KeyKind::EcP256), &issue("b.example.org", KeyKind::EcP256));
    site.write("/etc/nodegate/first.pem", issue("public.example.org", KeyKind::EcP256).chain_pem());
    site.write("/etc/nodegate/first.key", issue("c.example.org", KeyKind::EcP256).key_pem());
    let gate = Nodegate::start(&site, &[MORE]);
    assert_eq!(served_name(gate.address()), "node1.example.com");
    assert_eq!(shown(gate.address(), &["-servername", "b.example.org"]).0, "b.example.org");
    assert_eq!(shown(gate.address(), &["-servername", "public.example.org"]).0, "node1.example.com");
    let log = gate.stderr();
    assert_eq!(log.matches("the key does not belong to the certificate").count(), 1, "{log}");
    let check = Outcome::check(&site, &[MORE]);
    assert_eq!(check.code, 1);
    let key = site.path("/etc/nodegate/first.key").display().to_string();
    assert!(
        check.stderr.contains(&format!("--set: tls.additional_certificates: {key}: the key does not")),
        "{check:?}"
    );
}

/// Status names the end of each certificate.
#[test]
fn a_reload_serves_a_renewed_pair() {
    let first = Certificate::ca().issue_for_days("public.example.org", &[], KeyKind::EcP256, (-80, 10));
    let site = site(&first, &issue("b.example.org", KeyKind::EcP256));
    let gate = Nodegate::start(&site, &[MORE]);
    let warned = || {
        gate.stderr().lines().any(|line| {
            line.contains("WARN")
                && line.contains("first.pem: this certificate expires within 10 days: renew it")
        })
    };
    eventually("the end of a certificate is warned of", warned);
    assert_eq!(gate.stderr().matches("this certificate expires").count(), 1);
    let reported = report(&site, &gate, "pve");
    let reported = reported["certificates"].as_array().unwrap();
    assert_eq!(reported.len(), 3, "{reported:?}");
    assert!(reported[1]["names"].as_array().unwrap().contains(&"public.example.org".into()), "{reported:?}");
    let renewed = issue("renewed.example.org", KeyKind::EcP256);
    site.write("/etc/nodegate/first.pem", renewed.key_pem() + &renewed.chain_pem());
    gate.signal(Signal::SIGHUP);
    eventually("it is served", || {
        shown(gate.address(), &["-servername", "renewed.example.org"]).0 == "renewed.example.org"
    });
}

/// The response of a CA on a certificate by `openssl ocsp`, good for an hour from then: `+0` is now, `-1d` was
/// yesterday.
fn ocsp_answer(folder: &Path, ca: &Certificate, about: &Certificate, then: &str) -> Vec<u8> {
    std::fs::write(folder.join("ca.pem"), ca.certificate_pem()).unwrap();
    std::fs::write(folder.join("ca.key"), ca.key_pem()).unwrap();
    std::fs::write(folder.join("leaf.pem"), about.certificate_pem()).unwrap();
    let openssl = |arguments: &[&str]| {
        let outcome = Outcome::of(
            Command::new("faketime").args(["-f", then, "openssl"]).args(arguments).current_dir(folder),
        );
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.stdout
    };
    let serial = openssl(&["x509", "-in", "leaf.pem", "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    std::fs::write(folder.join("index"), format!("V\t351231235959Z\t\t{serial}\tunknown\t/CN=x\n")).unwrap();
    openssl(&["ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-reqout", "request"]);
    openssl(&[
        "ocsp", "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key", "-reqin",
        "request", "-respout", "answer", "-nmin", "60",
    ]);
    std::fs::read(folder.join("answer")).unwrap()
}

#[test]
fn matching_current_ocsp_responses_are_stapled() {
    let (ca, folder) = (Certificate::ca(), tempfile::tempdir().unwrap());
    let [first, other] =
        ["public.example.org", "b.example.org"].map(|name| ca.issue(name, &[], KeyKind::EcP256));
    let site = site(&first, &other);
    let good = ocsp_answer(folder.path(), &ca, &first, "+0");
    site.write("/etc/nodegate/first.ocsp", &good);
    let gate = Nodegate::start(&site, &[MORE]);
    let status = |gate: &Nodegate, name| s_client(gate.address(), &["-status", "-servername", name]);
    let said = status(&gate, "public.example.org");
    assert!(
        said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"),
        "{said}"
    );
    for name in ["b.example.org", "node1.example.com"] {
        assert!(status(&gate, name).contains("OCSP response: no response sent"), "{name}");
    }
    let foreign = Certificate::ca();
    let forged = ocsp_answer(folder.path(), &foreign, &first, "+0");
    let unfit = ocsp_answer(folder.path(), &ca, &other, "+0");
    let cases = [
        (unfit, "it is about another certificate"),
        (forged, "it is about another certificate"),
        (b"nonsense".to_vec(), "it is not a successful OCSP response in DER form"),
        (ocsp_answer(folder.path(), &ca, &first, "-1d"), "it has expired, or is not valid yet"),
    ];
    for (answer, why) in cases {
        site.write("/etc/nodegate/first.ocsp", answer);
        let check = Outcome::check(&site, &[MORE]);
        assert_eq!(check.code, 0, "{why}: {check:?}");
        assert!(check.stderr.contains(&format!("first.ocsp: warning: is not stapled: {why}")), "{check:?}");
        let gate = Nodegate::start(&site, &[MORE]);
        assert!(status(&gate, "public.example.org").contains("OCSP response: no response sent"), "{why}");
    }
    let gate = Nodegate::start(&site, &[MORE]);
    site.write("/etc/nodegate/first.ocsp", good);
    eventually("a new answer is taken up without a reload", || {
        status(&gate, "public.example.org").contains("Cert Status: good")
    });
}

//! Certificates that are complete and that ordinary clients cannot use, and files with unusual errors.

use std::process::Command;

use nodegate_standin::{Certificate, KeyKind};

use super::{certificate, served_name, upload};
use crate::support::{Nodegate, Outcome, Site};

const PEM: &str = "/etc/pve/local/pveproxy-ssl.pem";
const KEY: &str = "/etc/pve/local/pveproxy-ssl.key";

/// A self-signed pair whose key `openssl genpkey` makes, written at the site's own place.
fn make(site: &Site, genpkey: &str, name: &str) {
    let (pem, key) = (site.path(PEM), site.path(KEY));
    let script = format!(
        "set -e; openssl genpkey -out {key} {genpkey}\n\
         openssl req -x509 -new -key {key} -days 30 -subj /CN={name} -addext subjectAltName=DNS:{name} -out {pem}",
        key = key.display(),
        pem = pem.display()
    );
    let outcome = Outcome::of(Command::new("sh").args(["-c", &script]));
    assert_eq!(outcome.code, 0, "{genpkey}: {outcome:?}");
}

/// Parameters come first.
const DSA: &str = "-paramfile /dev/fd/3 3<<EOF\n$(openssl genpkey -genparam -algorithm DSA \
                   -pkeyopt dsa_paramgen_bits:2048 2>/dev/null)\nEOF\n";

/// The status that curl is answered with, and 000 where it cannot connect.
fn curl(gate: &Nodegate, options: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--insecure", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.args(["--max-time", "60"]).args(options).arg(format!("https://{}/x", gate.address()));
    Outcome::of(&mut command).stdout
}

/// OpenSSL with the curves and signatures that Chromium has.
fn as_a_browser(gate: &Nodegate) -> bool {
    let script = format!(
        "openssl s_client -connect {} -groups X25519:P-256:P-384 -sigalgs \
         ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:rsa_pkcs1_sha256:ecdsa_secp384r1_sha384:rsa_pss_rsae_sha384 \
         </dev/null 2>&1",
        gate.address()
    );
    let outcome = Outcome::of(Command::new("sh").args(["-c", &script]));
    outcome.stdout.contains("Server certificate")
}

/// OpenSSL has these curves for TLS 1.3 since version 3.2 (RFC 8734); browsers do not.
const BRAINPOOL: (&str, &str) =
    ("-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1", "EC on brainpoolP256r1");

fn programs_have_brainpool() -> bool {
    openssl::version::number() >= 0x3020_0000
}

#[test]
fn a_key_no_client_accepts_is_a_problem() {
    let brainpool = Some(BRAINPOOL).filter(|_| !programs_have_brainpool());
    let kinds = [("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "EC on secp256k1"), (DSA, "DSA")];
    for (genpkey, kind) in kinds.into_iter().chain(brainpool) {
        let site = Site::pve();
        make(&site, genpkey, "odd.example.com");
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 1, "{kind}: {outcome:?}");
        let message = format!(
            "{}: no ordinary client can connect with it ({kind}); use RSA of 2048 bits or more, or EC on P-256 or P-384",
            site.path(PEM).display()
        );
        outcome.complains(&message);
        let gate = Nodegate::start(&site, &[]);
        assert!(gate.stderr().lines().any(|line| line.contains("ERROR") && line.contains(&message)));
        assert_eq!(served_name(gate.address()), "node1.example.com", "the node's own pair is served instead");
        drop(gate);

        std::fs::remove_file(site.path("/etc/pve/local/pve-ssl.pem")).unwrap();
        let gate = Nodegate::start(&site, &[]);
        assert_eq!((curl(&gate, &[]), as_a_browser(&gate)), ("000".to_owned(), false), "{kind}");
    }
}

#[test]
fn a_key_few_clients_accept_is_a_warning() {
    let brainpool = Some(BRAINPOOL).filter(|_| programs_have_brainpool());
    let kinds = [
        ("-algorithm ED25519", "Ed25519"),
        ("-algorithm ED448", "Ed448"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "EC on secp521r1"),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "RSA-PSS"),
    ];
    for (genpkey, kind) in kinds.into_iter().chain(brainpool) {
        let site = Site::pve();
        make(&site, genpkey, "few.example.com");
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{kind}: {outcome:?}");
        let message = format!("warning: most browsers cannot connect with it ({kind}); use RSA of 2048 bits");
        assert!(outcome.stderr.contains(&message), "{kind}: {outcome:?}");
        let gate = Nodegate::start(&site, &[]);
        assert_eq!((curl(&gate, &[]).as_str(), as_a_browser(&gate)), ("404", false), "{kind}");
    }
}

#[test]
fn usual_keys_are_silent_unless_small() {
    for (genpkey, warning) in [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", ""),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", ""),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", ""),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
            "programs that use OpenSSL refuse it (RSA, 1024 bits)",
        ),
    ] {
        let site = Site::pve();
        make(&site, genpkey, "usual.example.com");
        let ciphers = "tls.ciphers=ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0";
        let outcome = Outcome::check(&site, &[ciphers]);
        let about = |line: &&str| line.contains(PEM);
        let said: Vec<_> = outcome.stderr.lines().filter(about).collect();
        assert_eq!((outcome.code, said.len()), (0, usize::from(!warning.is_empty())), "{outcome:?}");
        assert!(said.iter().all(|line| line.contains(warning)), "{said:?}");
        assert!(as_a_browser(&Nodegate::start(&site, &[ciphers])), "{genpkey}");
    }
}

#[test]
fn ciphers_unfit_for_the_key_are_named() {
    let site = Site::pve();
    upload(&site, &Certificate::ca().issue("ec.example.com", &[], KeyKind::EcP256));
    let sets = ["tls.ciphers=ECDHE-RSA-AES128-GCM-SHA256", "tls.disable_tls_1_3=1"];
    let outcome = Outcome::check(&site, &sets);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let message = "no ordinary client can connect with it (EC on prime256v1) and these versions and ciphers";
    assert!(outcome.stderr.contains(message), "{outcome:?}");
    let gate = Nodegate::start(&site, &sets);
    assert_eq!(served_name(gate.address()), "node1.example.com", "the RSA pair fits");
}

#[test]
fn check_log_and_status_name_half_pairs() {
    let cases = [(KEY, PEM, ""), (PEM, KEY, ""), (KEY, PEM, "/etc/pve/local/pveproxy.key")];
    for (missing, there, misnamed) in cases {
        let site = Site::pve();
        let pair = certificate("uploaded.example.com");
        upload(&site, &pair);
        std::fs::remove_file(site.path(missing)).unwrap();
        let mut warning = format!(
            "{}: warning: is not served: {} is missing",
            site.path(there).display(),
            site.path(missing).display()
        );
        if !misnamed.is_empty() {
            site.write(misnamed, pair.key_pem());
            let found = site.path(misnamed).display().to_string();
            warning = format!("{warning}; {found} fits: is it misnamed?");
        }
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.complains(&warning);
        let gate = Nodegate::start(&site, &[]);
        assert!(gate.stderr().lines().any(|line| line.contains("WARN") && line.contains(&warning)));
        let port = format!("listen.port={}", gate.port());
        let status = Outcome::ask(&site, &["--set", &port, "status", "pve"]);
        assert!(status.stdout.contains(&warning), "{status:?}");
        let report = crate::status::report(&site, &gate, "pve");
        assert_eq!(report["certificate_problems"], serde_json::json!([warning]));
    }
}

/// nodegate serves the pair then.
#[test]
fn a_key_that_follows_ends_the_warning() {
    let site = Site::pve();
    let pair = certificate("uploaded.example.com");
    site.write(PEM, pair.chain_pem());
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(served_name(gate.address()), "node1.example.com");
    site.write(KEY, pair.key_pem());
    crate::support::nodegate::eventually("the pair is served", || {
        served_name(gate.address()) == "uploaded.example.com"
    });
    crate::support::nodegate::eventually("nothing is wrong any more", || {
        crate::status::report(&site, &gate, "pve")["certificate_problems"] == serde_json::json!([])
    });
}

/// nodegate serves the old pair, so its status must not look as if the renewal was fine.
#[test]
fn a_refused_renewal_is_in_the_status() {
    let site = Site::pve();
    let [first, other] = ["uploaded.example.com"; 2].map(certificate);
    upload(&site, &first);
    let gate = Nodegate::start(&site, &[]);
    let problems = || crate::status::report(&site, &gate, "pve")["certificate_problems"].clone();
    let await_problems = |holds: &dyn Fn(&serde_json::Value) -> bool| {
        let until = std::time::Instant::now() + std::time::Duration::from_mins(2);
        while !holds(&problems()) {
            assert!(std::time::Instant::now() < until, "{}", problems());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    };
    assert_eq!(problems(), serde_json::json!([]));
    site.write(KEY, other.key_pem());
    let start = format!(
        "the certificate on disk cannot be served, serving the previous one: {}: ",
        site.path(KEY).display()
    );
    await_problems(&|found| found[0].as_str().is_some_and(|text| text.starts_with(&start)));
    assert_eq!(served_name(gate.address()), "uploaded.example.com");
    site.write(KEY, first.key_pem());
    await_problems(&|found| found == &serde_json::json!([]));
}

#[test]
fn wrong_files_name_the_line_and_the_cause() {
    let ca = Certificate::ca();
    let good = ca.issue("uploaded.example.com", &[], KeyKind::Rsa2048);
    let other = ca.issue("other.example.com", &[], KeyKind::EcP256);
    let (leaf, key) = (good.certificate_pem(), good.key_pem());
    let joined = format!("{}{}", leaf.trim_end(), ca.certificate_pem());
    let lines = leaf.lines().count();
    let der = openssl::x509::X509::from_pem(leaf.as_bytes()).unwrap().to_der().unwrap();
    let pem = |text: &str| text.as_bytes().to_vec();
    let cases = [
        (
            pem(&(ca.certificate_pem() + &leaf)),
            key.clone(),
            "pveproxy-ssl.pem: the first certificate must be the server's own, which is number 2 here"
                .to_owned(),
        ),
        (pem(&joined), key.clone(), format!("pveproxy-ssl.pem:{lines}: two blocks share this line")),
        (
            pem(&leaf.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            key.clone(),
            "pveproxy-ssl.pem:1: TRUSTED CERTIFICATE is not understood".to_owned(),
        ),
        (der, key.clone(), "pveproxy-ssl.pem: is a certificate in DER form".to_owned()),
        (
            pem(&key),
            leaf.clone(),
            "pveproxy-ssl.pem: holds no certificate in PEM form, but a block".to_owned(),
        ),
        (
            pem(&leaf),
            leaf.clone(),
            "pveproxy-ssl.key: holds no private key in PEM form, but a block CERTIFICATE in line 1"
                .to_owned(),
        ),
        (
            pem(&leaf),
            other.key_pem(),
            "pveproxy-ssl.key: the key is of another kind than that of the certificate".to_owned(),
        ),
    ];
    for (certificate, key, message) in cases {
        let site = Site::pve();
        site.write(PEM, certificate);
        site.write(KEY, key);
        let outcome = Outcome::check(&site, &[]);
        assert_eq!((outcome.code, outcome.stderr.contains(&message)), (1, true), "{message}\n{outcome:?}");
    }
    let site = Site::pve();
    site.write(PEM, format!("\u{feff}{}", good.chain_pem().replace('\n', "\r\n")));
    site.write(KEY, key.replace('\n', "\r\n"));
    let outcome = Outcome::check(&site, &[]);
    assert_eq!((outcome.code, outcome.stderr.contains(PEM)), (0, false), "line ends of Windows: {outcome:?}");
    site.write(PEM, leaf.clone() + &ca.certificate_pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains(&format!(":{}: TRUSTED CERTIFICATE is not understood", lines + 1)));
}

#[test]
fn certificates_out_of_time_are_named() {
    for (days, code, message) in [
        ((-10, -1), 1, "this certificate has expired and clients reject it: renew it"),
        ((-10, 3), 0, "warning: this certificate expires within 3 days: renew it"),
        ((2, 30), 0, "warning: this certificate is not valid before"),
    ] {
        let site = Site::pve();
        upload(&site, &Certificate::ca().issue_for_days("timed.example.com", &[], KeyKind::EcP256, days));
        let outcome = Outcome::check(&site, &[]);
        let line = format!("{}: {message}", site.path(PEM).display());
        assert!(outcome.stderr.lines().any(|said| said.starts_with(&line)), "{line}\n{outcome:?}");
        assert_eq!(outcome.code, code, "{outcome:?}");
    }
}

#[test]
fn chromium_agrees_about_the_kinds_of_keys() {
    for (genpkey, shown) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", true),
        ("-algorithm ED25519", false),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", false),
    ] {
        let site = Site::pve();
        make(&site, genpkey, "localhost");
        let gate = Nodegate::start(&site, &[]);
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]);
        chromium.arg(format!("--user-data-dir={}", profile.path().display()));
        chromium.args(["--dump-dom", &format!("https://localhost:{}/nothing", gate.port())]);
        let outcome = Outcome::of(&mut chromium);
        assert_eq!(outcome.stdout.contains("/nothing"), shown, "{genpkey}: {outcome:?}");
    }
}

//! Cipher lists, their order, and Diffie-Hellman parameters.

use openssl::bn::BigNum;
use openssl::dh::Dh;

use super::keys::parameters;
use super::{s_client, shakes_hands};
use crate::support::{Nodegate, Outcome, Site};

fn negotiated(said: &str) -> &str {
    let (_, rest) = said.split_once("Cipher is ").unwrap_or_else(|| panic!("{said}"));
    rest.lines().next().unwrap()
}

#[test]
fn only_the_documented_ciphers_are_offered_by_default() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for good in ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA256"] {
        assert!(shakes_hands(gate.address(), &["-tls1_2", "-cipher", good]), "{good}");
    }
    for bad in ["AES256-GCM-SHA384", "DHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA"] {
        assert!(!shakes_hands(gate.address(), &["-tls1_2", "-cipher", bad]), "{bad}");
    }
}

#[test]
fn ciphers_decides_for_tls_1_2() {
    let site = Site::pve();
    site.legacy("CIPHERS=ECDHE-RSA-AES128-GCM-SHA256:AES256-GCM-SHA384\n");
    let gate = Nodegate::start(&site, &[]);
    assert!(shakes_hands(gate.address(), &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]));
    assert!(shakes_hands(gate.address(), &["-tls1_2", "-cipher", "AES256-GCM-SHA384"]));
    assert!(!shakes_hands(gate.address(), &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"]));
    assert!(shakes_hands(gate.address(), &["-tls1_3"]), "TLS 1.3 has a setting of its own");
}

#[test]
fn ciphersuites_decides_for_tls_1_3() {
    let site = Site::pve();
    site.legacy("CIPHERSUITES=TLS_AES_128_GCM_SHA256\n");
    let gate = Nodegate::start(&site, &[]);
    assert!(shakes_hands(gate.address(), &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]));
    assert!(!shakes_hands(gate.address(), &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"]));
    assert!(shakes_hands(gate.address(), &["-tls1_2"]), "TLS 1.2 has a setting of its own");
}

#[test]
fn lists_that_openssl_does_not_understand_are_errors() {
    let site = Site::pve();
    let outcome = Outcome::check(&site, &["tls.ciphers=NO-SUCH-CIPHER", "tls.ciphersuites=NO_SUCH_SUITE"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("--set: tls.ciphers: no usable cipher in CIPHERS: no cipher match"),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("--set: tls.ciphersuites: CIPHERSUITES is not understood: "),
        "{outcome:?}"
    );
}

#[test]
fn honor_cipher_order_selects_whose_preference_counts() {
    let site = Site::pve();
    let lists = "CIPHERS=ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256\n\
                 CIPHERSUITES=TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256\n";
    let old = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"];
    let new = ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"];
    for (order, bits) in [("", "256"), ("HONOR_CIPHER_ORDER=1\n", "256"), ("HONOR_CIPHER_ORDER=0\n", "128")] {
        site.legacy(&format!("{lists}{order}"));
        let gate = Nodegate::start(&site, &[]);
        for options in [old, new] {
            let said = s_client(gate.address(), &options);
            assert!(negotiated(&said).contains(bits), "{order} {options:?}: {}", negotiated(&said));
        }
    }
}

/// The hexadecimal digits of all messages that `-msg` shows.
fn messages(said: &str) -> String {
    let lines = said.lines().filter(|line| line.starts_with("    ")).map(str::trim);
    let bytes = lines.flat_map(|line| line.split(' '));
    bytes.filter(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit())).collect()
}

const DHE: [&str; 4] = ["-tls1_2", "-msg", "-cipher", "DHE-RSA-AES256-GCM-SHA384"];

#[test]
fn dhe_uses_built_in_or_file_parameters() {
    let site = Site::pve();
    let ciphers = "tls.ciphers=DHE-RSA-AES256-GCM-SHA384";
    let built_in = Dh::params_from_pem(include_bytes!("../../../src/tls/skip2048.pem")).unwrap();
    let built_in = built_in.prime_p().to_hex_str().unwrap().to_string().to_lowercase();
    let gate = Nodegate::start(&site, &[ciphers]);
    let said = s_client(gate.address(), &DHE);
    assert!(said.contains(" Temp Key: DH, 2048 bits"), "{said}");
    assert!(messages(&said).contains(&built_in), "the prime of skip2048");

    let (pem, prime) = parameters(BigNum::get_rfc3526_prime_3072().unwrap());
    site.write("/etc/ssl/dh.pem", pem);
    site.legacy("DHPARAMS=/etc/ssl/dh.pem\n");
    let gate = Nodegate::start(&site, &[ciphers]);
    let said = s_client(gate.address(), &DHE);
    assert!(said.contains(" Temp Key: DH, 3072 bits"), "{said}");
    assert!(messages(&said).contains(&prime), "the prime of the file");

    let (pem, prime) = parameters(BigNum::get_rfc3526_prime_2048().unwrap());
    site.write("/etc/ssl/dh.pem", pem);
    let gate = Nodegate::start(&site, &[ciphers]);
    let said = s_client(gate.address(), &DHE);
    assert!(said.contains(" Temp Key: DH, 2048 bits"), "{said}");
    assert!(messages(&said).contains(&prime) && !messages(&said).contains(&built_in));
}

#[test]
fn dhparams_that_cannot_be_used_are_an_error() {
    let site = Site::pve();
    let file = site.path("/dh.pem").display().to_string();
    let (short, _) = parameters(BigNum::get_rfc2409_prime_1024().unwrap());
    let cases = [
        (None, format!("{file}: No such file or directory")),
        (Some("nonsense".to_owned()), format!("{file}: holds no DH parameters in PEM form")),
        (Some(short), format!("{file}: dh key too small")),
    ];
    for (content, message) in cases {
        if let Some(content) = content {
            site.write("/dh.pem", content);
        }
        let start = format!("--set: tls.dhparams: {message}");
        let run = Outcome::of(&mut Nodegate::prepared(&site, "pve", &["tls.dhparams=/dh.pem"]));
        for outcome in [run, Outcome::check(&site, &["tls.dhparams=/dh.pem"])] {
            assert_eq!(outcome.code, 1);
            assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{start}\n{outcome:?}");
        }
    }
}

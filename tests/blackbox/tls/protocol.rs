//! Versions, renegotiation, resumption, ALPN, and the system's own OpenSSL settings.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::{s_client, shakes_hands};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Site};

/// Lets `openssl s_client` offer what it would refuse by itself.
const OLD: [&str; 2] = ["-cipher", "ALL:@SECLEVEL=0"];

#[test]
fn only_tls_1_2_and_1_3() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for good in ["-tls1_2", "-tls1_3"] {
        assert!(shakes_hands(gate.address(), &[good]), "{good}");
    }
    let lax = Nodegate::start(&site, &["tls.ciphers=ALL:@SECLEVEL=0"]);
    for (gate, bad) in [(&gate, "-tls1"), (&gate, "-tls1_1"), (&lax, "-tls1"), (&lax, "-tls1_1")] {
        let told = s_client(gate.address(), &[bad, OLD[0], OLD[1]]);
        assert!(told.contains("alert protocol version"), "{bad}: {told}");
    }
    let told = Outcome::check(&site, &["tls.ciphers=ALL:@SECLEVEL=0"]);
    assert_eq!(told.code, 0);
    told.complains(
        "--set: tls.ciphers: warning: @SECLEVEL=0 allows keys and signatures that are easy to forge; TLS 1.2 stays the \
         lowest version",
    );
}

/// Both cannot.
#[test]
fn one_tls_version_can_be_disabled() {
    let site = Site::pve();
    for (key, gone, left) in
        [("DISABLE_TLS_1_2", "-tls1_2", "-tls1_3"), ("DISABLE_TLS_1_3", "-tls1_3", "-tls1_2")]
    {
        site.legacy(&format!("{key}=1\n"));
        let gate = Nodegate::start(&site, &[]);
        assert!(!shakes_hands(gate.address(), &[gone]), "{key}");
        assert!(shakes_hands(gate.address(), &[left]), "{key}");
        site.legacy(&format!("{key}=0\n"));
        assert!(shakes_hands(Nodegate::start(&site, &[]).address(), &[gone]), "{key}=0");
    }
    site.legacy("DISABLE_TLS_1_2=1\nDISABLE_TLS_1_3=1\n");
    let line = format!(
        "{}:2: DISABLE_TLS_1_3 (tls.disable_tls_1_3): TLS 1.2 and TLS 1.3 are both disabled: no client could connect",
        site.path("/etc/default/pveproxy").display()
    );
    for outcome in [Outcome::of(&mut Nodegate::prepared(&site, "pve", &[])), Outcome::check(&site, &[])] {
        assert_eq!(outcome.code, 1);
        outcome.complains(&line);
    }
}

#[test]
fn a_client_cannot_renegotiate() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let address = gate.address().to_string();
    let mut client = Command::new("timeout")
        .args(["60", "openssl", "s_client", "-tls1_2", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The line that asks for it; the pipe stays open, so that only a refusal can end the client.
    client.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = client.wait().unwrap();
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    assert_eq!(status.code(), Some(1), "{said}");
    let said = s_client(gate.address(), &["-tls1_2"]);
    assert!(
        said.contains("Secure Renegotiation IS supported"),
        "the safe form is announced all the same: {said}"
    );
}

#[test]
fn nothing_is_compressed_by_tls() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(gate.address(), &[version, "-comp"]);
        assert!(said.contains("Compression: NONE"), "{said}");
    }
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let file = site.path("/session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(gate.address(), &[version, "-sess_out", &file]);
        assert!(said.contains("New, TLSv1."), "{said}");
        for _ in 0..3 {
            let said = s_client(gate.address(), &[version, "-sess_in", &file]);
            assert!(said.contains("Reused, TLSv1."), "{version}: {said}");
            assert!(said.contains("HTTP/1.1 404 "), "{said}");
        }
    }
}

/// A ticket of TLS 1.3 is for one use: each connection gives one for the next.
#[test]
fn a_resumed_session_can_resume_again() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let file = |number: i32| site.path(&format!("/session{number}")).display().to_string();
    s_client(gate.address(), &["-tls1_3", "-sess_out", &file(0)]);
    for number in 0..4 {
        let files = ["-tls1_3", "-sess_in", &file(number), "-sess_out", &file(number + 1)];
        let said = s_client(gate.address(), &files);
        assert!(said.contains("Reused, TLSv1.3"), "{number}: {said}");
    }
}

/// An attacker who saw bytes sent before the end of the handshake could send them again.
#[test]
fn early_data_is_not_taken() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (session, early) = (site.path("/session").display().to_string(), site.path("/early"));
    std::fs::write(&early, "GET /early HTTP/1.1\r\nHost: node1\r\n\r\n").unwrap();
    let said = s_client(gate.address(), &["-tls1_3", "-sess_out", &session]);
    assert!(said.contains("Max Early Data: 0"), "{said}");
    let early = early.display().to_string();
    let said = s_client(gate.address(), &["-tls1_3", "-sess_in", &session, "-early_data", &early]);
    assert!(said.contains("Reused, TLSv1.3") && said.contains("Early data was not sent"), "{said}");
    assert!(said.contains("HTTP/1.1 404 "), "{said}");
    eventually("the log is written", || site.access_log().contains("GET /x"));
    assert!(!site.access_log().contains("/early"));
}

#[test]
fn alpn_offers_only_http_1_1() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for (offered, chosen) in [
        ("h2,http/1.1", "ALPN protocol: http/1.1"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("h2", "No ALPN negotiated"),
        ("http/1.0", "No ALPN negotiated"),
    ] {
        let said = s_client(gate.address(), &["-alpn", offered]);
        assert!(said.contains(chosen) && said.contains("HTTP/1.1 404 "), "{offered}: {said}");
    }
    assert!(s_client(gate.address(), &[]).contains("No ALPN negotiated"));
}

#[test]
fn the_systems_openssl_settings_are_in_effect() {
    let site = Site::pve();
    let settings =
        |line: &str| format!("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n{line}\n");
    site.write("/strict.cnf", settings("MinProtocol = TLSv1.3"));
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(command.env("OPENSSL_CONF", site.path("/strict.cnf")));
    assert!(!shakes_hands(gate.address(), &["-tls1_2"]));
    assert!(shakes_hands(gate.address(), &["-tls1_3"]));
    site.write("/groups.cnf", settings("Groups = P-384"));
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(command.env("OPENSSL_CONF", site.path("/groups.cnf")));
    assert!(shakes_hands(gate.address(), &["-groups", "P-384"]));
    assert!(!shakes_hands(gate.address(), &["-groups", "X25519"]));
}

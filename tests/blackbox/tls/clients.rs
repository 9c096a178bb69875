//! Certificates that clients show.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use nodegate_standin::Certificate;
use serde_json::Value;

use super::s_client;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Site};

pub(super) const CA: &str = "tls.client_ca=/etc/nodegate/clients.pem";
pub(super) const REQUIRED: &str = "tls.client_certificates=required";
const OPTIONAL: &str = "tls.client_certificates=optional";

/// A CA whose certificate the site has, and the file of a client's certificate with its key.
pub(crate) struct People {
    pub(crate) site: Site,
    folder: tempfile::TempDir,
}

impl People {
    pub(crate) fn new() -> Self {
        let (site, folder) = (Site::pve(), tempfile::tempdir().unwrap());
        let people = Self { site, folder };
        people.site.write("/etc/nodegate/clients.pem", people.authority("ca").certificate_pem());
        people
    }

    pub(super) fn authority(&self, name: &str) -> Certificate {
        let authority = Certificate::ca();
        std::fs::write(self.path(&format!("{name}.pem")), authority.certificate_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), authority.key_pem()).unwrap();
        authority
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client's certificate as `openssl` makes it, and its key.
    pub(crate) fn person(&self, name: &str, authority: &str) -> [String; 2] {
        let [certificate, key] = ["pem", "key"].map(|end| format!("{name}-{authority}.{end}"));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "9",
        ]);
        command.args(["-CA", &format!("{authority}.pem"), "-CAkey", &format!("{authority}.key")]);
        command.args(["-subj", &format!("/O=Example/CN={name}"), "-out", &certificate, "-keyout", &key]);
        let outcome = Outcome::of(command.current_dir(self.folder.path()));
        assert_eq!(outcome.code, 0, "{outcome:?}");
        [certificate, key].map(|file| self.path(&file).to_str().unwrap().to_owned())
    }

    fn lines(&self, count: usize) -> Vec<Value> {
        eventually("the lines are there", || self.site.access_log().lines().count() >= count);
        self.site.access_log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// As `openssl` tells it.
fn fingerprint(certificate: &str) -> String {
    let mut command = Command::new("openssl");
    let outcome =
        Outcome::of(command.args(["x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"]));
    outcome.stdout.trim().rsplit('=').next().unwrap().to_owned()
}

/// The status that curl is answered with, 000 without a handshake.
pub(super) fn curl(gate: &Nodegate, options: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args([
        "--insecure",
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--max-time",
        "60",
    ]);
    command.args(options).arg(format!("https://{}/x", gate.address()));
    Outcome::of(&mut command).stdout
}

/// Only those of the CA are accepted, and the log names them.
#[test]
fn required_client_certificates_are_enforced() {
    let people = People::new();
    people.authority("other");
    let [alice, mallory] = [people.person("alice", "ca"), people.person("mallory", "other")];
    let gate = Nodegate::start(&people.site, &[CA, REQUIRED, "log.format=json"]);
    assert_eq!(curl(&gate, &["--cert", &alice[0], "--key", &alice[1]]), "404");
    for tls in ["--tlsv1.3", "--tls-max"] {
        let version: &[&str] = if tls == "--tls-max" { &[tls, "1.2"] } else { &[tls] };
        assert_eq!(curl(&gate, version), "000", "without any");
        let shown = [&["--cert", &mallory[0], "--key", &mallory[1]], version].concat();
        assert_eq!(curl(&gate, &shown), "000", "of another CA");
    }
    for reason in ["it showed none", "it is of another CA, has expired, or is revoked"] {
        let rejected = format!("client certificate rejected: {reason}");
        let is_it = |line: &str| line.contains(" WARN ") && line.contains(&rejected);
        eventually(&rejected, || gate.stderr().lines().filter(|line| is_it(line)).count() == 2);
    }
    let line = &people.lines(1)[0];
    assert_eq!(line["client_subject"], "O=Example,CN=alice");
    assert_eq!(line["client_fingerprint"], fingerprint(&alice[0]));
    assert_eq!(people.site.access_log().lines().count(), 1);
    assert!(gate.stderr().contains("O=Example,CN=alice"), "{}", gate.stderr());
    let mut plain = Command::new("curl");
    plain.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"]);
    let redirected = Outcome::of(plain.arg(format!("http://{}/x", gate.address()))).stdout;
    assert_eq!(redirected, format!("301 https://{}/x", gate.address()));
}

/// A client without certificate is served.
#[test]
fn optional_certificates_still_have_to_verify() {
    let people = People::new();
    people.authority("other");
    let [alice, mallory] = [people.person("alice", "ca"), people.person("mallory", "other")];
    let gate = Nodegate::start(&people.site, &[CA, OPTIONAL, "log.format=json"]);
    assert_eq!(curl(&gate, &[]), "404");
    assert_eq!(people.lines(1)[0]["client_subject"], Value::Null);
    assert_eq!(curl(&gate, &["--cert", &alice[0], "--key", &alice[1]]), "404");
    assert_eq!(people.lines(2)[1]["client_subject"], "O=Example,CN=alice");
    assert_eq!(curl(&gate, &["--cert", &mallory[0], "--key", &mallory[1]]), "000");
}

/// Until then a session resumes with its certificate.
#[test]
fn changed_cas_invalidate_resumed_sessions() {
    let people = People::new();
    let [certificate, key] = people.person("alice", "ca");
    let gate = Nodegate::start(&people.site, &[CA, REQUIRED, "log.format=json"]);
    let session = people.path("session").to_str().unwrap().to_owned();
    let first = s_client(gate.address(), &["-cert", &certificate, "-key", &key, "-sess_out", &session]);
    assert!(first.contains("HTTP/1.1 404 "), "{first}");
    let again = s_client(gate.address(), &["-sess_in", &session]);
    assert!(again.contains("Reused, ") && again.contains("HTTP/1.1 404 "), "{again}");
    assert_eq!(people.lines(2)[1]["client_subject"], "O=Example,CN=alice");

    people.site.write("/etc/nodegate/clients.pem", people.authority("next").certificate_pem());
    gate.signal(Signal::SIGHUP);
    eventually("reloaded", || gate.stderr().contains("reloaded"));
    let later = s_client(gate.address(), &["-sess_in", &session]);
    assert!(!later.contains("HTTP/1.1 404 ") && !later.contains("Reused, "), "{later}");
    let bob = people.person("bob", "next");
    assert_eq!(curl(&gate, &["--cert", &bob[0], "--key", &bob[1]]), "404");
}

#[test]
fn without_cas_no_certificate_is_requested() {
    let people = People::new();
    let check = Outcome::check(&people.site, &[REQUIRED]);
    assert_eq!(check.code, 1);
    check.complains(
        "--set: tls.client_certificates: without tls.client_ca no certificate of a client can be verified",
    );
    people.site.write("/etc/nodegate/clients.pem", "nonsense");
    let check = Outcome::check(&people.site, &[REQUIRED, CA]);
    assert_eq!(check.code, 1);
    let file = people.site.path("/etc/nodegate/clients.pem").display().to_string();
    check.complains(&format!("--set: tls.client_ca: {file}: holds no certificate in PEM form"));
    let asked = s_client(Nodegate::start(&people.site, &[]).address(), &[]);
    assert!(asked.contains("No client certificate CA names sent"), "{asked}");
}

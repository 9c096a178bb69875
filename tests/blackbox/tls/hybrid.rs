//! The key exchange that OpenSSL has since version 3.5: X25519 with ML-KEM-768. With an older OpenSSL the same clients
//! get X25519.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContextBuilder, SslMethod};

use super::clients::{CA, People, REQUIRED};
use super::{group, has_post_quantum, s_client};
use crate::support::{Nodegate, Outcome, Site};

/// More bytes than a `ClientHello` with classical groups has.
const HYBRID_HELLO_BYTES: usize = 1200;

/// The group of a client without wishes.
fn expected() -> &'static str {
    if has_post_quantum() { "X25519MLKEM768" } else { "X25519" }
}

/// The group of an answered request.
#[track_caller]
fn negotiated(gate: &Nodegate, options: &[&str]) -> String {
    let said = s_client(gate.address(), options);
    assert!(said.contains("HTTP/1.1 404 "), "{options:?}: {said}");
    group(&said).to_owned()
}

#[test]
fn clients_get_the_hybrid_group() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(negotiated(&gate, &[]), expected());
    assert_eq!(negotiated(&gate, &["-groups", expected()]), expected());
    for classical in ["X25519", "P-384"] {
        let group = negotiated(&gate, &["-tls1_3", "-groups", classical]);
        assert!(group == classical || group == "ECDH", "{classical}: {group}");
    }
    assert_eq!(negotiated(&gate, &["-tls1_2"]), "X25519");
}

/// A client that begins with X25519 is asked for the hybrid group, whichever order of ciphers counts.
#[test]
fn both_cipher_orders_take_the_hybrid_group() {
    let site = Site::pve();
    let offered = format!("X25519:{}", expected());
    let offered = if has_post_quantum() { offered.as_str() } else { "X25519:P-256" };
    for order in ["HONOR_CIPHER_ORDER=1\n", "HONOR_CIPHER_ORDER=0\n"] {
        site.legacy(order);
        let gate = Nodegate::start(&site, &[]);
        assert_eq!(negotiated(&gate, &[]), expected(), "{order}");
        assert_eq!(negotiated(&gate, &["-groups", offered]), expected(), "{order}");
    }
}

/// A resumed session makes a new key exchange.
#[test]
fn resumed_sessions_use_the_hybrid_group() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let file = |number: usize| site.path(&format!("/session{number}")).display().to_string();
    assert_eq!(negotiated(&gate, &["-sess_out", &file(0)]), expected());
    for number in 0..3 {
        let said = s_client(gate.address(), &["-sess_in", &file(number), "-sess_out", &file(number + 1)]);
        assert!(said.contains("Reused, TLSv1.3") && said.contains("HTTP/1.1 404 "), "{said}");
        assert_eq!(group(&said), expected());
    }
    let said = s_client(gate.address(), &["-sess_in", &file(3), "-groups", "X25519"]);
    assert!(said.contains("Reused, TLSv1.3") && said.contains("HTTP/1.1 404 "), "{said}");
    assert_eq!(group(&said), "X25519");
}

#[test]
fn client_certificates_work_with_the_hybrid_group() {
    let people = People::new();
    let [certificate, key] = people.person("alice", "ca");
    let gate = Nodegate::start(&people.site, &[CA, REQUIRED]);
    let session = people.path("session").to_str().unwrap().to_owned();
    let shown = ["-cert", certificate.as_str(), "-key", &key, "-groups", expected(), "-sess_out", &session];
    assert_eq!(negotiated(&gate, &shown), expected());
    let said = s_client(gate.address(), &["-sess_in", &session, "-groups", expected()]);
    assert!(said.contains("Reused, TLSv1.3") && said.contains("HTTP/1.1 404 "), "{said}");
    let said = s_client(gate.address(), &["-groups", expected()]);
    assert!(!said.contains("HTTP/1.1 404 "), "without a certificate: {said}");
}

/// A client that sends its bytes in small pieces.
#[derive(Debug)]
struct SlowStream {
    stream: TcpStream,
    sent: usize,
}

impl Read for SlowStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for SlowStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(10));
        let sent = self.stream.write(&bytes[..bytes.len().min(150)])?;
        self.sent += sent;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The first message of a hybrid handshake does not fit in a segment.
#[test]
fn a_client_hello_in_pieces_is_accepted() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let stream = TcpStream::connect(gate.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let context = SslContextBuilder::new(SslMethod::tls_client()).unwrap().build();
    let mut client = Ssl::new(&context)
        .unwrap()
        .connect(SlowStream { stream, sent: 0 })
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(client.get_ref().sent > HYBRID_HELLO_BYTES, has_post_quantum(), "{}", client.get_ref().sent);
    client.write_all(super::REQUEST).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

/// With only this group, and no warning from `check` about it.
#[test]
fn real_clients_have_the_hybrid_group() {
    let site = Site::pve();
    let settings = format!(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nGroups = {}\n",
        expected()
    );
    site.write("/hybrid.cnf", settings);
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(command.env("OPENSSL_CONF", site.path("/hybrid.cnf")));
    assert!(!gate.stderr().contains("cannot connect"), "{}", gate.stderr());
    assert_eq!(super::clients::curl(&gate, &[]), "404");
    let profile = tempfile::tempdir().unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.args(["--dump-dom", &format!("https://localhost:{}/nothing", gate.port())]);
    let outcome = Outcome::of(&mut chromium);
    assert!(outcome.stdout.contains("/nothing"), "{outcome:?}");
}

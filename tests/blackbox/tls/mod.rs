//! TLS as real clients see it.

mod certificates;
mod ciphers;
pub(crate) mod clients;
mod keys;
mod nginx;
mod plain;
mod protocol;
mod revoked;
mod scanners;
mod several;
mod usability;

use std::net::SocketAddr;
use std::process::Command;

use nodegate_standin::{Certificate, KeyKind};

use crate::support::{Outcome, Site};

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n";

/// The output of `openssl s_client` about a connection on which one request is answered.
fn s_client(address: SocketAddr, options: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl", "s_client", "-ign_eof", "-connect", &address.to_string()]).args(options);
    let outcome = Outcome::with_input(&mut command, REQUEST);
    outcome.stdout + &outcome.stderr
}

/// Whether the handshake of `openssl s_client` comes to something, and an answer with it.
#[track_caller]
fn shakes_hands(address: SocketAddr, options: &[&str]) -> bool {
    let said = s_client(address, options);
    let (answered, refused) = (said.contains("HTTP/1.1 404 "), said.contains("Cipher is (NONE)"));
    assert!(answered != refused, "{options:?}: {said}");
    answered
}

/// Another certificate of a separate CA, under a name to know it by.
fn certificate(name: &str) -> Certificate {
    Certificate::ca().issue(name, &[], KeyKind::EcP256)
}

/// The common name of the certificate that is served.
fn served_name(address: SocketAddr) -> String {
    let said = s_client(address, &[]);
    let subject = said.lines().find(|line| line.starts_with("subject=")).unwrap_or_else(|| panic!("{said}"));
    subject.rsplit("CN = ").next().unwrap().trim().to_owned()
}

/// The pair that an admin uploads beside the one that every node has.
fn upload(site: &Site, pair: &Certificate) {
    site.write("/etc/pve/local/pveproxy-ssl.pem", pair.chain_pem());
    site.write("/etc/pve/local/pveproxy-ssl.key", pair.key_pem());
}

//! TLS as real clients see it.

mod certificates;
mod ciphers;
pub(crate) mod clients;
mod hybrid;
mod keys;
mod ml_dsa;
mod nginx;
mod openssl_conf;
mod plain;
mod protocol;
mod records;
mod revoked;
mod scanners;
mod several;
mod usability;

use std::net::SocketAddr;
use std::process::Command;

use nodegate_standin::{Certificate, KeyKind};
use openssl::ssl::{SslContextBuilder, SslMethod};

use crate::support::{Outcome, Site, debian};

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
    common_name(&s_client(address, &[]))
}

/// The common name in the subject that `openssl s_client` prints. OpenSSL 3.0 puts blanks around `=`, 3.5 does not.
fn common_name(said: &str) -> String {
    let subject = said.lines().find(|line| line.starts_with("subject=")).unwrap_or_else(|| panic!("{said}"));
    subject.rsplit("CN").next().unwrap().trim_start_matches([' ', '=']).trim_end().to_owned()
}

/// The group of the key exchange, which OpenSSL 3.5 prints in two ways and 3.0 in a third.
fn group(said: &str) -> &str {
    let named = |line| {
        ["Negotiated TLS1.3 group: ", "Peer Temp Key: ", "Server Temp Key: "]
            .iter()
            .find_map(|start| str::strip_prefix(line, start))
    };
    let group = said.lines().find_map(named).unwrap_or_else(|| panic!("{said}"));
    group.split(',').next().unwrap()
}

/// Whether the OpenSSL that nodegate and this test link has X25519MLKEM768 and ML-DSA.
fn has_post_quantum() -> bool {
    let mut context = SslContextBuilder::new(SslMethod::tls()).unwrap();
    let has = context.set_groups_list("X25519MLKEM768").is_ok();
    assert!(has || debian() < 13, "{} of Debian 13 lacks X25519MLKEM768", openssl::version::version());
    has
}

/// The pair that an admin uploads beside the one that every node has.
fn upload(site: &Site, pair: &Certificate) {
    site.write("/etc/pve/local/pveproxy-ssl.pem", pair.chain_pem());
    site.write("/etc/pve/local/pveproxy-ssl.key", pair.key_pem());
}

//! Certificates with Proxmox's subjects, made on the spot.

use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name};

use crate::keys::write;

const DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Rsa2048,
    EcP256,
}

#[derive(Clone, Debug)]
pub struct Certificate {
    leaf: X509,
    key: PKey<Private>,
    issuer: Option<X509>,
}

impl Certificate {
    pub fn ca() -> Self {
        let subject = name(&[
            ("CN", "Proxmox Virtual Environment"),
            ("OU", "4f0a8a5e-0000-4000-8000-000000000001"),
            ("O", "PVE Cluster Manager CA"),
        ]);
        let key = new_key(KeyKind::Rsa2048);
        let mut builder = builder(&subject, &key, -1, 3650);
        builder.set_issuer_name(&subject).unwrap();
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
        let usage = KeyUsage::new().key_cert_sign().crl_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(identifier).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { leaf: builder.build(), key, issuer: None }
    }

    /// A node's certificate; `localhost`, `127.0.0.1`, `::1` and the common name are always among its names.
    #[must_use]
    pub fn issue(&self, common_name: &str, sans: &[&str], kind: KeyKind) -> Self {
        self.issue_for_days(common_name, sans, kind, (-1, 825))
    }

    /// Valid from and until so many days from now: `(-10, -1)` has run out.
    #[must_use]
    pub fn issue_for_days(
        &self,
        common_name: &str,
        sans: &[&str],
        kind: KeyKind,
        (from, until): (i64, i64),
    ) -> Self {
        let subject =
            name(&[("OU", "PVE Cluster Node"), ("O", "Proxmox Virtual Environment"), ("CN", common_name)]);
        let key = new_key(kind);
        let mut builder = builder(&subject, &key, from, until);
        builder.set_issuer_name(self.leaf.subject_name()).unwrap();
        let constraints = BasicConstraints::new().build().unwrap();
        builder.append_extension(constraints).unwrap();
        let usage = ExtendedKeyUsage::new().server_auth().build().unwrap();
        builder.append_extension(usage).unwrap();
        let mut names = SubjectAlternativeName::new();
        let own = ["127.0.0.1", "::1", "localhost", common_name];
        for &san in own.iter().chain(sans) {
            match san.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(san),
                Err(_) => names.dns(san),
            };
        }
        let context = builder.x509v3_context(Some(&self.leaf), None);
        let names = names.build(&context).unwrap();
        let authority = AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap();
        builder.append_extension(names).unwrap();
        builder.append_extension(authority).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        Self { leaf: builder.build(), key, issuer: Some(self.leaf.clone()) }
    }

    pub fn certificate_pem(&self) -> String {
        text(self.leaf.to_pem().unwrap())
    }

    /// This certificate, then its issuer's.
    pub fn chain_pem(&self) -> String {
        let issuer = self.issuer.as_ref().map(|issuer| issuer.to_pem().unwrap());
        self.certificate_pem() + &text(issuer.unwrap_or_default())
    }

    pub fn key_pem(&self) -> String {
        text(self.key.private_key_to_pem_pkcs8().unwrap())
    }

    pub fn encrypted_key_pem(&self, passphrase: &str) -> String {
        let pem = self.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase.as_bytes());
        text(pem.unwrap())
    }

    /// Key and certificate in one file, as the Mail Gateway keeps them.
    pub fn combined_pem(&self) -> String {
        self.key_pem() + &self.certificate_pem()
    }

    /// SHA-256 as `AA:BB:…`.
    pub fn fingerprint(&self) -> String {
        let digest = self.leaf.digest(MessageDigest::sha256()).unwrap();
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// `FOLDER/STEM.pem` and `FOLDER/STEM.key`.
    pub fn write(&self, folder: &Path, stem: &str) {
        write(&folder.join(format!("{stem}.pem")), self.certificate_pem());
        write(&folder.join(format!("{stem}.key")), self.key_pem());
    }
}

fn builder(subject: &X509Name, key: &PKey<Private>, from: i64, until: i64) -> X509Builder {
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::ONE, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&days_from_now(from)).unwrap();
    builder.set_not_after(&days_from_now(until)).unwrap();
    builder
}

fn days_from_now(days: i64) -> Asn1Time {
    Asn1Time::from_unix(crate::now() + days * DAY).unwrap()
}

fn name(entries: &[(&str, &str)]) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    for (field, value) in entries {
        name.append_entry_by_text(field, value).unwrap();
    }
    name.build()
}

fn new_key(kind: KeyKind) -> PKey<Private> {
    match kind {
        KeyKind::Rsa2048 => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        KeyKind::EcP256 => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        }
    }
}

fn text(pem: Vec<u8>) -> String {
    String::from_utf8(pem).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_certificates_verify_and_name_this_host() {
        let ca = Certificate::ca();
        for kind in [KeyKind::Rsa2048, KeyKind::EcP256] {
            let node = ca.issue("node1.example.com", &["192.0.2.1"], kind);
            assert!(node.leaf.verify(&ca.leaf.public_key().unwrap()).unwrap());
            let names = node.leaf.subject_alt_names().unwrap();
            assert_eq!(names.iter().filter_map(|n| n.ipaddress()).count(), 3);
            assert_eq!(names.iter().filter_map(|n| n.dnsname()).count(), 2);
            assert_eq!(node.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
            assert_eq!(node.fingerprint().len(), 32 * 3 - 1);
            assert!(node.encrypted_key_pem("secret").contains("ENCRYPTED"));
        }
    }
}

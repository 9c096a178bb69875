//! Tickets and tokens, made and verified by the products' rules.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};
use percent_encoding::percent_decode_str;

use crate::keys::{Keys, hmac_sha256};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Pkcs1Sha1,
    Pkcs1Sha256,
    PssSha256,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Pkcs1Sha1, Self::Pkcs1Sha256, Self::PssSha256];

    fn digest(self) -> MessageDigest {
        match self {
            Self::Pkcs1Sha1 => MessageDigest::sha1(),
            Self::Pkcs1Sha256 | Self::PssSha256 => MessageDigest::sha256(),
        }
    }
}

impl Keys {
    /// `PREFIX:DATA:TIME::SIGNATURE`, in the scheme of Debian 12 and 13.
    pub fn ticket(&self, prefix: &str, data: &str, time: i64) -> String {
        self.ticket_with(prefix, data, time, Scheme::Pkcs1Sha1)
    }

    pub fn ticket_with(&self, prefix: &str, data: &str, time: i64, scheme: Scheme) -> String {
        let data = data.replace(':', "%3A");
        self.signed(&format!("{prefix}:{data}:{time:08X}"), "", scheme)
    }

    /// A half login: the signature covers the user as well, so only the daemon can verify it.
    pub fn half_ticket(&self, prefix: &str, user: &str, time: i64) -> String {
        let plain = format!(r#"{prefix}:!tfa!{{"totp"%3Atrue}}:{time:08X}"#);
        self.signed(&plain, &format!(":{user}"), Scheme::Pkcs1Sha1)
    }

    /// A console ticket (prefix `PVEVNC` or `PMGVNC`) for `/vms/100` or `/nodes/NAME`.
    pub fn vnc_ticket(&self, prefix: &str, user: &str, path: &str, port: u16, time: i64) -> String {
        let extra = format!(":{user}:{path}:{port}");
        self.signed(&format!("{prefix}:{time:08X}"), &extra, Scheme::Pkcs1Sha1)
    }

    pub fn csrf(&self, user: &str, time: i64) -> String {
        let message = format!("{time:08X}:{user}");
        let tag = hmac_sha256(self.secret().as_bytes(), message.as_bytes());
        format!("{time:08X}:{}", STANDARD_NO_PAD.encode(tag))
    }

    /// The whole target of a viewer's CONNECT; the viewer's host is this without the last `:PORT`.
    pub fn spice_target(&self, node: &str, vmid: u32, port: u16, time: i64) -> String {
        let node = node.to_lowercase();
        let plain = format!("pvespiceproxy:{time:08x}:{vmid}:{node}:{port}");
        format!("{plain}::{}:{port}", self.spice_signature(&plain))
    }

    /// The form without a signed port.
    pub fn spice_target_old(&self, node: &str, vmid: u32, port: u16, time: i64) -> String {
        let node = node.to_lowercase();
        let plain = format!("pvespiceproxy:{time:08x}:{vmid}:{node}");
        format!("{plain}::{}:{port}", self.spice_signature(&plain))
    }

    fn spice_signature(&self, plain: &str) -> String {
        let digest = openssl::sha::sha1(format!("{plain}{}", self.secret()).as_bytes());
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.concat()
    }

    fn signed(&self, plain: &str, extra: &str, scheme: Scheme) -> String {
        let mut signer = Signer::new(scheme.digest(), &self.private).unwrap();
        if scheme == Scheme::PssSha256 {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
        }
        let signature = signer.sign_oneshot_to_vec(format!("{plain}{extra}").as_bytes()).unwrap();
        format!("{plain}::{}", STANDARD.encode(signature))
    }
}

pub(crate) struct Verified {
    /// Unescaped; empty for a console ticket.
    pub(crate) data: String,
    pub(crate) time: i64,
}

/// Verifies form and signature; the caller verifies the age.
pub(crate) fn verify(key: &PKeyRef<Public>, ticket: &str, prefix: &str, extra: &str) -> Option<Verified> {
    let (plain, signature) = ticket.rsplit_once("::")?;
    let inner = plain.strip_prefix(prefix)?.strip_prefix(':')?;
    let (data, time) = inner.rsplit_once(':').unwrap_or(("", inner));
    let signature = STANDARD.decode(signature).ok()?;
    let signed = format!("{plain}{extra}");
    Scheme::ALL
        .into_iter()
        .any(|scheme| signature_fits(key, &signature, signed.as_bytes(), scheme))
        .then_some(())?;
    Some(Verified {
        data: percent_decode_str(data).decode_utf8().ok()?.into_owned(),
        time: i64::from_str_radix(time, 16).ok()?,
    })
}

fn signature_fits(key: &PKeyRef<Public>, signature: &[u8], signed: &[u8], scheme: Scheme) -> bool {
    let mut verifier = Verifier::new(scheme.digest(), key).unwrap();
    if scheme == Scheme::PssSha256 {
        verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        // When verifying, this number stands for "read it from the signature".
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH).unwrap();
    }
    verifier.verify_oneshot(signature, signed).unwrap_or(false)
}

/// A ticket of this moment without a valid signature; another one for each number below 10,000. It must not be old:
/// an expired ticket is no guess.
pub fn forged_ticket(prefix: &str, data: &str, number: usize) -> String {
    format!("{prefix}:{data}:{:08X}::Zm9yZ2Vk{number:04}", now())
}

pub fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(seconds).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 0x6B02_4400;

    fn vectors() -> (Keys, openssl::pkey::PKey<Public>, Vec<Vec<String>>) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/vectors");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let keys = Keys::from_pem(&Keys::generate().private_pem(), &read("pve-www.key"));
        let public = openssl::pkey::PKey::public_key_from_pem(read("authkey.pub").as_bytes()).unwrap();
        let lines = read("tickets.tsv")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect();
        (keys, public, lines)
    }

    #[test]
    fn agrees_with_the_originals_own_values() {
        let (keys, public, lines) = vectors();
        assert!(lines.len() > 10);
        for line in lines {
            let fields: Vec<&str> = line.iter().map(String::as_str).collect();
            match fields[..] {
                ["csrf_secret", secret] => assert_eq!(keys.secret(), secret),
                ["csrf", user, token] => assert_eq!(keys.csrf(user, TIME), token),
                ["ticket", prefix, data, ticket] => {
                    let verified = verify(&public, ticket, prefix, "").expect(ticket);
                    assert_eq!((verified.data.as_str(), verified.time), (data, TIME));
                    let own = keys.ticket(prefix, data, TIME);
                    assert_eq!(own.rsplit_once("::").unwrap().0, ticket.rsplit_once("::").unwrap().0);
                }
                ["vnc_ticket", extra, ticket] => {
                    assert!(verify(&public, ticket, "PVEVNC", &format!(":{extra}")).is_some());
                    assert!(verify(&public, ticket, "PVEVNC", ":root@pam:/vms/101").is_none());
                }
                [kind @ ("spice" | "spice_old"), _, target] => {
                    let fields: Vec<&str> = target.split(':').collect();
                    let (vmid, port) = (fields[2].parse().unwrap(), fields.last().unwrap().parse().unwrap());
                    let own = match kind {
                        "spice" => keys.spice_target(fields[3], vmid, port, TIME),
                        _ => keys.spice_target_old(fields[3], vmid, port, TIME),
                    };
                    assert_eq!(own, target);
                }
                _ => panic!("unknown vector {fields:?}"),
            }
        }
    }

    /// In every scheme.
    #[test]
    fn verifies_only_its_own_tickets() {
        let keys = Keys::generate();
        for scheme in Scheme::ALL {
            let ticket = keys.ticket_with("PVE", "root@pam", TIME, scheme);
            assert!(verify(&keys.public, &ticket, "PVE", "").is_some(), "{scheme:?}");
            assert!(verify(&keys.public, &ticket, "PMG", "").is_none());
            assert!(verify(&keys.old().public, &ticket, "PVE", "").is_none());
        }
    }

    #[test]
    fn keys_survive_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let first = Keys::load_or_create(root.path());
        let again = Keys::load_or_create(root.path());
        assert_eq!(first.public_pem(), again.public_pem());
        assert_eq!(first.csrf("root@pam", TIME), again.csrf("root@pam", TIME));
    }
}

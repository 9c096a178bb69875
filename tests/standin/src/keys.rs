//! The secrets of a node: the RSA pair that signs tickets and the secret behind CSRF and SPICE tokens.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rand::rand_bytes;
use openssl::rsa::Rsa;
use openssl::sign::Signer;

#[derive(Clone, Debug)]
pub struct Keys {
    pub(crate) private: PKey<Private>,
    pub(crate) public: PKey<Public>,
    /// Content of `pve-www.key` and `pmg-csrf.key`.
    secret_file: String,
}

impl Keys {
    /// The same keys for the whole process: making a pair takes a noticeable part of a second.
    pub fn generate() -> Self {
        static CURRENT: OnceLock<Keys> = OnceLock::new();
        CURRENT.get_or_init(Self::fresh).clone()
    }

    /// Another pair beside the same secret: the one before the last rotation, or an unknown one.
    #[must_use]
    pub fn old(&self) -> Self {
        static OLD: OnceLock<PKey<Private>> = OnceLock::new();
        let private = OLD.get_or_init(rsa_pair).clone();
        Self::new(private, self.secret_file.clone())
    }

    pub fn fresh() -> Self {
        let mut random = [0; 48];
        rand_bytes(&mut random).unwrap();
        Self::new(rsa_pair(), format!("standin {}\n", STANDARD_NO_PAD.encode(random)))
    }

    /// `private_pem` as `private_pem()` gave it, `secret_file` as found in `pve-www.key`.
    pub fn from_pem(private_pem: &str, secret_file: &str) -> Self {
        let private = PKey::private_key_from_pem(private_pem.as_bytes()).unwrap();
        Self::new(private, secret_file.to_owned())
    }

    /// The keys kept under `root` outside of the product's tree, made on the first call.
    pub fn load_or_create(root: &Path) -> Self {
        let (key, secret) = (root.join("standin/ticket.key"), root.join("standin/secret"));
        if key.exists() && secret.exists() {
            return Self::from_pem(&fs::read_to_string(key).unwrap(), &fs::read_to_string(secret).unwrap());
        }
        let keys = Self::fresh();
        write(&secret, &keys.secret_file);
        write(&key, keys.private_pem());
        keys
    }

    fn new(private: PKey<Private>, secret_file: String) -> Self {
        let public = PKey::public_key_from_pem(&private.public_key_to_pem().unwrap()).unwrap();
        Self { private, public, secret_file }
    }

    pub fn private_pem(&self) -> String {
        String::from_utf8(self.private.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    pub fn public_pem(&self) -> String {
        String::from_utf8(self.public.public_key_to_pem().unwrap()).unwrap()
    }

    pub fn secret_file(&self) -> &str {
        &self.secret_file
    }

    pub fn secret(&self) -> String {
        secret_of(self.secret_file.as_bytes())
    }

    /// Public key, secret and node list of a node without a cluster.
    pub fn write_pve(&self, root: &Path) {
        write(&root.join("etc/pve/authkey.pub"), self.public_pem());
        write(&root.join("etc/pve/pve-www.key"), &self.secret_file);
        let members = serde_json::json!({"nodename": crate::demo::node_name(), "version": 0});
        write(&root.join("etc/pve/.members"), members.to_string());
    }

    /// This pair's public key as the one before the last rotation: `keys.old().write_pve_old(root)`.
    pub fn write_pve_old(&self, root: &Path) {
        write(&root.join("etc/pve/authkey.pub.old"), self.public_pem());
    }

    pub fn write_pmg(&self, root: &Path) {
        write(&root.join("etc/pmg/pmg-authkey.pub"), self.public_pem());
        write(&root.join("etc/pmg/pmg-csrf.key"), &self.secret_file);
        write(&root.join("etc/pmg/pmg.conf"), "section: spamquar\n\tlifetime 7\n\tquarantinelink 1\n");
    }
}

/// The file is the HMAC's *key* and the message is empty; the base64 text is what tokens are made with.
pub(crate) fn secret_of(file: &[u8]) -> String {
    STANDARD_NO_PAD.encode(hmac_sha256(file, b""))
}

pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.sign_oneshot_to_vec(message).unwrap()
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn rsa_pair() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

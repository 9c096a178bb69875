//! The files of certificates and their keys.

use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use crate::config::Config;
use crate::config::product::CertificatePaths;

/// Suffix of a file with the OCSP response for a certificate.
pub(super) const STAPLE_SUFFIX: &str = "ocsp";
const KEY_MARK: &[u8] = b"PRIVATE KEY-----";

/// All files that certificates are chosen, served and verified by, whether they exist or not.
pub fn files_of_all(config: &Config) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| pair_files(entry, config));
    let more = config.settings.tls.additional_certificates.iter();
    let more = more.map(|file| PairFiles { certificate: file.clone(), key: key_beside(file) });
    let of_pairs = own.chain(more).flat_map(|PairFiles { certificate, key }| {
        let staple = certificate.with_extension(STAPLE_SUFFIX);
        [certificate, key, staple]
    });
    let mut files: Vec<_> = of_pairs.collect();
    for file in config.settings.listeners.iter().flat_map(|it| it.clients.files()) {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    files
}

/// The files behind the served certificates and the verification of client certificates.
pub fn files_in_use(config: &Config, served: &[PathBuf]) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| pair_files(entry, config));
    let more = config.settings.tls.additional_certificates.iter();
    let more = more.map(|file| PairFiles { certificate: file.clone(), key: key_of(file) });
    let pairs = own.chain(more).filter(|pair| served.contains(&pair.certificate));
    let of_clients = config.settings.listeners.iter().flat_map(|it| it.clients.files().cloned());
    pairs.flat_map(|pair| [pair.certificate, pair.key]).chain(of_clients).collect()
}

/// The files with a private key.
pub fn key_files(config: &Config) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| pair_files(entry, config).key);
    own.chain(config.settings.tls.additional_certificates.iter().map(|file| key_of(file))).collect()
}

/// A digest over the files of all pairs, the clients' CA and its revocation lists. It shows a change.
pub(super) type FilesDigest = [u8; 32];

pub(super) fn files_digest(config: &Config) -> FilesDigest {
    let mut sum = Sha256::new();
    for path in files_of_all(config) {
        let bytes = std::fs::read(path).ok();
        // The length separates the files, and a missing one from an empty one.
        sum.update(&bytes.as_ref().map_or(usize::MAX, Vec::len).to_be_bytes());
        sum.update(&bytes.unwrap_or_default());
    }
    sum.finish()
}

/// The files of a certificate and its key. One file may hold both.
pub(super) struct PairFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

pub(super) fn pair_files(entry: &CertificatePaths, config: &Config) -> PairFiles {
    let certificate = config.root.path(&entry.file);
    let named = config.settings.tls.key_file.clone().filter(|_| entry.key_setting);
    let key = named
        .or_else(|| entry.key.as_ref().map(|key| config.root.path(key)))
        .unwrap_or_else(|| certificate.clone());
    PairFiles { certificate, key }
}

/// The file of the key for a certificate that a setting names: the same file, or one beside it.
pub(super) fn key_of(certificate: &Path) -> PathBuf {
    let holds_key = |pem: Vec<u8>| pem.windows(KEY_MARK.len()).any(|text| text == KEY_MARK);
    if std::fs::read(certificate).is_ok_and(holds_key) {
        certificate.to_path_buf()
    } else {
        key_beside(certificate)
    }
}

fn key_beside(certificate: &Path) -> PathBuf {
    certificate.with_extension("key")
}

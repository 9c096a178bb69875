//! A certificate with its key, and which of the profile's pairs is served.

use std::io;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::sha::Sha256;
use openssl::ssl::SslContextBuilder;
use openssl::x509::X509;

use crate::config::Config;
use crate::config::problem::Problem;
use crate::config::product::Certificate;

/// A certificate, the chain above it, and the key that fits.
pub struct Pair {
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
enum PairError {
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}: holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    #[error("{}: the key has a pass phrase; a daemon cannot type one, so store the key without it", .0.display())]
    PassPhrase(PathBuf),
    #[error(
        "{}: the key does not belong to the certificate {}: it was renewed or replaced without the other",
        key.display(), certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{}: OpenSSL refuses it: {reason}", certificate.display())]
    Refused { certificate: PathBuf, reason: String },
}

impl Pair {
    /// Puts certificate, chain and key into a context.
    pub fn install(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut chain = self.chain.iter();
        if let Some(leaf) = chain.next() {
            builder.set_certificate(leaf)?;
        }
        for issuer in chain {
            builder.add_extra_chain_cert(issuer.clone())?;
        }
        builder.set_private_key(&self.key)?;
        builder.check_private_key()
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, PairError> {
        let certificate_pem = read(certificate)?;
        let key_pem = if key == certificate { certificate_pem.clone() } else { read(key)? };
        let chain = X509::stack_from_pem(&certificate_pem)
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| PairError::NoCertificate(certificate.to_path_buf()))?;
        let private = private_key(&key_pem, key)?;
        let fits = chain
            .first()
            .and_then(|leaf| leaf.public_key().ok())
            .is_some_and(|public| public.public_eq(&private));
        if !fits {
            let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
            return Err(PairError::Mismatch { certificate, key });
        }
        Ok(Self { chain, key: private })
    }
}

/// Gives the first pair of the profile whose files exist and fit together to `install`, which may refuse it (a key
/// too short for OpenSSL's security level, for one); each later pair is a fall-back.
///
/// A pair that exists and cannot be served is an error in the list, even when a fall-back is found. A pair that
/// only lacks a file is skipped in silence, unless its key was named by a setting or no pair is left.
pub fn choose(config: &Config, mut install: impl FnMut(&Pair) -> Result<(), String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    for entry in &config.product.certificate {
        let (certificate, key) = files(entry, config);
        let installed = Pair::load(&certificate, &key).and_then(|pair| {
            install(&pair).map_err(|reason| PairError::Refused { certificate: certificate.clone(), reason })
        });
        match installed {
            Ok(()) => return problems,
            Err(error @ PairError::Missing(_)) => {
                let problem = Problem::file_error(&certificate, error.to_string());
                let custom_key_missing =
                    entry.key_setting && config.settings.tls.key_file.is_some() && certificate.exists();
                if custom_key_missing { problems.push(problem) } else { missing.push(problem) }
            }
            Err(error) => problems.push(Problem::file_error(&certificate, error.to_string())),
        }
    }
    problems.extend(missing);
    problems
}

/// The files of all pairs of the profile, whether they exist or not.
pub fn files_of_all(config: &Config) -> Vec<PathBuf> {
    let pairs = config.product.certificate.iter().map(|entry| files(entry, config));
    pairs.flat_map(|(certificate, key)| [certificate, key]).collect()
}

/// Those with a private key.
pub fn keys(config: &Config) -> Vec<PathBuf> {
    config.product.certificate.iter().map(|entry| files(entry, config).1).collect()
}

/// A sum over the files of all pairs, by which a change is seen.
pub(super) type Contents = [u8; 32];

pub(super) fn contents(config: &Config) -> Contents {
    let mut sum = Sha256::new();
    for path in files_of_all(config) {
        let bytes = std::fs::read(path).ok();
        // The length tells where one file ends, and a missing one from an empty one.
        sum.update(&bytes.as_ref().map_or(usize::MAX, Vec::len).to_be_bytes());
        sum.update(&bytes.unwrap_or_default());
    }
    sum.finish()
}

fn files(entry: &Certificate, config: &Config) -> (PathBuf, PathBuf) {
    let certificate = config.root.path(&entry.file);
    let named = config.settings.tls.key_file.clone().filter(|_| entry.key_setting);
    let key = named
        .or_else(|| entry.key.as_ref().map(|key| config.root.path(key)))
        .unwrap_or_else(|| certificate.clone());
    (certificate, key)
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|source| {
        let path = path.to_path_buf();
        if source.kind() == io::ErrorKind::NotFound {
            PairError::Missing(path)
        } else {
            PairError::Unreadable { path, source }
        }
    })
}

fn private_key(pem: &[u8], path: &Path) -> Result<PKey<Private>, PairError> {
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(pem, |_| {
        asked = true;
        Ok(0)
    });
    match key {
        Ok(key) => Ok(key),
        Err(_) if asked => Err(PairError::PassPhrase(path.to_path_buf())),
        Err(_) => Err(PairError::NoKey(path.to_path_buf())),
    }
}

//! A certificate with its key; which of the profile's pairs is served, and what the settings add to it.

use std::io;
use std::path::{Path, PathBuf};

use foreign_types::ForeignTypeRef as _;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::Sha256;
use openssl::ssl::SslContextBuilder;
use openssl::x509::{X509, X509Ref};
use openssl_sys::{SSL_CTRL_CHAIN_CERT, SSL_CTX_ctrl};

use super::staple::Staple;

use crate::config::Config;
use crate::config::problem::{Problem, Severity};
use crate::config::product::Certificate;
use crate::status::report::ServedCertificate;

/// What a file with the CA's answer about a certificate ends with.
const STAPLE: &str = "ocsp";
const KEY_MARK: &[u8] = b"PRIVATE KEY-----";

/// A certificate, the chain above it, and the key that fits.
pub struct Pair {
    file: PathBuf,
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
    #[error("{}: names no host, so that no client can ask for it", .0.display())]
    Nameless(PathBuf),
    #[error("{}: OpenSSL refuses it: {reason}", certificate.display())]
    Refused { certificate: PathBuf, reason: String },
}

impl Pair {
    /// Puts certificate, chain and key into a context, beside those with other kinds of keys.
    pub fn install(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut chain = self.chain.iter();
        if let Some(leaf) = chain.next() {
            builder.set_certificate(leaf)?;
        }
        for issuer in chain {
            add_to_chain(builder, issuer)?;
        }
        builder.set_private_key(&self.key)?;
        builder.check_private_key()
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// What a context holds one of.
    pub(super) fn kind(&self) -> Id {
        self.key.id()
    }

    /// The hosts that it is for, in lower case; the common name counts where there are no others.
    pub(super) fn names(&self) -> Vec<String> {
        let Some(leaf) = self.chain.first() else { return Vec::new() };
        let alternatives = leaf.subject_alt_names();
        let names = alternatives.iter().flatten().filter_map(|name| name.dnsname());
        let mut names: Vec<_> = names.map(str::to_ascii_lowercase).collect();
        if alternatives.is_none() {
            let common = leaf.subject_name().entries_by_nid(Nid::COMMONNAME);
            names.extend(common.filter_map(|name| Some(name.data().to_string().ok()?.to_ascii_lowercase())));
        }
        names
    }

    pub(super) fn described(&self) -> ServedCertificate {
        let expires = self.chain.first().and_then(ends).unwrap_or_default();
        ServedCertificate { file: self.file.display().to_string(), names: self.names(), expires }
    }

    /// The answer of the CA that lies beside the certificate, if it is good for anything.
    pub(super) fn staple(&self) -> Result<Option<Staple>, Problem> {
        let file = self.file.with_extension(STAPLE);
        let [leaf, issuer] = [0, 1].map(|at| self.chain.get(at));
        let staple = leaf.and_then(|leaf| Staple::load(&file, leaf, issuer).transpose()).transpose();
        staple.map_err(|error| Problem {
            severity: Severity::Warning,
            ..Problem::file_error(&file, format!("is not stapled: {error}"))
        })
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
        Ok(Self { file: certificate.to_path_buf(), chain, key: private })
    }
}

/// The first pair of the profile whose files exist and fit together and that `fits` does not refuse (for a key too short
/// for OpenSSL's security level, say), then those that the settings add; each later one of the profile is a fall-back.
///
/// A pair that exists and cannot be served is an error in the list, whatever else is found. A pair of the profile that
/// only lacks a file is skipped in silence, unless its key was named by a setting or no pair is left. Without any pair of
/// the profile nothing is served.
pub fn choose(
    config: &Config,
    mut fits: impl FnMut(&Pair) -> Result<(), String>,
) -> (Option<Vec<Pair>>, Vec<Problem>) {
    let mut load = |certificate: &Path, key: &Path| {
        let pair = Pair::load(certificate, key)?;
        match fits(&pair) {
            Ok(()) => Ok(pair),
            Err(reason) => Err(PairError::Refused { certificate: certificate.to_path_buf(), reason }),
        }
    };
    let (own, mut problems) = own(config, &mut load);
    let mut more = Vec::new();
    let settings = &config.settings.tls;
    for certificate in &settings.more_certificates {
        match load(certificate, &key_of(certificate)) {
            Ok(pair) if pair.names().is_empty() => {
                problems.push(unusable(config, &PairError::Nameless(pair.file)));
            }
            Ok(pair) => more.push(pair),
            Err(error) => problems.push(unusable(config, &error)),
        }
    }
    let pairs = own.map(|own| std::iter::once(own).chain(more).collect());
    (pairs, problems)
}

type Loaded = Result<Pair, PairError>;

fn own(config: &Config, load: &mut impl FnMut(&Path, &Path) -> Loaded) -> (Option<Pair>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    for entry in &config.product.certificate {
        let (certificate, key) = files(entry, config);
        match load(&certificate, &key) {
            Ok(pair) => return (Some(pair), problems),
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
    (None, problems)
}

fn unusable(config: &Config, error: &PairError) -> Problem {
    let origin = config.settings.tls.origins.more_certificates.clone();
    Problem::error(origin, "tls.more_certificates", error.to_string())
}

/// All files that certificates are chosen, shown and judged by, whether they exist or not.
pub fn files_of_all(config: &Config) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| files(entry, config));
    let more = config.settings.tls.more_certificates.iter().map(|file| (file.clone(), beside(file)));
    let of_pairs = own.chain(more).flat_map(|(certificate, key)| {
        let staple = certificate.with_extension(STAPLE);
        [certificate, key, staple]
    });
    let mut files: Vec<_> = of_pairs.collect();
    for authorities in config.settings.listeners.iter().filter_map(|it| it.clients.authorities.as_ref()) {
        if !files.contains(authorities) {
            files.push(authorities.clone());
        }
    }
    files
}

/// Those that the served certificates, and certificates of clients, need.
pub fn files_in_use(config: &Config, served: &[PathBuf]) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| files(entry, config));
    let more = config.settings.tls.more_certificates.iter().map(|file| (file.clone(), key_of(file)));
    let pairs = own.chain(more).filter(|(certificate, _)| served.contains(certificate));
    let authorities = config.settings.listeners.iter().filter_map(|it| it.clients.authorities.clone());
    pairs.flat_map(|(certificate, key)| [certificate, key]).chain(authorities).collect()
}

/// Those with a private key.
pub fn keys(config: &Config) -> Vec<PathBuf> {
    let own = config.product.certificate.iter().map(|entry| files(entry, config).1);
    own.chain(config.settings.tls.more_certificates.iter().map(|file| key_of(file))).collect()
}

/// A sum over the files of all pairs and the clients' CA, by which a change is seen.
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

/// A certificate that a setting names has its key in the same file, or beside it.
fn key_of(certificate: &Path) -> PathBuf {
    let holds_key = |pem: Vec<u8>| pem.windows(KEY_MARK.len()).any(|text| text == KEY_MARK);
    if std::fs::read(certificate).is_ok_and(holds_key) {
        certificate.to_path_buf()
    } else {
        beside(certificate)
    }
}

fn beside(certificate: &Path) -> PathBuf {
    certificate.with_extension("key")
}

fn ends(leaf: &X509) -> Option<i64> {
    let left = Asn1Time::from_unix(0).ok()?.diff(leaf.not_after()).ok()?;
    Some(i64::from(left.days) * 86_400 + i64::from(left.secs))
}

/// Above the certificate that was set last: `add_extra_chain_cert` would put it above all.
fn add_to_chain(builder: &mut SslContextBuilder, issuer: &X509Ref) -> Result<(), ErrorStack> {
    // SAFETY: both pointers are those of live values, and with the 1 OpenSSL takes a reference of its own
    // (SSL_CTX_add1_chain_cert(3)).
    let done = unsafe { SSL_CTX_ctrl(builder.as_ptr(), SSL_CTRL_CHAIN_CERT, 1, issuer.as_ptr().cast()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
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

//! A certificate with its key.

use std::io;
use std::path::{Path, PathBuf};

use foreign_types::ForeignTypeRef as _;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::ssl::SslContextBuilder;
use openssl::x509::{X509, X509Ref};
use openssl_sys::{SSL_CTRL_CHAIN_CERT, SSL_CTX_ctrl};

use super::pem::{self, PemContent};
use crate::config::diagnostic::Diagnostic;
use crate::metrics::report::ServedCertificate;
use crate::tls::certificate_files::STAPLE_SUFFIX;
use crate::tls::ocsp::OcspStaple;

/// Limit of files beside a certificate that are tried as its key.
const MAX_KEYS_TRIED: usize = 64;
/// Limit of bytes of such a file.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// A certificate, the chain above it, and the key that fits.
pub(super) struct CertifiedKey {
    file: PathBuf,
    chain: Vec<X509>,
    key: PKey<Private>,
    /// hints for the admin
    notes: Vec<String>,
}

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum PairError {
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// file, line and fault
    #[error("{0}")]
    Pem(String),
    #[error(
        "{}: the first certificate must be the server's own, which is number {place} here: move it to the top",
        certificate.display()
    )]
    Order { certificate: PathBuf, place: usize },
    #[error("{}: the key is of another kind than that of the certificate{}", key.display(), in_other(certificate, key))]
    OtherKind { certificate: PathBuf, key: PathBuf },
    #[error("{}: the key has a pass phrase; a daemon cannot type one, so store the key without it", .0.display())]
    PassPhrase(PathBuf),
    #[error(
        "{}: the key does not belong to the certificate{}: it was renewed or replaced without the other",
        key.display(), in_other(certificate, key)
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{}: names no host, so no client can request it", .0.display())]
    Nameless(PathBuf),
    #[error("{}: OpenSSL refuses it: {reason}", certificate.display())]
    Refused { certificate: PathBuf, reason: String },
}

/// The file of the certificate, unless the message has named it as that of the key.
fn in_other(certificate: &Path, key: &Path) -> String {
    if certificate == key { String::new() } else { format!(" {}", certificate.display()) }
}

impl CertifiedKey {
    /// Puts certificate, chain and key into a context, beside certificates with other kinds of keys.
    pub(super) fn install(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
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

    /// The certificate and its issuers.
    pub(super) fn chain(&self) -> &[X509] {
        &self.chain
    }

    /// The kind of key; a context holds one certificate of each.
    pub(super) fn kind(&self) -> Id {
        self.key.id()
    }

    /// The hosts of the certificate in lower case. The common name counts only if there are no alternative names.
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
        let expires = self.chain.first().and_then(expiry).unwrap_or_default();
        ServedCertificate { file: self.file.display().to_string(), names: self.names(), expires }
    }

    /// The OCSP response beside the certificate, if it is usable.
    pub(super) fn staple(&self) -> Result<Option<OcspStaple>, Diagnostic> {
        let file = self.file.with_extension(STAPLE_SUFFIX);
        let [leaf, issuer] = [0, 1].map(|at| self.chain.get(at));
        let staple = leaf.and_then(|leaf| OcspStaple::load(&file, leaf, issuer).transpose()).transpose();
        let warning =
            |error| Diagnostic::file_error(&file, format!("is not stapled: {error}")).into_warning();
        staple.map_err(warning)
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn public_key(&self) -> Result<PKey<Public>, ErrorStack> {
        self.chain.first().map_or_else(|| Err(ErrorStack::get()), |leaf| leaf.public_key())
    }

    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, PairError> {
        let certificate_pem = read(certificate)?;
        let key_pem = if key == certificate { certificate_pem.clone() } else { read(key)? };
        let chain = X509::stack_from_pem(&certificate_pem).unwrap_or_default();
        if chain.is_empty() {
            let fault = pem::fault(&certificate_pem, PemContent::Certificate);
            return Err(PairError::Pem(fault.in_file(certificate)));
        }
        let private = private_key(&key_pem, key)?;
        let skipped = pem::skipped(&certificate_pem).map(|fault| fault.in_file(certificate));
        if !chain.first().is_some_and(|leaf| is_for(leaf, &private)) {
            let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
            let own = chain.iter().position(|other| is_for(other, &private));
            let kind = chain.first().and_then(|leaf| leaf.public_key().ok()).map(|public| public.id());
            return Err(match (own, skipped) {
                (Some(place), _) => PairError::Order { certificate, place: place + 1 },
                (None, Some(fault)) => PairError::Pem(fault),
                (None, None) if kind != Some(private.id()) => PairError::OtherKind { certificate, key },
                (None, None) => PairError::Mismatch { certificate, key },
            });
        }
        let skipped =
            skipped.map(|fault| format!("{fault}; it is skipped, and with it maybe a part of the chain"));
        let notes = skipped.into_iter().chain(chain.first().and_then(begins_later)).collect();
        Ok(Self { file: certificate.to_path_buf(), chain, key: private, notes })
    }
}

fn is_for<K: HasPublic>(certificate: &X509Ref, key: &PKeyRef<K>) -> bool {
    certificate.public_key().is_ok_and(|public| public.public_eq(key))
}

fn begins_later(leaf: &X509) -> Option<String> {
    let now = Asn1Time::days_from_now(0).ok()?;
    (leaf.not_before() > &*now)
        .then(|| format!("this certificate is not valid before {}: clients refuse it", leaf.not_before()))
}

/// A file beside the certificate that holds its key.
pub(super) fn fitting_key(certificate: &Path) -> Option<PathBuf> {
    let leaf = X509::from_pem(&std::fs::read(certificate).ok()?).ok()?;
    let entries = std::fs::read_dir(certificate.parent()?).ok()?;
    let files = entries.take(MAX_KEYS_TRIED).filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut keys = files.filter(|path| {
        let is_small = path.metadata().is_ok_and(|it| it.is_file() && it.len() <= MAX_KEY_BYTES);
        let pem = if is_small { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
        private_key(&pem, path).is_ok_and(|key| is_for(&leaf, &key))
    });
    keys.next()
}

fn expiry(leaf: &X509) -> Option<i64> {
    let left = Asn1Time::from_unix(0).ok()?.diff(leaf.not_after()).ok()?;
    Some(i64::from(left.days) * 86_400 + i64::from(left.secs))
}

/// Adds an issuer to the certificate that was set last; `add_extra_chain_cert` would add it to all of them.
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
        Err(_) => Err(PairError::Pem(pem::fault(pem, PemContent::Key).in_file(path))),
    }
}

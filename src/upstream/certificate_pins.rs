//! The certificate that another node must present, pinned by its SHA-256 fingerprint.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::hash::MessageDigest;
use openssl::x509::{X509, X509Ref};

use super::nodes::NodeTable;
use crate::config::product::NodeListRules;
use crate::config::root::RootDirectory;
use crate::fs::cached_file::{CachedFile, FileError};

/// A node publishes a new certificate before it serves it, so the old one stays valid for this time.
const OVERLAP_TIME: Duration = Duration::from_mins(1);

/// SHA-256 of a certificate in DER form.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn from_certificate(certificate: &X509Ref) -> Option<Self> {
        let digest = certificate.digest(MessageDigest::sha256()).ok()?;
        digest.as_ref().try_into().ok().map(Self)
    }

    /// Reads `8F:03:…:12`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: Option<Vec<u8>> =
            text.trim().split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
        bytes?.try_into().ok().map(Self)
    }
}

/// Upper-case hex pairs with colons, as the products write them.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// The certificates that a node may present: the published one and, for a minute after a change, the previous one.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct ExpectedPins {
    pub current: Fingerprint,
    pub before: Option<Fingerprint>,
}

impl ExpectedPins {
    pub fn admits(&self, seen: Fingerprint) -> bool {
        seen == self.current || Some(seen) == self.before
    }
}

/// Why there is no pin for a node.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("no certificate of the node is known (looked for {0})")]
    Missing(String),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The pins of all nodes, polled on each use.
pub struct CertificatePins {
    /// paths with `{node}` for the name; the first that exists is used
    templates: Vec<PathBuf>,
    files: Mutex<HashMap<String, Arc<[CachedFile<Fingerprint>]>>>,
    known: Mutex<HashMap<String, KnownPin>>,
}

struct KnownPin {
    current: Fingerprint,
    before: Option<(Fingerprint, Instant)>,
}

impl CertificatePins {
    pub fn new(nodes: Option<&NodeListRules>, root: &RootDirectory) -> Self {
        let templates = nodes.iter().flat_map(|nodes| &nodes.certificates).map(|path| root.path(path));
        Self { templates: templates.collect(), files: Mutex::default(), known: Mutex::default() }
    }

    /// The certificates that `node`, a name from `table`, may present at the instant `now`.
    pub fn expected(&self, node: &str, table: &NodeTable, now: Instant) -> Result<ExpectedPins, PinError> {
        let published = match table.fingerprints.get(node) {
            Some(fingerprint) => *fingerprint,
            None => self.published(node)?,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(node.to_owned()).or_insert(KnownPin { current: published, before: None });
        if entry.current != published {
            entry.before = Some((entry.current, now));
            entry.current = published;
        }
        let fresh = |(_, since): &(Fingerprint, Instant)| now.duration_since(*since) < OVERLAP_TIME;
        let before = entry.before.filter(fresh).map(|(fingerprint, _)| fingerprint);
        Ok(ExpectedPins { current: published, before })
    }

    fn published(&self, node: &str) -> Result<Fingerprint, PinError> {
        let files = self.files(node);
        for file in files.iter() {
            match file.get() {
                Ok(snapshot) => return Ok(*snapshot.value),
                Err(FileError::Unreadable { .. }) => (),
                Err(
                    error @ (FileError::Malformed { .. } | FileError::Silent { .. } | FileError::Slow { .. }),
                ) => {
                    return Err(error.into());
                }
            }
        }
        let looked_for: Vec<_> = files.iter().map(|file| file.path().display().to_string()).collect();
        Err(PinError::Missing(looked_for.join(", ")))
    }

    fn files(&self, node: &str) -> Arc<[CachedFile<Fingerprint>]> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = |template: &PathBuf| {
            CachedFile::new(template.to_string_lossy().replace("{node}", node).into(), fingerprint)
        };
        let known =
            files.entry(node.to_owned()).or_insert_with(|| self.templates.iter().map(watch).collect());
        Arc::clone(known)
    }
}

fn fingerprint(pem: &[u8]) -> Result<Fingerprint, String> {
    let certificate = X509::from_pem(pem).ok();
    certificate
        .and_then(|certificate| Fingerprint::from_certificate(&certificate))
        .ok_or_else(|| "holds no certificate in PEM form".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(byte: u8) -> NodeTable {
        let fingerprints = std::iter::once(("n2".to_owned(), Fingerprint([byte; 32]))).collect();
        NodeTable { fingerprints, ..NodeTable::default() }
    }

    #[test]
    fn fingerprints_are_read_and_written_alike() {
        let text = format!("{}0A", "8F:".repeat(31));
        assert_eq!(Fingerprint::parse(&text).unwrap().to_string(), text);
        assert_eq!(Fingerprint::parse(&text.to_lowercase()).unwrap().to_string(), text);
        for wrong in ["", "8F:03", "zz", &format!("{text}:00")] {
            assert!(Fingerprint::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn old_and_new_certificates_overlap_one_minute() {
        let pins = CertificatePins::new(None, &RootDirectory::default());
        let (old, new) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let start = Instant::now();
        let first = pins.expected("n2", &table(1), start).unwrap();
        assert!(first.admits(old) && !first.admits(new));
        let changed = pins.expected("n2", &table(2), start + Duration::from_secs(5)).unwrap();
        assert!(changed.admits(old) && changed.admits(new));
        let settled = pins.expected("n2", &table(2), start + Duration::from_secs(66)).unwrap();
        assert!(!settled.admits(old) && settled.admits(new));
    }

    #[test]
    fn a_missing_certificate_names_the_searched_paths() {
        let pins = CertificatePins {
            templates: vec!["/nonexistent/{node}/a.pem".into()],
            ..CertificatePins::new(None, &RootDirectory::default())
        };
        let error = pins.expected("n3", &NodeTable::default(), Instant::now()).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/n3/a.pem"), "{error}");
    }
}

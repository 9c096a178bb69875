//! Serves certificates that were renewed on disk without a reload. It compares the contents of the files, because
//! modification times on a cluster's file system are not reliable.

use std::sync::Arc;

use super::TlsAcceptor;
use crate::config::Config;
use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::tls::certificate_files::{self, FilesDigest};
use crate::tls::session_tickets::TicketKeys;

/// The results of earlier checks.
#[derive(Default)]
pub struct CertificateReloader {
    /// rejected by the last check; certificate and key may just be written one after the other
    suspect: Option<FilesDigest>,
    /// already reported as an error
    refused: Option<FilesDigest>,
}

#[derive(Debug, PartialEq)]
pub enum ReloadCheck {
    Unchanged,
    /// with hints about the new certificate
    Renewed(Vec<Diagnostic>),
    /// other files are in effect, such as a revocation list; the certificates are the same
    Reread(Vec<Diagnostic>),
    /// the old certificate stays; reported once for each change
    Refused(Vec<Diagnostic>),
}

impl CertificateReloader {
    /// Whether the files on disk were rejected, and did not change since.
    pub fn has_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Reads the files, and replaces the served pair by one without errors. Errors that are `known` do not count.
    pub fn check(
        &mut self,
        acceptor: &TlsAcceptor,
        config: &Config,
        keys: &Arc<TicketKeys>,
        known: &[Diagnostic],
    ) -> ReloadCheck {
        let now = certificate_files::files_digest(config);
        if now == acceptor.digest() {
            *self = Self::default();
            return ReloadCheck::Unchanged;
        }
        if self.refused == Some(now) {
            return ReloadCheck::Unchanged;
        }
        let Diagnosed { value: next, mut problems } = TlsAcceptor::load(config, keys);
        problems.retain(|problem| !known.contains(problem));
        let (problems, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(Diagnostic::is_error);
        match next {
            Some(next) if problems.is_empty() => {
                *self = Self::default();
                if acceptor.replace(next) {
                    ReloadCheck::Renewed(warnings)
                } else {
                    ReloadCheck::Reread(warnings)
                }
            }
            Some(_) | None if self.suspect == Some(now) => {
                *self = Self { suspect: None, refused: Some(now) };
                ReloadCheck::Refused(problems)
            }
            Some(_) | None => {
                self.suspect = Some(now);
                ReloadCheck::Unchanged
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nodegate_standin::{Certificate, KeyKind};

    use super::*;
    use crate::config::ConfigSources;
    use crate::config::root::RootDirectory;

    fn write(root: &Path, certificate: Option<&Certificate>, key: Option<&Certificate>) {
        let folder = root.join("etc/pve/local");
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("pve-ssl.pem", certificate.map(Certificate::chain_pem)),
            ("pve-ssl.key", key.map(Certificate::key_pem)),
        ] {
            match text {
                Some(text) => std::fs::write(folder.join(name), text).unwrap(),
                None => std::fs::remove_file(folder.join(name)).unwrap(),
            }
        }
    }

    #[test]
    fn renewal_waits_for_pairs_and_warns_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let [old, new] = [0; 2].map(|_| Certificate::ca().issue("node1.example.com", &[], KeyKind::EcP256));
        write(root, Some(&old), Some(&old));
        let options = ConfigSources { root: RootDirectory::new(root.to_owned()), sets: Vec::new() };
        let config = Config::load("pve", &options).unwrap();
        let keys = Arc::default();
        let acceptor = TlsAcceptor::load(&config, &keys).value.unwrap();
        let served = || {
            let contexts = acceptor.served().contexts;
            contexts[0].context.certificate().unwrap().serial_number().to_bn().unwrap()
        };
        let first = served();
        let mut renewals = CertificateReloader::default();
        let mut check = || renewals.check(&acceptor, &config, &keys, &[]);
        assert_eq!(check(), ReloadCheck::Unchanged);

        write(root, Some(&new), Some(&old));
        assert_eq!(check(), ReloadCheck::Unchanged, "the key may follow");
        write(root, Some(&new), Some(&new));
        assert_eq!(check(), ReloadCheck::Renewed(Vec::new()));
        assert_ne!(served(), first);

        let half = root.join("etc/pve/local/pveproxy-ssl.pem");
        std::fs::write(&half, old.chain_pem()).unwrap();
        let ReloadCheck::Reread(warnings) = check() else { unreachable!("half a pair is not served") };
        assert!(warnings.first().unwrap().to_string().contains("is not served"), "{warnings:?}");
        std::fs::remove_file(half).unwrap();
        assert_eq!(check(), ReloadCheck::Reread(Vec::new()));

        write(root, Some(&old), Some(&new));
        assert_eq!(check(), ReloadCheck::Unchanged);
        let ReloadCheck::Refused(problems) = check() else { unreachable!() };
        assert!(problems.first().unwrap().to_string().contains("does not belong"), "{problems:?}");
        assert_eq!(check(), ReloadCheck::Unchanged, "it has been said");
        assert_ne!(served(), first);

        write(root, None, None);
        assert_eq!(
            (check(), matches!(check(), ReloadCheck::Refused(_)), check()),
            (ReloadCheck::Unchanged, true, ReloadCheck::Unchanged)
        );
        write(root, Some(&new), Some(&new));
        assert_eq!(check(), ReloadCheck::Unchanged, "that is what is served");
    }
}

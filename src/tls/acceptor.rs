//! Accepts TLS connections with the served certificates, the client certificate policy of each listener, and the
//! revocation lists.

use std::ffi::c_int;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext};
use openssl::x509::X509;
use tokio::net::TcpStream;

use super::revocation::CertificateFault;
use super::{TlsStream, WriteBuffers, build, contexts};
use crate::config::Config;
use crate::config::diagnostic::{Diagnosed, Diagnostic, ValueOrigin};
use crate::config::product::Protocol;
use crate::config::settings::{ClientAuthPolicy, ProtocolVersions, TlsSettings};
use crate::metrics::report::ServedCertificate;
use crate::tls::certificate::CertifiedKey;
use crate::tls::certificate_choice;
use crate::tls::certificate_files::{self, FilesDigest};
use crate::tls::client_auth::ClientTrust;
use crate::tls::session_tickets::TicketKeys;

/// Reason codes of OpenSSL (sslerr.h): the client sent no certificate, or one that is not valid.
const NO_CERTIFICATE: c_int = 199;
const VERIFY_FAILED: c_int = 134;

/// Accepts TLS connections. Its certificates can be replaced.
pub struct TlsAcceptor {
    served: RwLock<ServedCertificates>,
}

#[derive(Clone)]
pub(super) struct ServedCertificates {
    /// for each policy of a listener the context that handshakes begin with; SNI may select another one
    pub(super) contexts: Arc<[ClientVerification]>,
    certificates: Arc<[ServedCertificate]>,
    /// the same certificates with their chains
    chains: Arc<[Vec<X509>]>,
    /// problems with these and other certificates
    problems: Arc<[String]>,
    /// of the files that the certificates were chosen from
    digest: FilesDigest,
}

/// A policy with the context and the CAs that apply it.
pub(super) struct ClientVerification {
    policy: ClientAuthPolicy,
    pub(super) context: SslContext,
    trust: Option<ClientTrust>,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("no handshake within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error(transparent)]
    Tls(#[from] openssl::ssl::Error),
    #[error("the client's certificate has expired since its session began")]
    Outdated,
    #[error("a session cannot be resumed: {0}")]
    Certificate(CertificateFault),
    #[error("the listener was removed, and with it the certificates that it required")]
    Gone,
    #[error(transparent)]
    Setup(#[from] ErrorStack),
}

impl HandshakeError {
    /// Why the client's certificate was rejected, if that is the cause.
    pub fn certificate_fault(&self) -> Option<&'static str> {
        match self {
            Self::Outdated => Some("it has expired since its session began"),
            Self::Certificate(_) => Some("it is not valid any more"),
            Self::Tls(error) => {
                error.ssl_error()?.errors().iter().find_map(|error| match error.reason_code() {
                    NO_CERTIFICATE => Some("it showed none"),
                    VERIFY_FAILED => Some("it is of another CA, has expired, or is revoked"),
                    _ => None,
                })
            }
            Self::Deadline(_) | Self::Gone | Self::Setup(_) => None,
        }
    }
}

impl TlsAcceptor {
    /// The acceptor, if any pair can be served.
    ///
    /// `keys` encrypt the session tickets and outlive the acceptor. On a CONNECT port TLS is optional, so certificate
    /// errors are warnings there.
    pub fn load(config: &Config, keys: &Arc<TicketKeys>) -> Diagnosed<Option<Self>> {
        let Diagnosed { value: acceptor, problems } = Self::load_strictly(config, keys);
        let problems = match (config.product.protocol, &acceptor) {
            (Protocol::Https, _) => problems,
            (Protocol::Connect, None) => vec![plaintext_warning(&problems)],
            (Protocol::Connect, Some(_)) => problems.into_iter().map(Diagnostic::into_warning).collect(),
        };
        Diagnosed { value: acceptor, problems }
    }

    fn load_strictly(config: &Config, keys: &Arc<TicketKeys>) -> Diagnosed<Option<Self>> {
        let settings = &config.settings.tls;
        let digest = certificate_files::files_digest(config);
        let unsound = build(settings, None).err().unwrap_or_default();
        let Diagnosed { value: pairs, mut problems } = certificate_choice::choose(config);
        let Diagnosed { value: policies, problems: of_clients } = client_policies(config);
        let sound = unsound.is_empty() && of_clients.is_empty();
        problems.extend(unsound.into_iter().chain(of_clients));
        let Some(pairs) = pairs.filter(|_| sound) else {
            return Diagnosed { value: None, problems };
        };
        let mut by_policy: Vec<ClientVerification> = Vec::new();
        let mut complete = true;
        // CONNECT exists only in HTTP/1.1 here.
        let offers = match config.product.protocol {
            Protocol::Https => settings.offers,
            Protocol::Connect => ProtocolVersions::Http1,
        };
        for (policy, trust) in policies {
            let settings = TlsSettings { clients: policy.clone(), offers, ..settings.clone() };
            match contexts::from_pairs(&settings, trust.as_ref(), &pairs, keys) {
                Ok(Diagnosed { value: context, problems: warnings }) => {
                    problems.extend(warnings.into_iter().filter(|_| by_policy.is_empty()));
                    by_policy.push(ClientVerification { policy, context, trust });
                }
                Err(more) => {
                    problems.extend(more);
                    complete = false;
                }
            }
        }
        let certificates = pairs.iter().map(CertifiedKey::described).collect();
        let chains = pairs.iter().map(|pair| pair.chain().to_vec()).collect();
        let texts = problems.iter().map(ToString::to_string).collect();
        let contexts = by_policy.into();
        let served = ServedCertificates { contexts, certificates, chains, problems: texts, digest };
        Diagnosed { value: complete.then(|| Self { served: RwLock::new(served) }), problems }
    }

    pub(super) fn served(&self) -> ServedCertificates {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The problems of the last load of certificates and keys that did not prevent serving.
    pub fn problems(&self) -> Vec<String> {
        let served = self.served();
        let of_lists = self.list_problems().into_iter().map(|problem| problem.to_string());
        served.problems.iter().cloned().chain(of_lists).collect()
    }

    /// Expired revocation lists: they make nodegate reject client certificates that are not revoked. A list expires
    /// with time, so this does not prevent a load.
    pub fn list_problems(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        for ClientVerification { policy, trust, .. } in self.served().contexts.iter() {
            for fault in trust.iter().flat_map(ClientTrust::faults) {
                let problem = Diagnostic::error(policy.lists_origin.clone(), policy.lists_key.clone(), fault);
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        problems
    }

    /// Verifies the certificates of an open connection again, the client's own first, by the current lists.
    ///
    /// # Errors
    /// The reason why one is no longer valid.
    pub fn verify(&self, policy: &ClientAuthPolicy, chain: &[X509]) -> Result<(), CertificateFault> {
        let contexts = self.served().contexts;
        if let Some(known) = contexts.iter().find(|known| known.policy == *policy) {
            return known.trust.as_ref().map_or(Ok(()), |trust| trust.verify(chain));
        }
        // The listener is gone, but a revocation by any list still counts.
        let mut trusts = contexts.iter().filter_map(|it| it.trust.as_ref());
        if trusts.any(|trust| trust.is_revoked(chain)) { Err(CertificateFault::Revoked) } else { Ok(()) }
    }

    pub(super) fn digest(&self) -> FilesDigest {
        self.served().digest
    }

    /// Whether both serve the same certificates.
    pub fn has_certificates_of(&self, other: &Self) -> bool {
        self.served().chains == other.served().chains
    }

    /// Serves the contexts of `other` from the next connection on. Returns whether its certificates are other ones.
    pub(super) fn replace(&self, other: Self) -> bool {
        let next = other.served.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let differ = served.chains != next.chains;
        *served = next;
        differ
    }

    /// The served certificates, the profile's own first.
    pub fn certificates(&self) -> Vec<ServedCertificate> {
        self.served().certificates.to_vec()
    }

    /// Performs the handshake, by the client certificate policy of the listener.
    ///
    /// # Errors
    /// [`HandshakeError`], also if a resumed session brings a certificate that is no longer good.
    pub async fn accept(
        &self,
        policy: &ClientAuthPolicy,
        stream: TcpStream,
        buffers: &WriteBuffers,
    ) -> Result<TlsStream, HandshakeError> {
        let contexts = self.served().contexts;
        let matching = contexts.iter().find(|known| known.policy == *policy).ok_or(HandshakeError::Gone)?;
        let mut stream = TlsStream::new(Ssl::new(&matching.context)?, stream, buffers.clone())?;
        drop(contexts);
        stream.accept().await?;
        if stream.is_outdated() {
            return Err(HandshakeError::Outdated);
        }
        let resumed = stream.resumed_certificate();
        let verified = resumed.map_or(Ok(()), |certificate| self.verify(policy, &[certificate]));
        verified.map(|()| stream).map_err(HandshakeError::Certificate)
    }
}

/// Each distinct policy of the listeners with its CAs. Each file is read once, so OpenSSL and later checks use the same
/// content.
fn client_policies(config: &Config) -> Diagnosed<Vec<(ClientAuthPolicy, Option<ClientTrust>)>> {
    let (mut policies, mut problems) = (Vec::new(), Vec::new());
    for policy in config.settings.listeners.iter().map(|listener| &listener.clients) {
        if policies.iter().any(|(known, _)| known == policy) {
            continue;
        }
        match ClientTrust::read(policy) {
            Ok(trust) => policies.push((policy.clone(), trust)),
            Err(problem) => problems.push(problem),
        }
    }
    Diagnosed { value: policies, problems }
}

/// The warning of a port that is served without TLS.
fn plaintext_warning(problems: &[Diagnostic]) -> Diagnostic {
    let reasons: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let message = format!("only served without TLS: {}", reasons.join("; "));
    Diagnostic::warning(ValueOrigin::Profile, "product.certificate", message)
}

//! Client certificates: nodegate asks for them where the settings say so, and verifies them by the CAs of one file.
//! Only the log records the subject of a verified certificate.

use std::fmt::Write as _;
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sha::Sha256;
use openssl::ssl::{SslContextBuilder, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameRef, X509Ref, X509VerifyResult};

use super::revocation::{self, CertificateFault, RevocationLists};
use crate::config::diagnostic::Diagnostic;
use crate::config::settings::{ClientAuthPolicy, ClientCertificates};

/// A client certificate that was verified.
#[derive(Debug)]
pub struct ClientIdentity {
    /// `CN=alice,O=Example`, as the certificate has it
    pub subject: String,
    /// SHA-256 of the certificate as `AA:BB:…`
    pub fingerprint: String,
    /// the certificate and the CAs above it, as far as they are known: a resumed session brings no CAs. Later
    /// revocation lists are applied to it.
    pub chain: Vec<X509>,
}

impl ClientIdentity {
    pub(super) fn from_chain(chain: Vec<X509>) -> Option<Self> {
        let certificate = chain.first()?;
        let digest = certificate.digest(MessageDigest::sha256()).ok()?;
        let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let subject = name_text(certificate.subject_name());
        Some(Self { subject, fingerprint: bytes.join(":"), chain })
    }
}

/// The CAs and lists that verify client certificates, as the files were when they were read.
pub(super) struct ClientTrust {
    mode: SslVerifyMode,
    authorities: Vec<X509>,
    /// content of the CA file
    pem: Vec<u8>,
    lists: Option<RevocationLists>,
}

impl ClientTrust {
    /// `None` if the policy asks for no certificates.
    ///
    /// # Errors
    /// The problem with a file, by the setting that names it.
    pub(super) fn read(policy: &ClientAuthPolicy) -> Result<Option<Self>, Diagnostic> {
        let mode = match policy.mode {
            ClientCertificates::Off => return Ok(None),
            ClientCertificates::Optional => SslVerifyMode::PEER,
            ClientCertificates::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
        };
        let (authorities, pem) = authorities(policy)
            .map_err(|message| Diagnostic::error(policy.origin.clone(), policy.key.clone(), message))?;
        let load = |file: &PathBuf| RevocationLists::load(file, &authorities);
        let lists = policy.revocation_lists.as_ref().map(load).transpose().map_err(|message| {
            Diagnostic::error(policy.lists_origin.clone(), policy.lists_key.clone(), message)
        })?;
        Ok(Some(Self { mode, authorities, pem, lists }))
    }

    /// Makes a context ask for certificates.
    ///
    /// A session ticket holds a verified certificate. So the context's id is derived from mode, CAs and revocation
    /// lists: after a change of these the client has to send its certificate again.
    pub(super) fn install(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for authority in &self.authorities {
            store.add_cert(authority.clone())?;
            builder.add_client_ca(authority)?;
        }
        let has_lists = self.lists.is_some();
        let mut context = Sha256::new();
        context.update(&self.mode.bits().to_be_bytes());
        context.update(&self.pem);
        if let Some(lists) = &self.lists {
            lists.apply(&mut store)?;
            context.update(lists.bytes());
        }
        builder.set_verify_cert_store(store.build())?;
        builder.set_verify_callback(self.mode, move |is_good, context| {
            is_good || (has_lists && revocation::forgives(context))
        });
        builder.set_session_id_context(&context.finish())
    }

    /// Faults of the lists that make nodegate reject certificates that are not revoked.
    pub(super) fn faults(&self) -> Vec<String> {
        self.lists.as_ref().map(|lists| lists.faults(&self.authorities)).unwrap_or_default()
    }

    /// Verifies a chain that was good before, the client's certificate first, by the current lists.
    pub(super) fn verify(&self, chain: &[X509]) -> Result<(), CertificateFault> {
        self.lists.as_ref().map_or(Ok(()), |lists| lists.verify(&self.completed(chain)))
    }

    pub(super) fn is_revoked(&self, chain: &[X509]) -> bool {
        self.lists.as_ref().is_some_and(|lists| lists.is_revoked(&self.completed(chain)))
    }

    /// The chain, completed with the CAs of the settings.
    fn completed(&self, chain: &[X509]) -> Vec<X509> {
        let mut chain = chain.to_vec();
        for _ in &self.authorities {
            let Some(last) = chain.last().filter(|last| last.issued(last) != X509VerifyResult::OK) else {
                break;
            };
            let mut issuers = self.authorities.iter().filter(|it| it.issued(last) == X509VerifyResult::OK);
            let Some(issuer) = issuers.next().cloned() else { break };
            chain.push(issuer);
        }
        chain
    }
}

/// The CAs that verify client certificates, and the content of their file.
fn authorities(policy: &ClientAuthPolicy) -> Result<(Vec<X509>, Vec<u8>), String> {
    let Some(file) = &policy.authorities else { return Err("is not set".to_owned()) };
    let place = file.display();
    let pem = std::fs::read(file).map_err(|error| format!("{place}: cannot be read: {error}"))?;
    let authorities = X509::stack_from_pem(&pem).unwrap_or_default();
    if authorities.is_empty() {
        return Err(format!("{place}: holds no certificate in PEM form"));
    }
    Ok((authorities, pem))
}

/// Whether a certificate that was good before has expired.
pub(super) fn has_expired(certificate: &X509Ref) -> bool {
    Asn1Time::days_from_now(0).is_ok_and(|now| certificate.not_after() < &*now)
}

/// `CN=alice,O=Example`.
pub(super) fn name_text(name: &X509NameRef) -> String {
    let mut text = String::new();
    for entry in name.entries() {
        let field = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_default();
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{field}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use nodegate_standin::{Certificate, KeyKind};
    use openssl::ssl::SslMethod;

    use super::*;
    use crate::config::diagnostic::ValueOrigin;

    const LIST: &str = "-----BEGIN X509 CRL-----
MIGrMFICAQEwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGYSB0ZXN0Fw0yNjExMzAw
MDAxMjhaGA8yMTI1MDYyNDAwMDEyOFqgDjAMMAoGA1UdFAQDAgEBMAoGCCqGSM49
BAMCA0kAMEYCIQDQ2y9HFN/w4KyVy9i7R2JaWj60/JwWJEyjV9+upi05XgIhAI2M
2EofHJsbJx6ehFqxZFYRTHvVOSbDYhAP9iD1NExN
-----END X509 CRL-----
";

    fn certificate(certificate: &Certificate) -> X509 {
        X509::from_pem(certificate.certificate_pem().as_bytes()).unwrap()
    }

    #[test]
    fn resumed_sessions_recheck_certificate_expiry() {
        for (days, ended) in [((-10, -1), true), ((-10, 1), false)] {
            let issued = Certificate::ca().issue_for_days("alice", &[], KeyKind::EcP256, days);
            let certificate = X509::from_pem(issued.certificate_pem().as_bytes()).unwrap();
            assert_eq!(has_expired(&certificate), ended);
        }
    }

    #[test]
    fn an_identity_is_the_subject_and_the_fingerprint() {
        let issued = Certificate::ca().issue("alice", &[], KeyKind::EcP256);
        let certificate = X509::from_pem(issued.certificate_pem().as_bytes()).unwrap();
        let identity = ClientIdentity::from_chain(vec![certificate]).unwrap();
        assert!(identity.subject.ends_with(",CN=alice"), "{identity:?}");
        assert_eq!(identity.fingerprint, issued.fingerprint());
    }

    #[test]
    fn an_emptied_file_keeps_the_old_contents() {
        let folder = tempfile::tempdir().unwrap();
        let [ca, list] = ["ca", "list"].map(|name| folder.path().join(name));
        std::fs::write(&ca, Certificate::ca().certificate_pem()).unwrap();
        std::fs::write(&list, LIST).unwrap();
        let policy = ClientAuthPolicy {
            mode: ClientCertificates::Required,
            authorities: Some(ca.clone()),
            key: String::new(),
            origin: ValueOrigin::Profile,
            revocation_lists: Some(list.clone()),
            lists_key: String::new(),
            lists_origin: ValueOrigin::Profile,
        };
        let trust = ClientTrust::read(&policy).unwrap().unwrap();
        for file in [ca, list] {
            std::fs::write(file, "").unwrap();
        }
        let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        trust.install(&mut builder).unwrap();
        let stranger = certificate(&Certificate::ca().issue("alice", &[], KeyKind::EcP256));
        assert_eq!(trust.verify(&[stranger]), Err(CertificateFault::NoList), "there still is a list");
        assert!(ClientTrust::read(&policy).is_err());
    }

    #[test]
    fn a_chain_is_completed_with_known_cas() {
        let [other, ca] = [Certificate::ca(), Certificate::ca()];
        let alice = certificate(&ca.issue("alice", &[], KeyKind::EcP256));
        let authorities = vec![certificate(&other), certificate(&ca)];
        let trust = ClientTrust { mode: SslVerifyMode::PEER, authorities, pem: Vec::new(), lists: None };
        let ders = |chain: &[X509]| chain.iter().map(|it| it.to_der().unwrap()).collect::<Vec<_>>();
        let whole = [alice.clone(), certificate(&ca)];
        assert_eq!(ders(&trust.completed(&[alice])), ders(&whole));
        assert_eq!(ders(&trust.completed(&whole)), ders(&whole));
    }
}

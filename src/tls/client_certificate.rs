//! Certificates that clients show: asked for where the settings say so, judged by the CAs of one file. Who was judged
//! good is told to the log, and to nobody else.

use std::fmt::Write as _;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sha::Sha256;
use openssl::ssl::{SslContextBuilder, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameRef, X509Ref};

use super::reason;
use super::revocation::{self, RevocationLists};
use crate::config::settings::{ClientCertificates, ClientDemand, TlsSettings};

/// Who has shown a certificate that was found good.
#[derive(Debug)]
pub struct Identity {
    /// `CN=alice,O=Example`, as the certificate has it
    pub subject: String,
    /// SHA-256 of the certificate as `AA:BB:…`
    pub fingerprint: String,
    /// what was shown, for lists of revoked certificates that come later
    pub certificate: X509,
}

impl Identity {
    pub(super) fn of(certificate: X509) -> Option<Self> {
        let digest = certificate.digest(MessageDigest::sha256()).ok()?;
        let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let subject = name_text(certificate.subject_name());
        Some(Self { subject, fingerprint: bytes.join(":"), certificate })
    }
}

/// Has a context ask for certificates, as far as the settings want it.
///
/// A session ticket holds what was judged once. So its context is named by mode, CAs and revocation lists: with others of
/// these, the client has to show its certificate again.
pub(super) fn ask(builder: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), AskError> {
    let mode = match settings.clients.mode {
        ClientCertificates::Off => return Ok(()),
        ClientCertificates::Optional => SslVerifyMode::PEER,
        ClientCertificates::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    };
    let (authorities, pem) = authorities(&settings.clients).map_err(AskError::Authorities)?;
    let lists = lists(&settings.clients, &authorities).map_err(AskError::Revocation)?;
    trust(builder, &authorities, lists.as_ref())?;
    let has_lists = lists.is_some();
    builder.set_verify_callback(mode, move |is_good, context| {
        is_good || (has_lists && revocation::forgives(context))
    });
    let mut context = Sha256::new();
    context.update(&mode.bits().to_be_bytes());
    context.update(&pem);
    context.update(lists.as_ref().map(RevocationLists::bytes).unwrap_or_default());
    builder.set_session_id_context(&context.finish()).map_err(|error| AskError::Authorities(reason(&error)))
}

/// The CAs that judge certificates of clients, and the file as it was read.
pub(super) fn authorities(demand: &ClientDemand) -> Result<(Vec<X509>, Vec<u8>), String> {
    let Some(file) = &demand.authorities else { return Err("is not set".to_owned()) };
    let place = file.display();
    let pem = std::fs::read(file).map_err(|error| format!("{place}: cannot be read: {error}"))?;
    let authorities = X509::stack_from_pem(&pem).unwrap_or_default();
    if authorities.is_empty() {
        return Err(format!("{place}: holds no certificate in PEM form"));
    }
    Ok((authorities, pem))
}

/// The lists of revoked certificates, where the settings name a file and certificates are asked for.
pub(super) fn lists(demand: &ClientDemand, authorities: &[X509]) -> Result<Option<RevocationLists>, String> {
    let file = demand.revocation_lists.as_ref().filter(|_| demand.mode != ClientCertificates::Off);
    file.map(|file| RevocationLists::load(file, authorities)).transpose()
}

/// What is wrong, by the setting that names the file.
pub(super) enum AskError {
    Authorities(String),
    Revocation(String),
}

/// Whether it is over with a certificate that was good before.
pub(super) fn has_ended(certificate: &X509Ref) -> bool {
    Asn1Time::days_from_now(0).is_ok_and(|now| certificate.not_after() < &*now)
}

fn trust(
    builder: &mut SslContextBuilder,
    authorities: &[X509],
    lists: Option<&RevocationLists>,
) -> Result<(), AskError> {
    let failed = |error: ErrorStack| AskError::Authorities(reason(&error));
    let mut store = X509StoreBuilder::new().map_err(failed)?;
    for authority in authorities {
        store.add_cert(authority.clone()).map_err(failed)?;
        builder.add_client_ca(authority).map_err(failed)?;
    }
    if let Some(lists) = lists {
        lists.apply(&mut store).map_err(AskError::Revocation)?;
    }
    builder.set_verify_cert_store(store.build()).map_err(failed)
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
    #![allow(clippy::unwrap_used)]
    use nodegate_standin::{Certificate, KeyKind};

    use super::*;

    #[test]
    fn a_certificate_of_a_resumed_session_may_have_ended() {
        for (days, ended) in [((-10, -1), true), ((-10, 1), false)] {
            let issued = Certificate::ca().issue_for_days("alice", &[], KeyKind::EcP256, days);
            let certificate = X509::from_pem(issued.certificate_pem().as_bytes()).unwrap();
            assert_eq!(has_ended(&certificate), ended);
        }
    }

    #[test]
    fn an_identity_is_the_subject_and_the_fingerprint() {
        let issued = Certificate::ca().issue("alice", &[], KeyKind::EcP256);
        let certificate = X509::from_pem(issued.certificate_pem().as_bytes()).unwrap();
        let identity = Identity::of(certificate).unwrap();
        assert!(identity.subject.ends_with(",CN=alice"), "{identity:?}");
        assert_eq!(identity.fingerprint, issued.fingerprint());
    }
}

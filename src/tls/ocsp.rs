//! OCSP stapling (RFC 6960): a file beside a certificate holds the response of the CA, and clients that ask for it
//! get it. nodegate never fetches a response; the tool that renews the certificate does.

use std::io;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::{
    OcspBasicResponse, OcspCertId, OcspCertStatus, OcspFlag, OcspResponse, OcspResponseStatus, OcspStatus,
};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref};

/// A response, its certificate, and the id of the certificate within the response.
pub(super) struct OcspStaple {
    leaf: X509,
    der: Vec<u8>,
    answer: OcspBasicResponse,
    id: OcspCertId,
}

/// Why a response cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StapleError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("the certificate's file lacks its issuer, whose key verifies the response")]
    NoIssuer,
    #[error("it is not a successful OCSP response in DER form")]
    NoAnswer,
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error("the certificate's issuer has not signed it")]
    Signature,
    #[error("it does not say that the certificate is good")]
    NotGood,
    #[error("it does not say how long it is valid")]
    Endless,
    #[error("it has expired, or is not valid yet")]
    OutOfTime,
}

impl OcspStaple {
    /// `None` if there is no file.
    pub(super) fn load(file: &Path, leaf: &X509, issuer: Option<&X509>) -> Result<Option<Self>, StapleError> {
        let der = match std::fs::read(file) {
            Ok(der) => der,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let issuer = issuer.ok_or(StapleError::NoIssuer)?;
        let answer = successful(&der).ok_or(StapleError::NoAnswer)?;
        let id = id_within(&answer, leaf, issuer).ok_or(StapleError::OtherCertificate)?;
        is_signed(&answer, issuer).map_err(|_| StapleError::Signature)?;
        let staple = Self { leaf: leaf.clone(), der, answer, id };
        let status = staple.status().ok_or(StapleError::OtherCertificate)?;
        if status.status != OcspCertStatus::GOOD {
            return Err(StapleError::NotGood);
        }
        if status.next_update().is_none() {
            return Err(StapleError::Endless);
        }
        status.check_validity(0, None).map_err(|_| StapleError::OutOfTime)?;
        Ok(Some(staple))
    }

    /// The response to send with `leaf` now.
    pub(super) fn response_for(&self, leaf: &X509Ref) -> Option<&[u8]> {
        let is_good = self.leaf == *leaf && self.status()?.check_validity(0, None).is_ok();
        is_good.then_some(&self.der)
    }

    fn status(&self) -> Option<OcspStatus<'_>> {
        self.answer.find_status(&self.id)
    }
}

fn successful(der: &[u8]) -> Option<OcspBasicResponse> {
    let response = OcspResponse::from_der(der).ok()?;
    if response.status() == OcspResponseStatus::SUCCESSFUL { response.basic().ok() } else { None }
}

/// Most responses identify the certificate by SHA-1 digests of its issuer's name and key, as RFC 5019 requires.
fn id_within(answer: &OcspBasicResponse, leaf: &X509, issuer: &X509) -> Option<OcspCertId> {
    let digests = [MessageDigest::sha1(), MessageDigest::sha256()];
    let mut ids = digests.into_iter().filter_map(|digest| OcspCertId::from_cert(digest, leaf, issuer).ok());
    ids.find(|id| answer.find_status(id).is_some())
}

/// Verifies the signature of the issuer, or of a responder that the issuer authorized.
fn is_signed(answer: &OcspBasicResponse, issuer: &X509) -> Result<(), ErrorStack> {
    let mut certificates = Stack::new()?;
    certificates.push(issuer.clone())?;
    let store = trust_store(issuer)?;
    answer.verify(&certificates, &store, OcspFlag::TRUST_OTHER)
}

/// A store that trusts the issuer, which may be no root.
fn trust_store(issuer: &X509) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    store.add_cert(issuer.clone())?;
    Ok(store.build())
}

//! Certificate revocation lists (RFC 5280 section 5) for client certificates.
//!
//! OpenSSL applies them in a full handshake. The newest list of each CA is kept here as well, for resumed sessions
//! and open connections: their clients send no certificate again.

use std::cmp::Ordering;
use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};

use foreign_types::ForeignTypeRef as _;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{CrlStatus, X509, X509Crl, X509CrlRef, X509StoreContextRef, X509VerifyResult};

use crate::tls::client_auth::name_text;

const PEM_BEGIN: &str = "-----BEGIN X509 CRL-----";
const PEM_END: &str = "-----END X509 CRL-----";
/// `X509_V_ERR_UNABLE_TO_GET_CRL` of `openssl/x509_vfy.h`.
const NO_LIST: i32 = 3;

/// Why a certificate that was good at its handshake is no longer good.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateFault {
    #[error("its certificate is revoked")]
    Revoked,
    #[error("no revocation list of its CA is currently valid")]
    NoList,
}

pub(super) struct RevocationLists {
    file: PathBuf,
    bytes: Vec<u8>,
    /// the newest list of each CA, and of each key of a CA
    lists: Vec<X509Crl>,
}

impl RevocationLists {
    /// # Errors
    /// The file cannot be read, holds no list, or holds one that its CA has not signed.
    pub(super) fn load(file: &Path, authorities: &[X509]) -> Result<Self, String> {
        let place = file.display();
        let bytes = std::fs::read(file).map_err(|error| format!("{place}: cannot be read: {error}"))?;
        let lists = parse(&bytes);
        if lists.is_empty() {
            return Err(format!("{place}: holds no certificate revocation list, in PEM or DER form"));
        }
        let signers = lists.iter().map(|list| signer(list, authorities)).collect::<Result<Vec<_>, _>>();
        let signers = signers.map_err(|message| format!("{place}: {message}"))?;
        let lists = last_of_each(lists.into_iter().zip(signers).collect());
        Ok(Self { file: file.to_path_buf(), bytes, lists })
    }

    /// The content of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes a store apply the lists to each certificate of a chain. It uses the bytes that were read, because the
    /// file may have changed since.
    pub(super) fn apply(&self, store: &mut X509StoreBuilder) -> Result<(), ErrorStack> {
        parse(&self.bytes).iter().try_for_each(|list| add_list(store, list))?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
    }

    /// Verifies a chain that was good before, the client's certificate first, by the current lists.
    pub(super) fn verify(&self, chain: &[X509]) -> Result<(), CertificateFault> {
        if self.is_revoked(chain) {
            return Err(CertificateFault::Revoked);
        }
        let mut places = chain.iter().enumerate();
        let is_covered = places.all(|(depth, certificate)| {
            let mut lists = self.of_issuer(certificate).peekable();
            // A handshake has the same exception: see `forgives`.
            (depth > 0 && lists.peek().is_none()) || lists.any(|list| is_in_time(list))
        });
        if is_covered { Ok(()) } else { Err(CertificateFault::NoList) }
    }

    pub(super) fn is_revoked(&self, chain: &[X509]) -> bool {
        let is_on =
            |list: &X509Crl, certificate| matches!(list.get_by_cert(certificate), CrlStatus::Revoked(_));
        chain.iter().any(|certificate| self.of_issuer(certificate).any(|list| is_on(list, certificate)))
    }

    fn of_issuer<'a>(&'a self, certificate: &'a X509) -> impl Iterator<Item = &'a X509Crl> {
        self.lists.iter().filter(|list| is_by(list, certificate))
    }

    /// Faults of the lists that make nodegate reject certificates that are not revoked.
    pub(super) fn faults(&self, authorities: &[X509]) -> Vec<String> {
        let place = self.file.display();
        let late = self.lists.iter().filter(|list| !is_in_time(list)).map(|list| {
            let (issuer, from) = (name_text(list.issuer_name()), list.last_update());
            match list.next_update() {
                Some(until) => format!(
                    "{place}: the list of {issuer} is valid only from {from} to {until}, so certificates of this CA are \
                     refused: renew the list"
                ),
                None => format!("{place}: the list of {issuer} is not valid before {from}"),
            }
        });
        let has_list = |authority: &&X509| {
            let subject = authority.subject_name();
            self.lists.iter().any(|list| list.issuer_name().try_cmp(subject).is_ok_and(Ordering::is_eq))
        };
        let without = authorities.iter().filter(|authority| !has_list(authority)).map(|authority| {
            let subject = name_text(authority.subject_name());
            format!("{place}: holds no list of {subject}: certificates that this CA has issued to clients are refused")
        });
        late.chain(without).collect()
    }
}

/// Accepts a chain in which a CA above the first has no list: only client certificates need one.
pub(super) fn forgives(context: &mut X509StoreContextRef) -> bool {
    let forgives = context.error().as_raw() == NO_LIST && context.error_depth() > 0;
    if forgives {
        context.set_error(X509VerifyResult::OK);
    }
    forgives
}

/// All lists of a file in PEM or DER form; none if any of them is broken.
fn parse(bytes: &[u8]) -> Vec<X509Crl> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN "));
    let lists = match text {
        Some(text) => from_pem(text),
        None => X509Crl::from_der(bytes).map(|list| vec![list]),
    };
    lists.unwrap_or_default()
}

fn add_list(store: &mut X509StoreBuilder, list: &X509CrlRef) -> Result<(), ErrorStack> {
    unsafe extern "C" {
        fn X509_STORE_add_crl(store: *mut c_void, list: *mut c_void) -> c_int;
    }
    // SAFETY: store and list are valid during the call, and the store takes a reference of its own to the list.
    let added = unsafe { X509_STORE_add_crl(store.as_ptr().cast(), list.as_ptr().cast()) };
    if added == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Every list of a file that may hold other PEM blocks as well.
fn from_pem(text: &str) -> Result<Vec<X509Crl>, ErrorStack> {
    let blocks = text.split(PEM_BEGIN).skip(1).filter_map(|rest| rest.split_once(PEM_END));
    blocks.map(|(body, _)| X509Crl::from_pem([PEM_BEGIN, body, PEM_END, "\n"].concat().as_bytes())).collect()
}

/// The index of the CA that signed a list. A CA that the settings do not have is verified with the client's chain.
fn signer(list: &X509CrlRef, authorities: &[X509]) -> Result<Option<usize>, String> {
    let issuer = list.issuer_name();
    let is_issuer = |authority: &X509| authority.subject_name().try_cmp(issuer).is_ok_and(Ordering::is_eq);
    let has_signed =
        |authority: &X509| authority.public_key().and_then(|key| list.verify(&key)).unwrap_or(false);
    let signer = authorities.iter().position(|authority| is_issuer(authority) && has_signed(authority));
    if signer.is_some() || !authorities.iter().any(is_issuer) {
        return Ok(signer);
    }
    Err(format!("the list of {} is not signed with the key of that CA", name_text(issuer)))
}

type SignedList = (X509Crl, Option<usize>);

/// The newest of the lists with the same name and key, or several that were made at the same time.
fn last_of_each(lists: Vec<SignedList>) -> Vec<X509Crl> {
    let is_later = |(other, by): &SignedList, (list, signer): &SignedList| {
        by == signer
            && other.issuer_name().try_cmp(list.issuer_name()).is_ok_and(Ordering::is_eq)
            && other.last_update().compare(list.last_update()).is_ok_and(Ordering::is_gt)
    };
    let last: Vec<_> = lists.iter().map(|list| !lists.iter().any(|other| is_later(other, list))).collect();
    lists.into_iter().zip(last).filter_map(|((list, _), is_last)| is_last.then_some(list)).collect()
}

fn is_by(list: &X509CrlRef, certificate: &X509) -> bool {
    list.issuer_name().try_cmp(certificate.issuer_name()).is_ok_and(Ordering::is_eq)
}

fn is_in_time(list: &X509CrlRef) -> bool {
    let Ok(now) = Asn1Time::days_from_now(0) else { return false };
    let is_not_after =
        |time: &Asn1TimeRef, other: &Asn1TimeRef| time.compare(other).is_ok_and(Ordering::is_le);
    is_not_after(list.last_update(), &now) && list.next_update().is_none_or(|end| is_not_after(&now, end))
}

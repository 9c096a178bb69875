//! Makes OpenSSL contexts from pairs: one for each set of certificates that a client may be offered, and one that SNI
//! selects the others from.

use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{NameType, SniError, SslContext, SslContextBuilder};

use super::{build, openssl_error, reason};
use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::config::settings::TlsSettings;
use crate::tls::certificate::CertifiedKey;
use crate::tls::client_auth::ClientTrust;
use crate::tls::ocsp::OcspStaple;
use crate::tls::session_tickets::TicketKeys;
use crate::tls::sni::{SniCandidate, SniResolver};

/// The common input of all contexts.
struct ContextBuilder<'a> {
    settings: &'a TlsSettings,
    trust: Option<&'a ClientTrust>,
    pairs: &'a [CertifiedKey],
    keys: &'a Arc<TicketKeys>,
    staples: Arc<[OcspStaple]>,
}

/// The context that every handshake begins with, and hints for the admin. The first pair is the profile's own.
pub(super) fn from_pairs(
    settings: &TlsSettings,
    trust: Option<&ClientTrust>,
    pairs: &[CertifiedKey],
    keys: &Arc<TicketKeys>,
) -> Result<Diagnosed<SslContext>, Vec<Diagnostic>> {
    let candidates: Vec<_> =
        pairs.iter().map(|pair| SniCandidate { names: pair.names(), kind: pair.kind() }).collect();
    let selection = SniResolver::new(&candidates);
    let mut problems = Vec::new();
    for (_, pair) in pairs.iter().enumerate().filter(|(place, _)| !selection.holds(*place)) {
        let message =
            format!("{}: is never served: others have its names and its kind of key", pair.file().display());
        problems.push(settings.error("tls.additional_certificates", message).into_warning());
    }
    let staples = pairs.iter().filter_map(|pair| {
        pair.staple().unwrap_or_else(|warning| {
            problems.push(warning);
            None
        })
    });
    let staples = staples.collect();
    let making = ContextBuilder { settings, trust, pairs, keys, staples };
    let mut sets = selection.sets.iter();
    let mut first = making.context(sets.next().map_or(&[], Vec::as_slice))?;
    let others =
        sets.map(|set| making.context(set).map(SslContextBuilder::build)).collect::<Result<Vec<_>, _>>()?;
    if !others.is_empty() {
        select_by_name(&mut first, selection, others);
    }
    Ok(Diagnosed { value: first.build(), problems })
}

impl ContextBuilder<'_> {
    fn context(&self, set: &[usize]) -> Result<SslContextBuilder, Vec<Diagnostic>> {
        let mut builder = build(self.settings, self.trust)?;
        self.fill(&mut builder, set).map_err(|error| vec![openssl_error(self.settings, &reason(&error))])?;
        Ok(builder)
    }

    fn fill(&self, builder: &mut SslContextBuilder, set: &[usize]) -> Result<(), ErrorStack> {
        for pair in set.iter().filter_map(|place| self.pairs.get(*place)) {
            pair.install(builder)?;
        }
        self.keys.install(builder)?;
        if self.staples.is_empty() {
            return Ok(());
        }
        let staples = Arc::clone(&self.staples);
        builder.set_status_callback(move |ssl| {
            let chosen = ssl.certificate();
            let staple = chosen.and_then(|leaf| staples.iter().find_map(|staple| staple.response_for(leaf)));
            let Some(der) = staple else { return Ok(false) };
            ssl.set_ocsp_status(der).map(|()| true)
        })
    }
}

/// Selects a context by SNI; `others` are all sets but the first.
fn select_by_name(first: &mut SslContextBuilder, selection: SniResolver, others: Vec<SslContext>) {
    first.set_servername_callback(move |ssl, _| {
        let place = ssl.servername(NameType::HOST_NAME).map_or(0, |name| selection.find(name));
        let other = place.checked_sub(1).and_then(|place| others.get(place));
        let Some(context) = other else { return Err(SniError::NOACK) };
        ssl.set_ssl_context(context).map_err(|_| SniError::ALERT_FATAL)
    });
}

//! Chooses the served pair of the profile, and adds the certificates of the settings.

use std::path::Path;

use super::usability::{self, ClientSupport};
use super::{build, reason};
use crate::config::Config;
use crate::config::diagnostic::{Diagnosed, Diagnostic};
use crate::config::settings::TlsSettings;
use crate::tls::certificate::{CertifiedKey, PairError, fitting_key};
use crate::tls::certificate_files::{PairFiles, key_of, pair_files};

/// A pair that OpenSSL accepts, and the clients that can connect with it.
type LoadedCertificate = Result<(CertifiedKey, ClientSupport), PairError>;

/// The first pair of the profile that exists, fits together and lets some client connect. Then follow the pairs that
/// the settings add. Later pairs of the profile are fallbacks.
///
/// A pair that exists and cannot be served is an error in the list, even if another pair is served. A pair of the
/// profile with one file missing is a warning. It is an error if a setting names its key or if no pair is left.
/// Without a pair of the profile nothing is served.
pub(super) fn choose(config: &Config) -> Diagnosed<Option<Vec<CertifiedKey>>> {
    let Diagnosed { value: own, mut problems } = choose_own(config);
    let more = load_additional(config);
    problems.extend(more.problems);
    let Some(own) = own else { return Diagnosed { value: None, problems } };
    let pairs: Vec<_> = std::iter::once(own).chain(more.value).collect();
    for pair in &pairs {
        let notes = pair.notes().iter().map(|note| Diagnostic::file_error(pair.file(), note.clone()));
        problems.extend(notes.map(Diagnostic::into_warning));
    }
    Diagnosed { value: Some(pairs), problems }
}

fn load(certificate: &Path, key: &Path, settings: &TlsSettings) -> LoadedCertificate {
    let pair = CertifiedKey::load(certificate, key)?;
    match try_out(settings, &pair) {
        Ok(support) => Ok((pair, support)),
        Err(reason) => Err(PairError::Refused { certificate: certificate.to_path_buf(), reason }),
    }
}

/// The clients that can connect with a pair, or why OpenSSL rejects it (for example a key too short for the security
/// level).
fn try_out(settings: &TlsSettings, pair: &CertifiedKey) -> Result<ClientSupport, String> {
    // Without sound settings no pair can be tried; the settings' errors are already in the list of the acceptor.
    let Ok(mut builder) = build(settings, None) else {
        return Ok(ClientSupport::All);
    };
    pair.install(&mut builder).map_err(|error| reason(&error))?;
    let tried = pair.public_key().and_then(|key| usability::client_support(&builder.build(), &key));
    Ok(tried.unwrap_or(ClientSupport::All))
}

/// A pair without one of its files or both.
struct MissingPair {
    problem: Diagnostic,
    /// one of the files is there
    is_half: bool,
}

/// The pairs of the profile.
#[derive(Default)]
struct CertificateSearch {
    problems: Vec<Diagnostic>,
    /// an error if nothing is left to serve
    missing: Vec<MissingPair>,
    half: Vec<Diagnostic>,
    /// a pair that no ordinary client can connect with
    last_resort: Option<CertifiedKey>,
}

fn choose_own(config: &Config) -> Diagnosed<Option<CertifiedKey>> {
    let mut search = CertificateSearch::default();
    for entry in &config.product.certificate {
        let PairFiles { certificate, key } = pair_files(entry, config);
        let key_is_named = entry.key_setting && config.settings.tls.key_file.is_some();
        let problem = |message: String| {
            let is_about_key = message.starts_with(&*key.to_string_lossy());
            Diagnostic::at_its_file(if is_about_key { &key } else { &certificate }, &message)
        };
        match load(&certificate, &key, &config.settings.tls) {
            Ok((pair, ClientSupport::NoClient(reason))) => {
                search.problems.push(problem(reason));
                search.last_resort = search.last_resort.or(Some(pair));
            }
            Ok((pair, usability)) => {
                if let ClientSupport::Limited(reason) = usability {
                    search.problems.push(problem(reason).into_warning());
                }
                search.problems.extend(search.half);
                return Diagnosed { value: Some(pair), problems: search.problems };
            }
            Err(error @ PairError::Missing(_)) => {
                let is_half = certificate.exists() != key.exists();
                if key_is_named && certificate.exists() {
                    search.problems.push(problem(error.to_string()));
                } else {
                    search.missing.push(MissingPair { problem: problem(error.to_string()), is_half });
                    search.half.extend(is_half.then(|| half_pair_warning(&certificate, &key)));
                }
            }
            Err(error) => search.problems.push(problem(error.to_string())),
        }
    }
    if search.last_resort.is_some() {
        search.problems.extend(search.half);
    } else {
        // If a pair that is there has an error, it is enough to correct that one.
        let has_error = search.problems.iter().any(Diagnostic::is_error);
        let missing = search.missing.into_iter().filter(|missing| missing.is_half || !has_error);
        let missing = missing.map(|missing| missing.problem).collect();
        search.problems.extend(tell_how_many_are_needed(missing));
    }
    Diagnosed { value: search.last_resort, problems: search.problems }
}

/// Of several missing pairs only one is needed, and each line says so.
fn tell_how_many_are_needed(mut missing: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if missing.len() > 1 {
        for problem in &mut missing {
            problem.message.push_str("; one certificate is enough");
        }
    }
    missing
}

/// The warning about a pair with one file missing.
fn half_pair_warning(certificate: &Path, key: &Path) -> Diagnostic {
    let (there, missing) = if certificate.exists() { (certificate, key) } else { (key, certificate) };
    let fitting = if there == certificate { fitting_key(certificate) } else { None };
    let hint =
        fitting.map(|found| format!("; {} fits: is it misnamed?", found.display())).unwrap_or_default();
    let message = format!("is not served: {} is missing{hint}", missing.display());
    Diagnostic::file_error(there, message).into_warning()
}

/// The certificates that the settings add.
fn load_additional(config: &Config) -> Diagnosed<Vec<CertifiedKey>> {
    let settings = &config.settings.tls;
    let problem = |message: String| settings.error("tls.additional_certificates", message);
    let (mut pairs, mut problems) = (Vec::<(CertifiedKey, Option<String>)>::new(), Vec::new());
    for certificate in &settings.additional_certificates {
        match load(certificate, &key_of(certificate), settings) {
            Ok((pair, _)) if pair.names().is_empty() => {
                problems.push(problem(PairError::Nameless(pair.file().to_path_buf()).to_string()));
            }
            Ok((pair, ClientSupport::All)) => pairs.push((pair, None)),
            Ok((pair, ClientSupport::Limited(reason))) => pairs.push((pair, Some(reason))),
            Ok((pair, ClientSupport::NoClient(reason))) => {
                problems.push(problem(format!("{}: {reason}", pair.file().display())));
            }
            Err(error) => problems.push(problem(error.to_string())),
        }
    }
    // With several kinds of keys for a name, each client gets the one that it supports.
    for (pair, reason) in &pairs {
        let is_beside_another = pairs.iter().any(|(other, reason)| {
            reason.is_none() && pair.names().iter().all(|name| other.names().contains(name))
        });
        if let Some(reason) = reason.as_ref().filter(|_| !is_beside_another) {
            problems.push(problem(format!("{}: {reason}", pair.file().display())).into_warning());
        }
    }
    Diagnosed { value: pairs.into_iter().map(|(pair, _)| pair).collect(), problems }
}

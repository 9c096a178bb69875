//! Certificates and revocation lists while the process serves: changes of the files, and expiry.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use super::Supervisor;
use crate::config::diagnostic::Diagnostic;
use crate::metrics::report;
use crate::state::shared::AppState;
use crate::tls::TlsAcceptor;
use crate::tls::certificate_reloader::ReloadCheck;

/// Begins the reason why a renewed certificate is not served.
const NOT_RENEWED: &str = "the certificate on disk cannot be served, serving the previous one";

impl Supervisor {
    pub(super) fn warn_of_expiry(&self) {
        let Some(acceptor) = self.running.app.state.port_protocol.acceptor() else { return };
        let now = report::seconds_since_1970();
        for certificate in acceptor.certificates() {
            if let Some(notice) = certificate.expiry_notice(now) {
                tracing::warn!(names = certificate.names.join(", "), "{}: {notice}", certificate.file);
            }
        }
    }

    /// Runs in its own thread. While one hangs, no other is started.
    pub(super) fn check_certificates(&mut self) {
        self.control.serves(&self.running.app.state, &self.listening.sockets);
        self.look_at_certificate_files();
    }

    pub(super) fn look_at_certificate_files(&mut self) {
        if self.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return;
        }
        let (renewals, running) = (Arc::clone(&self.renewals), self.running.clone());
        let tickets = Arc::clone(&self.lasting.tickets);
        let logged = Arc::clone(&self.list_problems);
        self.looking = Some(spawn_blocking(move || {
            let Some(acceptor) = running.app.state.port_protocol.acceptor() else { return };
            let mut renewals = renewals.lock().unwrap_or_else(PoisonError::into_inner);
            match renewals.check(acceptor, &running.app.state.config, &tickets, &running.problems) {
                ReloadCheck::Unchanged => (),
                ReloadCheck::Renewed(warnings) => {
                    let certificates = acceptor.certificates();
                    let files: Vec<_> = certificates.iter().map(|it| it.file.as_str()).collect();
                    tracing::info!(files = files.join(", "), "a renewed certificate is served");
                    report_served(&running.app.state, acceptor, &warnings);
                }
                ReloadCheck::Reread(warnings) => {
                    tracing::info!("certificate files were read again; the same certificates are served");
                    report_served(&running.app.state, acceptor, &warnings);
                }
                ReloadCheck::Refused(problems) => {
                    let of_disk = |problem| format!("{NOT_RENEWED}: {problem}");
                    let texts: Vec<_> = problems.iter().map(of_disk).collect();
                    for text in &texts {
                        tracing::error!("{text}");
                    }
                    running.app.state.metrics.process.change(|known| known.renewal_problems = texts);
                }
            }
            if !renewals.has_refused() {
                running.app.state.metrics.process.change(|known| known.renewal_problems.clear());
            }
            log_once(&logged, acceptor.list_problems());
        }));
    }
}

/// For the status, and the log.
fn report_served(state: &AppState, acceptor: &TlsAcceptor, warnings: &[Diagnostic]) {
    state.metrics.process.change(|known| {
        known.certificates = acceptor.certificates();
        known.certificate_problems = acceptor.problems();
    });
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Logs each problem when it first appears.
fn log_once(logged: &Mutex<Vec<Diagnostic>>, problems: Vec<Diagnostic>) {
    let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
    for problem in problems.iter().filter(|problem| !logged.contains(problem)) {
        tracing::error!("{problem}");
    }
    *logged = problems;
}

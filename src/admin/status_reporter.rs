//! The one source of reports: `nodegate status`, the status page and its JSON show the same.

use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::upstream_report::UpstreamReporter;
use crate::metrics::report::StatusReport;
use crate::state::shared::AppState;

/// Makes reports of the configuration that is in effect.
pub(crate) struct StatusReporter {
    state: Mutex<Arc<AppState>>,
    upstreams: UpstreamReporter,
}

/// How a report names clients whose logins failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FailedLoginNames {
    /// as the log names them
    Addresses,
    /// by network, unless `metrics.mask_addresses` is false
    AsSet,
}

impl StatusReporter {
    pub(crate) fn new(state: Arc<AppState>) -> Self {
        Self { state: Mutex::new(state), upstreams: UpstreamReporter::default() }
    }

    /// Takes the current configuration.
    pub(crate) fn serves(&self, state: Arc<AppState>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) async fn report(&self, names: FailedLoginNames) -> StatusReport {
        let state = self.state();
        let settings = &state.config.settings;
        let is_masked = names == FailedLoginNames::AsSet && settings.monitoring.mask_addresses;
        let upstreams = self.upstreams.report(&state).await;
        let failed = state.limiters.logins.recent_failures(settings.limits.login_failures, is_masked);
        StatusReport::now(&state.metrics).with(upstreams, failed)
    }

    fn state(&self) -> Arc<AppState> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

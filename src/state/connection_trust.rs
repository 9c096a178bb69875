//! Whether a connection is authenticated. Until its client sends a valid credential, less memory is available to it.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::limits::unauthenticated::UnauthenticatedConnection;
use crate::metrics::counters::Metrics;
use crate::metrics::labels::LimitLabel;

/// The trust in one connection, shared by all its requests.
pub struct ConnectionTrust {
    is_shown: Cell<bool>,
    shown: Notify,
    stranger: Arc<UnauthenticatedConnection>,
}

impl ConnectionTrust {
    pub(crate) fn new(stranger: Arc<UnauthenticatedConnection>) -> Self {
        Self { is_shown: Cell::new(false), shown: Notify::new(), stranger }
    }

    /// Records a valid credential.
    pub fn show(&self) {
        if !self.is_shown.replace(true) {
            self.stranger.is_known();
            self.shown.notify_waiters();
        }
    }

    /// The output of a future. `None` if an unauthenticated connection has to close before, to make room for others.
    pub async fn unless_evicted<T>(&self, metrics: &Metrics, future: impl Future<Output = T>) -> Option<T> {
        unless_evicted(&self.stranger, metrics, future).await
    }

    /// Counts a request that nodegate rejected because of a limit, if no valid credential was sent.
    pub fn count_rejection(&self) {
        self.stranger.count_rejection();
    }

    pub fn is_shown(&self) -> bool {
        self.is_shown.get()
    }

    /// Returns once a valid credential was sent.
    pub async fn shown(&self) {
        let shown = self.shown.notified();
        if !self.is_shown() {
            shown.await;
        }
    }
}

/// The same for a connection before its first request.
pub(crate) async fn unless_evicted<T>(
    stranger: &UnauthenticatedConnection,
    metrics: &Metrics,
    future: impl Future<Output = T>,
) -> Option<T> {
    let given = stranger.unless_evicted(future).await;
    if given.is_none() {
        stranger.count_rejection();
        metrics.count_limit(LimitLabel::Strangers);
    }
    given
}

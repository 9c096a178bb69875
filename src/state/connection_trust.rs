//! Whether a connection is authenticated. Until its client sends a valid credential, less memory is available to it.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::limits::unauthenticated::UnauthenticatedConnection;
use crate::metrics::counters::Metrics;
use crate::metrics::labels::LimitLabel;

/// The trust in one connection, shared by all its requests.
pub struct ConnectionTrust {
    is_authenticated: Cell<bool>,
    has_request: Cell<bool>,
    authenticated: Notify,
    connection: Arc<UnauthenticatedConnection>,
}

impl ConnectionTrust {
    pub(crate) fn new(connection: Arc<UnauthenticatedConnection>) -> Self {
        let (is_authenticated, has_request) = (Cell::new(false), Cell::new(false));
        Self { is_authenticated, has_request, authenticated: Notify::new(), connection }
    }

    /// Whether this is the first request of the connection.
    pub fn begin_first_request(&self) -> bool {
        !self.has_request.replace(true)
    }

    /// Records a valid credential.
    pub fn set_authenticated(&self) {
        if !self.is_authenticated.replace(true) {
            self.connection.set_authenticated();
            self.authenticated.notify_waiters();
        }
    }

    /// The output of a future. `None` if an unauthenticated connection has to close first, to make room for others.
    pub async fn unless_evicted<T>(&self, metrics: &Metrics, future: impl Future<Output = T>) -> Option<T> {
        unless_evicted(&self.connection, metrics, future).await
    }

    /// Counts a request that nodegate rejected because of a limit, if no valid credential was sent.
    pub fn count_rejection(&self) {
        self.connection.count_rejection();
    }

    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated.get()
    }

    /// Returns once a valid credential was sent.
    pub async fn authenticated(&self) {
        let notified = self.authenticated.notified();
        if !self.is_authenticated() {
            notified.await;
        }
    }
}

/// The same for a connection before its first request.
pub(crate) async fn unless_evicted<T>(
    unauthenticated: &UnauthenticatedConnection,
    metrics: &Metrics,
    future: impl Future<Output = T>,
) -> Option<T> {
    let given = unauthenticated.unless_evicted(future).await;
    if given.is_none() {
        unauthenticated.count_rejection();
        metrics.count_limit(LimitLabel::Strangers);
    }
    given
}

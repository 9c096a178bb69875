//! Whether anybody has shown a good credential on a connection. Until then its client is a stranger, and gets less room.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::limits::unauthenticated::UnauthenticatedConnection;
use crate::metrics::counters;
use crate::metrics::labels::LimitLabel;

/// Shared by all requests of a connection.
pub struct ConnectionTrust {
    is_shown: Cell<bool>,
    shown: Notify,
    stranger: Arc<UnauthenticatedConnection>,
}

impl ConnectionTrust {
    pub(crate) fn new(stranger: Arc<UnauthenticatedConnection>) -> Self {
        Self { is_shown: Cell::new(false), shown: Notify::new(), stranger }
    }

    /// A good credential has come.
    pub fn show(&self) {
        if !self.is_shown.replace(true) {
            self.stranger.is_known();
            self.shown.notify_waiters();
        }
    }

    /// What a future gives, unless the connection of a stranger has to end before, for others to have room.
    pub async fn unless_turned_out<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        unless_turned_out(&self.stranger, future).await
    }

    pub fn is_shown(&self) -> bool {
        self.is_shown.get()
    }

    /// Returns once a good credential has come.
    pub async fn shown(&self) {
        let shown = self.shown.notified();
        if !self.is_shown() {
            shown.await;
        }
    }
}

/// The same for a connection without requests so far.
pub(crate) async fn unless_turned_out<T>(
    stranger: &UnauthenticatedConnection,
    future: impl Future<Output = T>,
) -> Option<T> {
    let given = stranger.unless_turned_out(future).await;
    if given.is_none() {
        counters::limited(LimitLabel::Strangers);
    }
    given
}

//! Whether anybody has shown a good credential on a connection. Until then its client is a stranger, and gets less room.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::limits::strangers::Stranger;

/// Shared by all requests of a connection.
pub struct Trust {
    is_shown: Cell<bool>,
    shown: Notify,
    stranger: Arc<Stranger>,
}

impl Trust {
    pub(super) fn new(stranger: Arc<Stranger>) -> Self {
        Self { is_shown: Cell::new(false), shown: Notify::new(), stranger }
    }

    /// A good credential has come.
    pub fn show(&self) {
        if !self.is_shown.replace(true) {
            self.stranger.is_known();
            self.shown.notify_waiters();
        }
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

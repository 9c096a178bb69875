//! Whether anybody has shown a good credential on a connection. Until then its client is a stranger, and gets less room.

use std::cell::Cell;

use tokio::sync::Notify;

/// Shared by all requests of a connection.
#[derive(Default)]
pub struct Trust {
    is_shown: Cell<bool>,
    shown: Notify,
}

impl Trust {
    /// A good credential has come.
    pub(super) fn show(&self) {
        if !self.is_shown.replace(true) {
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

//! A request body that is drained beside its response.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::time::client_timeouts::{BUSY, IDLE, TimeoutTracker};

/// Guard of a body that is drained; see `TimeoutTracker::draining`.
pub struct DrainGuard(pub(crate) Arc<TimeoutTracker>);

impl Drop for DrainGuard {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::Relaxed);
        if self.0.state.load(Ordering::Relaxed) != BUSY {
            self.0.enter(IDLE);
        }
    }
}

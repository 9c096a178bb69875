//! A body that is taken in beside its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::recent;
use crate::time::client_timeouts::{BUSY, Clock, IDLE};

/// A body is being taken in; see `Clock::draining`.
pub struct Draining(pub(crate) Arc<Clock>);

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::Relaxed);
        if self.0.state.load(Ordering::Relaxed) != BUSY {
            recent::refresh();
            self.0.enter(IDLE);
        }
    }
}

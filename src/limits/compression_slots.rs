//! Streamed answers that nodegate compresses at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each stream takes some 300 kB.
const MAX_STREAMS: usize = 64;

/// The slots of the process.
pub struct CompressionSlots(Arc<Semaphore>);

impl Default for CompressionSlots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl CompressionSlots {
    /// `None` if all are taken.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

//! The processes of a prefork daemon, each of which works on one call at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(crate) struct Workers {
    free: Semaphore,
    calls: AtomicUsize,
    most: AtomicUsize,
}

/// A process that works on a call. It is free again when this is dropped.
pub(crate) struct Worker<'a> {
    _call: Counted<'a>,
    _process: SemaphorePermit<'a>,
}

impl Workers {
    /// 0 is no limit.
    pub(crate) fn new(count: usize) -> Self {
        let count = if count == 0 { Semaphore::MAX_PERMITS } else { count };
        Self { free: Semaphore::new(count), calls: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// Calls get a worker in the order in which they come.
    pub(crate) async fn take(&self) -> Worker<'_> {
        let call = Counted::new(&self.calls);
        self.most.fetch_max(self.calls.load(Ordering::SeqCst), Ordering::SeqCst);
        Worker { _call: call, _process: self.free.acquire().await.unwrap() }
    }

    /// The most calls at once, those that waited included.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub(crate) fn forget_most(&self) {
        self.most.store(0, Ordering::SeqCst);
    }
}

/// One more while it exists.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

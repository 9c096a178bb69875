//! A thread for work that may block for ever, such as a read from a cluster's file system. The caller waits for a short
//! time, and new work is rejected while the thread is busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::os::log_limit::{self, LogTopic};

/// Without work for this time the thread ends. The next work starts another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for a parser with bounded nesting.
const STACK_BYTES: usize = 512 << 10;

type BlockingTask = Box<dyn FnOnce() + Send>;

/// Runs one task at a time.
#[derive(Default)]
pub struct BlockingWorker {
    thread: Mutex<Option<SyncSender<BlockingTask>>>,
    busy: Arc<AtomicBool>,
}

impl BlockingWorker {
    /// Returns the result of `work`, or `None` if it or earlier work has not returned within `timeout`.
    pub fn run_with_timeout<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let (result, returned) = sync_channel(1);
        let busy = BusyGuard(Arc::clone(&self.busy));
        let work: BlockingTask = Box::new(move || {
            let done = work();
            drop(busy);
            let _ = result.send(done);
        });
        let rejected = match thread.as_ref() {
            Some(sender) => sender.send(work).err().map(|SendError(work)| work),
            None => Some(work),
        };
        if let Some(work) = rejected {
            *thread = start(work);
        }
        returned.recv_timeout(timeout).ok()
    }
}

/// Clears the flag when the work returns or panics.
struct BusyGuard(Arc<AtomicBool>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Starts the thread with its first work. The channel has no buffer, so a thread that is about to end loses no work. If
/// the system has no thread left, the work is dropped, as if it did not return.
fn start(first: BlockingTask) -> Option<SyncSender<BlockingTask>> {
    let (sender, receiver): (_, Receiver<BlockingTask>) = sync_channel(0);
    let serve = move || {
        first();
        while let Ok(work) = receiver.recv_timeout(IDLE_TIMEOUT) {
            work();
        }
    };
    let started =
        std::thread::Builder::new().name("file-reader".to_owned()).stack_size(STACK_BYTES).spawn(serve);
    let log = |error: &_| {
        log_limit::error(
            LogTopic::Fault,
            "thread",
            &format_args!("cannot start a thread that reads files: {error}"),
        );
    };
    started.inspect_err(log).ok()?;
    Some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_hung_call_is_awaited_only_once() {
        let worker = BlockingWorker::default();
        let (release, wait) = sync_channel::<()>(0);
        assert_eq!(worker.run_with_timeout(Duration::from_millis(10), move || wait.recv().unwrap()), None);
        assert_eq!(worker.run_with_timeout(LONG, || ()), None, "at once: the first is still running");
        release.send(()).unwrap();
        while worker.run_with_timeout(LONG, || 5) != Some(5) {}
    }

    #[test]
    fn a_panic_counts_as_a_hung_call() {
        let worker = BlockingWorker::default();
        assert_eq!(worker.run_with_timeout(LONG, || panic!("on purpose")), None::<()>);
        while worker.run_with_timeout(LONG, || 5) != Some(5) {}
    }
}

//! A thread for work that may never come back, as a look into a cluster's file system: it is waited for no longer than
//! a moment, and not begun again before it has come back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::os::log_limit;
use crate::os::log_limit::LogTopic;

/// After so long without work the thread ends; the next work starts another.
const IDLE: Duration = Duration::from_secs(5);
/// Enough for a parser with bounded nesting.
const STACK: usize = 512 << 10;

type BlockingTask = Box<dyn FnOnce() + Send>;

/// Does one thing at a time.
#[derive(Default)]
pub struct BlockingWorker {
    thread: Mutex<Option<SyncSender<BlockingTask>>>,
    is_away: Arc<AtomicBool>,
}

impl BlockingWorker {
    /// What comes of `work`; `None` when it, or earlier work, has not come back within `patience`.
    pub fn send<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_away.swap(true, Ordering::Acquire) {
            return None;
        }
        let (result, came_back) = sync_channel(1);
        let is_away = BusyGuard(Arc::clone(&self.is_away));
        let work: BlockingTask = Box::new(move || {
            let done = work();
            drop(is_away);
            let _ = result.send(done);
        });
        let refused = match thread.as_ref() {
            Some(sender) => sender.send(work).err().map(|SendError(work)| work),
            None => Some(work),
        };
        if let Some(work) = refused {
            *thread = start(work);
        }
        came_back.recv_timeout(patience).ok()
    }
}

/// Back again, even if by a panic.
struct BusyGuard(Arc<AtomicBool>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Hands work over from hand to hand, so that a thread about to end loses none. Without one more thread in the system
/// the work is dropped, which is the same as one that does not come back.
fn start(first: BlockingTask) -> Option<SyncSender<BlockingTask>> {
    let (sender, receiver): (_, Receiver<BlockingTask>) = sync_channel(0);
    let serve = move || {
        first();
        while let Ok(work) = receiver.recv_timeout(IDLE) {
            work();
        }
    };
    let started = std::thread::Builder::new().name("deputy".to_owned()).stack_size(STACK).spawn(serve);
    let log = |error: &_| {
        log_limit::error(LogTopic::Fault, "thread", &format_args!("no thread to look at files: {error}"));
    };
    started.inspect_err(log).ok()?;
    Some(sender)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_comes_back_is_given_back() {
        let deputy = BlockingWorker::default();
        for number in 0..100 {
            assert_eq!(deputy.send(LONG, move || number + 1), Some(number + 1));
        }
    }

    #[test]
    fn a_hung_call_is_awaited_only_once() {
        let deputy = BlockingWorker::default();
        let (release, wait) = sync_channel::<()>(0);
        assert_eq!(deputy.send(Duration::from_millis(10), move || wait.recv().unwrap()), None);
        assert_eq!(deputy.send(LONG, || ()), None, "at once, for the first is still away");
        release.send(()).unwrap();
        while deputy.send(LONG, || 5) != Some(5) {}
    }

    #[test]
    fn a_panic_counts_as_a_hung_call() {
        let deputy = BlockingWorker::default();
        assert_eq!(deputy.send(LONG, || panic!("on purpose")), None::<()>);
        while deputy.send(LONG, || 5) != Some(5) {}
    }
}

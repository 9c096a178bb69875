//! Returns freed memory to the kernel.
//!
//! glibc keeps free memory between blocks in use, and all that a thread has ever used. Without a trim,
//! 5,000 closed connections leave 100 MB with the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Connections that released their buffers before a trim is worth its cost: some megabytes.
const TRIM_AFTER_CONNECTIONS: usize = 64;
/// Connections usually close in groups, so the trim waits for the rest of the group.
const TRIM_DELAY: Duration = Duration::from_secs(2);

// The heap belongs to the process, and so do the count and the thread that trims it.
static RELEASED_CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
static TRIM_THREAD: OnceLock<Option<Thread>> = OnceLock::new();

/// Counts a connection that released its buffers.
pub fn count_released_connection() {
    if RELEASED_CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1 == TRIM_AFTER_CONNECTIONS
        && let Some(thread) = TRIM_THREAD.get_or_init(start_trim_thread)
    {
        thread.unpark();
    }
}

/// Starts the thread that trims the heap, so that no worker has to. If it cannot start, memory is kept.
fn start_trim_thread() -> Option<Thread> {
    let started = std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
        loop {
            while RELEASED_CONNECTIONS.load(Ordering::Relaxed) < TRIM_AFTER_CONNECTIONS {
                std::thread::park();
            }
            std::thread::sleep(TRIM_DELAY);
            RELEASED_CONNECTIONS.store(0, Ordering::Relaxed);
            trim_heap();
        }
    });
    started.ok().map(|handle| handle.thread().clone())
}

/// Returns free heap memory to the kernel.
#[cfg(target_env = "gnu")]
pub fn trim_heap() {
    // SAFETY: `malloc_trim` takes a number and locks the arenas that it works on.
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn trim_heap() {}

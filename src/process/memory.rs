//! What a crowd of clients leaves behind goes back to the system.
//!
//! The system's allocator keeps free memory that lies between blocks in use, and all that a thread has ever needed:
//! without this, 5,000 connections leave 100 MB behind when they are gone.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// Connections closed or put to rest that are worth the work: some megabytes.
const CROWD: usize = 64;
/// More of a crowd than has left so far is about to leave.
const PATIENCE: Duration = Duration::from_secs(2);

static RELEASED: AtomicUsize = AtomicUsize::new(0);
static KEEPER: OnceLock<Option<Thread>> = OnceLock::new();

/// A connection gave back its buffers.
pub fn released() {
    if RELEASED.fetch_add(1, Ordering::Relaxed) + 1 == CROWD
        && let Some(keeper) = KEEPER.get_or_init(start)
    {
        keeper.unpark();
    }
}

/// The thread that gives memory back, so that no worker has to. Where it cannot be started, memory is kept.
fn start() -> Option<Thread> {
    let keeper = std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
        loop {
            while RELEASED.load(Ordering::Relaxed) < CROWD {
                std::thread::park();
            }
            std::thread::sleep(PATIENCE);
            RELEASED.store(0, Ordering::Relaxed);
            give_back();
        }
    });
    keeper.ok().map(|keeper| keeper.thread().clone())
}

/// Lets go of the code that only the start needed, half of what a process at rest has in memory. What is needed again
/// comes back from the page cache.
pub fn forget_start() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is a mapping of this process as the kernel lists it, of a file and not to be written to:
        // its pages are the file's own, and are read from there again.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
    give_back();
}

/// Where a line of `/proc/PID/maps` (proc(5)) tells of code that was mapped from a file.
fn code(line: &str) -> Option<(NonNull<c_void>, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let is_code = rights == "r-xp" && fields.nth(3).is_some_and(|path| path.starts_with('/'));
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok().filter(|_| is_code)?;
    let length = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    Some((NonNull::new(std::ptr::with_exposed_provenance_mut(start))?, length))
}

/// What was freed goes back to the system.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: takes a number, and locks what it works on.
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let found = |line| code(line).map(|(start, length)| (start.as_ptr().addr(), length));
        let text = "55d0c0a00000-55d0c0e87000 r-xp 00132000 fe:00 3045 /usr/bin/nodegate";
        assert_eq!(found(text), Some((0x55d0_c0a0_0000, 0x48_7000)));
        for other in [
            "55d0c0a00000-55d0c0e87000 r--p 00132000 fe:00 3045 /usr/bin/nodegate",
            "55d0c0a00000-55d0c0e87000 rw-p 00132000 fe:00 3045 /usr/bin/nodegate",
            "7ffd0a5f9000-7ffd0a5fb000 r-xp 00000000 00:00 0 [vdso]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn code_that_was_let_go_still_runs() {
        forget_start();
        assert_eq!(std::hint::black_box("a b").split(' ').count(), 2);
    }
}

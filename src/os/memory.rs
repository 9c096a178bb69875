//! What a crowd of clients leaves behind goes back to the system.
//!
//! The system's allocator keeps free memory that lies between blocks in use, and all that a thread has ever needed:
//! without this, 5,000 connections leave 100 MB behind when they are gone.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// Connections closed or put to rest that are worth the work: some megabytes.
const CROWD: usize = 64;
/// More of a crowd than has left so far is about to leave, or somebody may come again.
const PATIENCE: Duration = Duration::from_secs(2);

static RELEASED: AtomicUsize = AtomicUsize::new(0);
static KEEPER: OnceLock<Option<Thread>> = OnceLock::new();
static CAME: AtomicUsize = AtomicUsize::new(0);
static HERE: AtomicUsize = AtomicUsize::new(0);
/// The last one has left.
static DESERTED: AtomicBool = AtomicBool::new(false);

/// A connection gave back its buffers.
pub fn released() {
    if RELEASED.fetch_add(1, Ordering::Relaxed) + 1 == CROWD {
        wake_keeper();
    }
}

/// A connection, for as long as it lives. Where nobody is connected, less is kept.
pub struct ConnectionGuard(());

impl ConnectionGuard {
    #[expect(clippy::new_without_default, reason = "it counts: nobody should get one by the way")]
    pub fn new() -> Self {
        CAME.fetch_add(1, Ordering::SeqCst);
        HERE.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if HERE.fetch_sub(1, Ordering::SeqCst) == 1 && !DESERTED.swap(true, Ordering::SeqCst) {
            wake_keeper();
        }
    }
}

fn wake_keeper() {
    if let Some(keeper) = KEEPER.get_or_init(start) {
        keeper.unpark();
    }
}

/// The thread that gives memory back, so that no worker has to. Where it cannot be started, memory is kept.
fn start() -> Option<Thread> {
    let keeper = std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
        loop {
            while RELEASED.load(Ordering::Relaxed) < CROWD && !DESERTED.load(Ordering::SeqCst) {
                std::thread::park();
            }
            let came = CAME.load(Ordering::SeqCst);
            std::thread::sleep(PATIENCE);
            DESERTED.store(false, Ordering::SeqCst);
            let is_empty = HERE.load(Ordering::SeqCst) == 0;
            let is_quiet = CAME.load(Ordering::SeqCst) == came;
            if is_empty && is_quiet {
                forget_files();
            } else if is_empty {
                // Who came meanwhile has left again, and has woken nobody.
                DESERTED.store(true, Ordering::SeqCst);
            }
            if is_empty && is_quiet || RELEASED.load(Ordering::Relaxed) >= CROWD {
                RELEASED.store(0, Ordering::Relaxed);
                give_back();
            }
        }
    });
    keeper.ok().map(|keeper| keeper.thread().clone())
}

/// Lets go of what only the start needed, half of what a process at rest has in memory.
pub fn forget_start() {
    forget_files();
    give_back();
}

/// Lets go of code, and of whatever else was read from files and cannot have been changed. What is needed again comes
/// back from the page cache.
fn forget_files() {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in unchanged(&maps) {
        // SAFETY: the range is a mapping of this process as the kernel lists it, of a file, not to be written to and
        // with no page of its own: its pages are the file's, and are read from there again.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Mappings of files that `/proc/PID/smaps` (proc(5)) tells of, not writable and with nothing anonymous in them, as
/// relocated tables are.
fn unchanged(maps: &str) -> Vec<(NonNull<c_void>, usize)> {
    let mut mapping = None;
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        match (fields.next(), fields.next()) {
            (Some("Anonymous:"), Some("0")) => found.extend(mapping.take()),
            (Some(range), Some(rights)) if !range.ends_with(':') => {
                let is_read_from_file = matches!(rights, "r-xp" | "r--p")
                    && fields.nth(3).is_some_and(|path| path.starts_with('/'));
                mapping = span(range).filter(|_| is_read_from_file);
            }
            _ => (),
        }
    }
    found
}

/// Where a range of addresses begins, and its bytes.
fn span(range: &str) -> Option<(NonNull<c_void>, usize)> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
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
    fn only_what_was_read_from_files_and_not_changed_is_let_go() {
        let mapping = |head: &str, anonymous: u32| {
            format!("{head}\nSize: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex mr mw me sd\n")
        };
        let found = |maps: &str| -> Vec<_> {
            unchanged(maps).iter().map(|(start, length)| (start.as_ptr().addr(), *length)).collect()
        };
        let code = "55d0c0a00000-55d0c0e87000 r-xp 00132000 fe:00 3045 /usr/bin/nodegate";
        let tables = "55d0c0e87000-55d0c0f00000 r--p 005b8000 fe:00 3045 /usr/bin/nodegate";
        let all = [mapping(code, 0), mapping(tables, 0)].concat();
        assert_eq!(found(&all), [(0x55d0_c0a0_0000, 0x48_7000), (0x55d0_c0e8_7000, 0x7_9000)]);
        assert_eq!(found(&[mapping(tables, 4), mapping(code, 0)].concat()), [(0x55d0_c0a0_0000, 0x48_7000)]);
        for other in [
            "55d0c0a00000-55d0c0e87000 rw-p 00132000 fe:00 3045 /usr/bin/nodegate",
            "55d0c0a00000-55d0c0e87000 r--s 00132000 fe:00 3045 /usr/bin/nodegate",
            "7ffd0a5f9000-7ffd0a5fb000 r-xp 00000000 00:00 0 [vdso]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0",
        ] {
            assert_eq!(found(&mapping(other, 0)), [], "{other}");
        }
        assert_eq!(found("Anonymous: 0 kB\n"), []);
    }

    #[test]
    fn code_that_was_let_go_still_runs() {
        forget_start();
        assert_eq!(std::hint::black_box("a b").split(' ').count(), 2);
    }
}

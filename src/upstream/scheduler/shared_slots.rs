//! Workers that two processes share while a new binary takes over: one lock of a byte for each worker.
//!
//! The locks belong to open file descriptions (`F_OFD_SETLK`) of a file in memory that the old process hands over. The
//! kernel frees them when a process ends, however it ends. A process hears nothing of a lock that another one frees, so
//! it polls while calls wait.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, flock};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::call::Ticket;

/// Bytes for one backend: its workers first, then the flags.
const REGION_BITS: u32 = 20;
const ALIVE: i64 = 1 << 18;
const WAITING: i64 = 1 << 19;
/// How often a process checks whether another one is left.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The file of locks. One for all backends of a process.
#[derive(Debug)]
pub struct SlotFile(File);

/// The role of a process during an upgrade. The two prefer different workers, so that neither starves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessRole {
    /// drains
    Old,
    /// accepts connections
    New,
}

/// The workers of one backend, as this process shares them.
pub(super) struct SharedSlots {
    file: Arc<SlotFile>,
    region: i64,
    role: ProcessRole,
    held: HashMap<Ticket, usize>,
    is_flagged: bool,
    has_met_other: bool,
    checked: Instant,
}

#[derive(Clone, Copy)]
enum LockKind {
    Exclusive,
    Shared,
    Free,
}

impl SlotFile {
    pub fn create() -> io::Result<Arc<Self>> {
        let memory = memfd_create(c"worker-slots", MFdFlags::MFD_CLOEXEC)?;
        Ok(Arc::new(Self(File::from(memory))))
    }

    /// The file that an old process has handed over.
    pub fn from_predecessor(handed: OwnedFd) -> Arc<Self> {
        Arc::new(Self(File::from(handed)))
    }

    /// The same file for another process. Its locks are not those of this process.
    pub fn for_successor(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        OpenOptions::new().read(true).write(true).open(path).map(OwnedFd::from)
    }

    fn lock(&self, offset: i64, kind: LockKind) -> bool {
        fcntl(self.0.as_fd(), FcntlArg::F_OFD_SETLK(&kind.at(offset))).is_ok()
    }

    /// Whether another process has a lock there.
    fn is_locked(&self, offset: i64) -> bool {
        let mut found = LockKind::Exclusive.at(offset);
        let asked = fcntl(self.0.as_fd(), FcntlArg::F_OFD_GETLK(&mut found));
        asked.is_ok() && c_int::from(found.l_type) != libc::F_UNLCK
    }
}

impl LockKind {
    fn at(self, offset: i64) -> flock {
        let kind = match self {
            Self::Exclusive => libc::F_WRLCK,
            Self::Shared => libc::F_RDLCK,
            Self::Free => libc::F_UNLCK,
        };
        flock {
            l_type: kind.try_into().unwrap_or_default(),
            l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
            l_start: offset,
            l_len: 1,
            l_pid: 0,
        }
    }
}

impl ProcessRole {
    fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// The flag of a process with this role that has calls waiting.
    fn waiting_flag(self) -> i64 {
        match self {
            Self::Old => WAITING,
            Self::New => WAITING + 1,
        }
    }

    /// The workers that a process takes first. Worker 0 comes last, because slow calls may not have it.
    fn preferred(self, workers: usize) -> impl Iterator<Item = usize> {
        let of_old = (workers / 2).max(usize::from(workers == 1));
        let owner = move |slot: usize| {
            let is_of_old = if workers == 1 { true } else { (1..=of_old).contains(&slot) };
            if is_of_old { Self::Old } else { Self::New }
        };
        (1..workers).chain(0..workers.min(1)).filter(move |slot| owner(*slot) == self)
    }
}

impl SharedSlots {
    /// Calls that run already keep their workers.
    pub(super) fn new(
        file: &Arc<SlotFile>,
        backend: &str,
        role: ProcessRole,
        running: impl Iterator<Item = Ticket>,
        workers: usize,
    ) -> Self {
        let mut shared = Self {
            file: Arc::clone(file),
            region: region(backend),
            role,
            held: HashMap::new(),
            is_flagged: false,
            has_met_other: role == ProcessRole::New,
            checked: Instant::now(),
        };
        shared.file.lock(shared.region + ALIVE, LockKind::Shared);
        for ticket in running {
            if let Some(slot) = (0..workers).find(|slot| shared.try_lock(*slot)) {
                shared.hold(ticket, slot);
            }
        }
        shared
    }

    /// Takes a worker that no process has. Workers that the other process prefers stay free for its waiting calls.
    pub(super) fn take(&self, workers: usize) -> Option<usize> {
        let own = self.role.preferred(workers).find(|slot| self.try_lock(*slot));
        own.or_else(|| {
            let other = self.role.other();
            let is_wanted = self.file.is_locked(self.region + other.waiting_flag());
            let mut slots = other.preferred(workers);
            if is_wanted { None } else { slots.find(|slot| self.try_lock(*slot)) }
        })
    }

    pub(super) fn hold(&mut self, ticket: Ticket, slot: usize) {
        self.held.insert(ticket, slot);
    }

    pub(super) fn release(&mut self, ticket: Ticket) {
        if let Some(slot) = self.held.remove(&ticket) {
            self.give_back(slot);
        }
    }

    pub(super) fn give_back(&self, slot: usize) {
        self.file.lock(self.offset(slot), LockKind::Free);
    }

    pub(super) fn is_in(&self, file: &Arc<SlotFile>) -> bool {
        Arc::ptr_eq(&self.file, file)
    }

    pub(super) fn set_role(&mut self, role: ProcessRole) {
        self.note_waiting(false);
        self.role = role;
    }

    /// Shows the other process whether calls wait here.
    pub(super) fn note_waiting(&mut self, waits: bool) {
        if waits != self.is_flagged {
            let kind = if waits { LockKind::Shared } else { LockKind::Free };
            self.file.lock(self.region + self.role.waiting_flag(), kind);
            self.is_flagged = waits;
        }
    }

    /// Whether the other process has ended. An old process waits until it has seen its successor.
    pub(super) fn has_ended(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.checked) < CHECK_INTERVAL {
            return false;
        }
        self.checked = now;
        let is_alive = self.has_other();
        self.has_met_other |= is_alive;
        self.has_met_other && !is_alive
    }

    pub(super) fn has_other(&self) -> bool {
        self.file.is_locked(self.region + ALIVE)
    }

    /// A slot is tried only if this process does not hold it: a lock of the same description would be granted again.
    fn try_lock(&self, slot: usize) -> bool {
        !self.held.values().any(|held| *held == slot)
            && self.file.lock(self.offset(slot), LockKind::Exclusive)
    }

    fn offset(&self, slot: usize) -> i64 {
        self.region + i64::try_from(slot).unwrap_or_default().min(ALIVE - 1)
    }
}

impl Drop for SharedSlots {
    fn drop(&mut self) {
        self.held.values().for_each(|slot| self.give_back(*slot));
        self.note_waiting(false);
        self.file.lock(self.region + ALIVE, LockKind::Free);
    }
}

/// The bytes of a backend. Both processes know only its address (FNV-1a; a collision would let fewer calls run).
fn region(backend: &str) -> i64 {
    let hash = backend
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash) << REGION_BITS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::upstream::scheduler::call::ClientGroup;

    fn ticket(number: u64) -> Ticket {
        Ticket { number, group: ClientGroup::new(0) }
    }

    /// An old and a new process, each with its own open file description.
    fn processes(running: u64, workers: usize) -> (SharedSlots, SharedSlots) {
        let file = SlotFile::create().unwrap();
        let theirs = SlotFile::from_predecessor(file.for_successor().unwrap());
        let old = SharedSlots::new(&file, "x", ProcessRole::Old, (0..running).map(ticket), workers);
        let new = SharedSlots::new(&theirs, "x", ProcessRole::New, std::iter::empty(), workers);
        (old, new)
    }

    fn take_all(process: &mut SharedSlots, workers: usize) -> Vec<usize> {
        std::iter::from_fn(|| {
            let slot = process.take(workers)?;
            process.hold(ticket(100 + u64::try_from(slot).unwrap()), slot);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn two_processes_never_have_more_than_the_workers() {
        for workers in 1..6_usize {
            for running in 0..=workers {
                let (mut old, mut new) = processes(u64::try_from(running).unwrap(), workers);
                assert_eq!(take_all(&mut new, workers).len(), workers - running);
                assert!(take_all(&mut old, workers).is_empty());
                drop(old);
                assert_eq!(
                    take_all(&mut new, workers).len(),
                    running,
                    "the locks of an ended process are free"
                );
            }
        }
    }

    /// A process that is killed gives nothing back itself.
    #[test]
    fn the_kernel_frees_locks_of_a_process() {
        let file = SlotFile::create().unwrap();
        let theirs = SlotFile::from_predecessor(file.for_successor().unwrap());
        assert!(theirs.lock(7, LockKind::Exclusive));
        assert!(file.is_locked(7) && !file.lock(7, LockKind::Exclusive));
        drop(theirs);
        assert!(!file.is_locked(7) && file.lock(7, LockKind::Exclusive));
    }

    #[test]
    fn a_process_with_waiting_calls_keeps_its_share() {
        for (workers, of_old) in [(1, vec![0]), (2, vec![1]), (3, vec![1]), (4, vec![1, 2]), (5, vec![1, 2])]
        {
            let (mut old, mut new) = processes(0, workers);
            old.note_waiting(true);
            new.note_waiting(true);
            let of_new = take_all(&mut new, workers);
            assert_eq!(of_new.len(), workers - of_old.len());
            assert_eq!(take_all(&mut old, workers), of_old, "{workers} workers");
            assert!(of_new.is_empty() || of_new.last() == Some(&0), "worker 0 is taken last");
            old.release(ticket(100 + u64::try_from(of_old[0]).unwrap()));
            assert!(take_all(&mut new, workers).is_empty());
            old.note_waiting(false);
            assert_eq!(take_all(&mut new, workers), [of_old[0]]);
        }
    }

    #[test]
    fn backends_do_not_share_their_workers() {
        let file = SlotFile::create().unwrap();
        let none = std::iter::empty;
        let mut one = SharedSlots::new(&file, "127.0.0.1:85", ProcessRole::Old, none(), 2);
        let theirs = SlotFile::from_predecessor(file.for_successor().unwrap());
        let mut two = SharedSlots::new(&theirs, "127.0.0.1:86", ProcessRole::New, none(), 2);
        assert_eq!((take_all(&mut one, 2).len(), take_all(&mut two, 2).len()), (2, 2));
    }

    #[test]
    fn a_process_sees_the_end_of_the_other() {
        let file = SlotFile::create().unwrap();
        let mut old = SharedSlots::new(&file, "x", ProcessRole::Old, std::iter::empty(), 2);
        let mut later = Instant::now();
        let mut has_ended = |process: &mut SharedSlots| {
            later += CHECK_INTERVAL;
            process.has_ended(later)
        };
        assert!(!has_ended(&mut old), "the new process has not begun");
        let theirs = SlotFile::from_predecessor(file.for_successor().unwrap());
        let mut new = SharedSlots::new(&theirs, "x", ProcessRole::New, std::iter::empty(), 2);
        assert!(!has_ended(&mut old) && !has_ended(&mut new));
        drop(old);
        assert!(has_ended(&mut new));
    }
}

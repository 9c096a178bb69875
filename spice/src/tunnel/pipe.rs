//! Pipes that bytes go through from one socket to another, within the kernel.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// Most that is moved at once, and the memory of one direction; while it is full its source is not read.
pub const PIECE_BYTES: u32 = 256 * 1024;
#[expect(clippy::as_conversions, reason = "a quarter of a megabyte fits every usize there is a Linux for")]
pub(super) const PIPE_BYTES: usize = PIECE_BYTES as usize;
/// Empty pipes that a thread keeps for the next flood.
const SPARE: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

struct Ends {
    output: OwnedFd,
    input: OwnedFd,
}

/// A pipe in use. Dropped while empty it is kept for others, else closed.
pub(super) struct Pipe {
    ends: Option<Ends>,
    length: usize,
}

impl Pipe {
    /// `None` when the system gives none of the full size: descriptors, or the memory of a user's pipes, are used up.
    pub(super) fn take() -> Option<Self> {
        let spare = SPARES.with_borrow_mut(Vec::pop);
        Some(Self { ends: Some(spare.or_else(|| Ends::open().ok())?), length: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes what the socket has; 0 at its end. Only for an empty pipe: when a full one takes nothing, that looks like
    /// a socket that has nothing.
    pub(super) fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::EBADF)?;
        self.length = splice(source, None, &ends.input, None, PIPE_BYTES, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        Ok(self.length)
    }

    /// Gives as much as the socket takes.
    pub(super) fn drain(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::EBADF)?;
        let written = splice(&ends.output, None, sink, None, self.length, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.length = self.length.saturating_sub(written);
        Ok(written)
    }
}

impl Ends {
    fn open() -> nix::Result<Self> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let bytes = i32::try_from(PIPE_BYTES).map_err(|_| Errno::EINVAL)?;
        fcntl(&input, FcntlArg::F_SETPIPE_SZ(bytes))?;
        Ok(Self { output, input })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.length == 0) else { return };
        // When the thread ends, nothing uses the pipe any more.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                spares.push(ends);
            }
        });
    }
}

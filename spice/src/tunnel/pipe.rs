//! Pipes through which bytes move from one socket to another, within the kernel.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg, OFlag, SpliceFFlags};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::add;

/// Most that is moved at once, and the memory of one direction; while it is full its source is not read.
pub const PIECE_BYTES: u32 = 256 * 1024;
#[expect(clippy::as_conversions, reason = "a quarter of a megabyte fits every usize there is a Linux for")]
const PIPE_BYTES: usize = PIECE_BYTES as usize;
const NONBLOCK: SpliceFFlags = SpliceFFlags::SPLICE_F_NONBLOCK;
/// Limit of the empty pipes that a worker keeps.
const MAX_SPARE_PIPES: usize = 16;

/// Empty pipes for the next flood.
#[derive(Default)]
pub(super) struct SparePipes(RefCell<Vec<Ends>>);

struct Ends {
    output: OwnedFd,
    input: OwnedFd,
}

/// A pipe in use. When it is dropped, an empty pipe goes back to `spares`; any other is closed.
pub(super) struct Pipe<'a> {
    ends: Option<Ends>,
    length: usize,
    spares: &'a SparePipes,
}

impl<'a> Pipe<'a> {
    /// `None` when the system gives none of the full size: descriptors, or the memory of a user's pipes, are used up.
    pub(super) fn take(spares: &'a SparePipes) -> Option<Self> {
        let spare = spares.0.borrow_mut().pop();
        Some(Self { ends: Some(spare.or_else(|| Ends::open().ok())?), length: 0, spares })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes what the socket has; 0 at its end. Only for an empty pipe: when a full one takes nothing, that looks like
    /// a socket that has nothing.
    pub(super) fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::EBADF)?;
        self.length = fcntl::splice(source, None, &ends.input, None, PIPE_BYTES, NONBLOCK)?;
        Ok(self.length)
    }

    /// Gives as much as the socket takes.
    pub(super) fn drain(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::EBADF)?;
        let written = fcntl::splice(&ends.output, None, sink, None, self.length, NONBLOCK)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.length = self.length.saturating_sub(written);
        Ok(written)
    }
}

/// Moves one piece of at most `PIECE_BYTES`. Returns its length, 0 at the end, and `None` if the system has no pipe.
pub(super) async fn splice(
    source: &TcpStream,
    sink: &TcpStream,
    moved: &AtomicU64,
    spares: &SparePipes,
) -> io::Result<Option<usize>> {
    let (mut pipe, length) = loop {
        source.readable().await?;
        let Some(mut pipe) = Pipe::take(spares) else { return Ok(None) };
        match source.try_io(Interest::READABLE, || pipe.fill(source)) {
            Ok(length) => break (pipe, length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    };
    while !pipe.is_empty() {
        match sink.try_io(Interest::WRITABLE, || pipe.drain(sink)) {
            Ok(written) => add(moved, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sink.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(Some(length))
}

impl Ends {
    fn open() -> nix::Result<Self> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let bytes = i32::try_from(PIPE_BYTES).map_err(|_| Errno::EINVAL)?;
        fcntl::fcntl(&input, FcntlArg::F_SETPIPE_SZ(bytes))?;
        Ok(Self { output, input })
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.length == 0) else { return };
        let mut spares = self.spares.0.borrow_mut();
        if spares.len() < MAX_SPARE_PIPES {
            spares.push(ends);
        }
    }
}

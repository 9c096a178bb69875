//! The successor's side: it was started by a process that serves, and takes its place.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::unistd::dup2_stdin;

use super::{DOORS, GO, HandoffState, READY, REOPEN, SERVES, STOP, VARIABLE};
use crate::server::upgrade::handoff::receive_others;

/// For what the predecessor has only to write.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process whose place is taken. It may have ended at any time.
pub struct OldProcess(UnixStream);

/// The predecessor, and what it leaves.
pub struct ReceivedHandoff {
    pub predecessor: OldProcess,
    pub inheritance: HandoffState,
    /// of the listener that there always is
    pub sockets: Vec<TcpListener>,
    /// one for each of the others
    pub others: Vec<TcpListener>,
}

impl OldProcess {
    /// Who started this process to take its place; `None` for every other start.
    pub fn meet() -> io::Result<Option<ReceivedHandoff>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        dup2_stdin(std::fs::File::open("/dev/null")?)?;
        link.set_read_timeout(Some(PATIENCE))?;
        let (inheritance, sockets) = HandoffState::receive(&link)?;
        let mut others = Vec::new();
        if !inheritance.others.is_empty() {
            (&link).write_all(DOORS.as_bytes())?;
            others = receive_others(&link)?;
        }
        if others.len() != inheritance.others.len() {
            return Err(io::Error::other("the predecessor has left other sockets than it said"));
        }
        Ok(Some(ReceivedHandoff { predecessor: Self(link), inheritance, sockets, others }))
    }

    /// Says that this process serves, and returns when it may call itself the service. A predecessor that is gone by
    /// then has nothing against it.
    pub(in crate::server) fn take_over(&mut self) -> io::Result<()> {
        self.0.write_all(READY.as_bytes())?;
        let mut answer = [0; GO.len()];
        match self.0.read_exact(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => self.0.set_nonblocking(true),
        }
    }

    /// From now on this process answers whoever asks the service.
    pub(in crate::server) fn serves(&self) {
        let _ = (&self.0).write(SERVES.as_bytes());
    }

    /// The log has been rotated.
    pub(in crate::server) fn reopen(&self) {
        let _ = (&self.0).write(REOPEN.as_bytes());
    }

    /// The service ends, with all of its processes.
    pub(in crate::server) fn stop(&self) {
        let _ = (&self.0).write(STOP.as_bytes());
    }
}

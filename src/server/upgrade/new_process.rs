//! The successor's side: a serving process started it, and it takes over.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::unistd::dup2_stdin;

use super::{GO, HandoffState, LISTENERS, PREDECESSOR_VARIABLE, READY, REOPEN, SERVES, STOP, WORKER_SLOTS};
use crate::server::upgrade::handoff::{receive_others, receive_worker_slots};

/// Timeout for messages that the predecessor only has to write.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The process to take over from. It may have ended at any time.
pub struct OldProcess(UnixStream);

/// The predecessor, and its handoff.
pub struct ReceivedHandoff {
    pub predecessor: OldProcess,
    pub inheritance: HandoffState,
    /// of the listener `[listen]`, which always exists
    pub sockets: Vec<TcpListener>,
    /// one for each other listener
    pub others: Vec<TcpListener>,
    /// the file of worker slots, if the predecessor shares them
    pub worker_slots: Option<OwnedFd>,
}

impl OldProcess {
    /// The predecessor that started this process; `None` after every other start.
    pub fn meet() -> io::Result<Option<ReceivedHandoff>> {
        if std::env::var_os(PREDECESSOR_VARIABLE).is_none() {
            return Ok(None);
        }
        let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        dup2_stdin(std::fs::File::open("/dev/null")?)?;
        link.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
        let (inheritance, sockets) = HandoffState::receive(&link)?;
        let mut others = Vec::new();
        if !inheritance.others.is_empty() {
            (&link).write_all(LISTENERS.as_bytes())?;
            others = receive_others(&link)?;
        }
        if others.len() != inheritance.others.len() {
            return Err(io::Error::other("the predecessor sent other sockets than it announced"));
        }
        let mut worker_slots = None;
        if inheritance.shares_workers {
            (&link).write_all(WORKER_SLOTS.as_bytes())?;
            worker_slots = receive_worker_slots(&link)?;
        }
        let predecessor = Self(link);
        Ok(Some(ReceivedHandoff { predecessor, inheritance, sockets, others, worker_slots }))
    }

    /// Reports that this process serves, and returns when it may call itself the service. If the predecessor has
    /// ended by then, the successor goes on.
    pub(in crate::server) fn take_over(&mut self) -> io::Result<()> {
        self.0.write_all(READY.as_bytes())?;
        let mut answer = [0; GO.len()];
        match self.0.read_exact(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => self.0.set_nonblocking(true),
        }
    }

    /// Reports that this process answers at the control socket.
    pub(in crate::server) fn serves(&self) {
        let _ = (&self.0).write(SERVES.as_bytes());
    }

    /// Reports that the log was rotated.
    pub(in crate::server) fn reopen(&self) {
        let _ = (&self.0).write(REOPEN.as_bytes());
    }

    /// Reports that the service stops with all of its processes.
    pub(in crate::server) fn stop(&self) {
        let _ = (&self.0).write(STOP.as_bytes());
    }
}

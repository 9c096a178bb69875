//! The predecessor's side: it starts the new binary and waits until that one serves.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use super::{GO, HandoffState, LISTENERS, PREDECESSOR_VARIABLE, READY, REOPEN, SERVES, STOP, WORKER_SLOTS};
use crate::os::systemd::SINGLE_PROCESS_VARIABLES;
use crate::server::upgrade::handoff::{send_others, send_worker_slots};
use crate::state::shared::PersistentState;

/// A successor must serve within this time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of checks of a process that is to end, before it is killed.
const MAX_POLLS: usize = 20;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A process that has taken over from this one.
pub(in crate::server) struct NewProcess {
    pub(in crate::server) pid: u32,
    link: UnixStream,
}

/// The listening sockets that it gets.
pub(in crate::server) struct HandedSockets {
    pub(in crate::server) first: Vec<Arc<TcpListener>>,
    /// one for each other listener
    pub(in crate::server) others: Vec<Arc<TcpListener>>,
}

/// The messages of a successor to a draining process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::server) enum UpgradeMessage {
    /// it answers at the control socket
    Serves,
    Reopen,
    Stop,
}

impl NewProcess {
    /// Starts the binary with this process's arguments, and waits until it serves. Blocks.
    pub(in crate::server) fn start(
        binary: &Path,
        inheritance: &HandoffState,
        sockets: &HandedSockets,
        persistent: &PersistentState,
    ) -> Result<Self, String> {
        let place = binary.display();
        let failed = |error: io::Error| format!("{place} cannot be started: {error}");
        let (mut link, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = spawn(binary, theirs).map_err(failed)?;
        match wait(&mut link, inheritance, sockets, persistent) {
            Ok(()) => Ok(Self { pid: child.id(), link }),
            Err(error) => {
                let ended = end(&mut child);
                persistent.schedulers.keep_serving();
                Err(format!("{place} {}", why(&error, &ended)))
            }
        }
    }

    /// Notifies the successor that it is the service. The link carries its later messages.
    pub(in crate::server) fn go(mut self) -> io::Result<NewProcessLink> {
        self.link.write_all(GO.as_bytes())?;
        self.link.set_read_timeout(None)?;
        self.link.set_nonblocking(true)?;
        Ok(NewProcessLink(BufReader::new(tokio::net::UnixStream::from_std(self.link)?).lines()))
    }
}

/// The link to a successor that serves.
pub(in crate::server) struct NewProcessLink(Lines<BufReader<tokio::net::UnixStream>>);

impl NewProcessLink {
    /// Waits for ever if the successor has ended.
    pub(in crate::server) async fn next(&mut self) -> UpgradeMessage {
        loop {
            match self.0.next_line().await {
                Ok(Some(line)) if line == SERVES.trim_end() => return UpgradeMessage::Serves,
                Ok(Some(line)) if line == REOPEN.trim_end() => return UpgradeMessage::Reopen,
                Ok(Some(line)) if line == STOP.trim_end() => return UpgradeMessage::Stop,
                Ok(Some(_)) => (), // of a later version
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }
}

/// It inherits only stderr, and the link as its stdin.
fn spawn(binary: &Path, link: UnixStream) -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(binary);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(PREDECESSOR_VARIABLE, std::process::id().to_string());
    for name in SINGLE_PROCESS_VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::from(OwnedFd::from(link))).spawn()
}

fn wait(
    link: &mut UnixStream,
    inheritance: &HandoffState,
    sockets: &HandedSockets,
    persistent: &PersistentState,
) -> io::Result<()> {
    link.set_write_timeout(Some(START_TIMEOUT))?;
    link.set_read_timeout(Some(START_TIMEOUT))?;
    inheritance.send(link, &sockets.first)?;
    let mut answer = [0; READY.len()];
    loop {
        link.read_exact(&mut answer)?;
        if answer == LISTENERS.as_bytes() {
            send_others(link, &sockets.others)?;
        } else if answer == WORKER_SLOTS.as_bytes() {
            let slots = persistent.schedulers.share_with_successor().inspect_err(|error| {
                tracing::warn!(%error, "two processes may send the daemons more calls than they have workers");
            });
            send_worker_slots(link, slots.ok().as_ref())?;
        } else if answer == READY.as_bytes() {
            return Ok(());
        } else {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn why(error: &io::Error, ended: &str) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    let kind = error.kind();
    if matches!(kind, WouldBlock | TimedOut) {
        return format!("did not start serving within {} s", START_TIMEOUT.as_secs());
    }
    if matches!(kind, UnexpectedEof | BrokenPipe | ConnectionReset) {
        return format!("ended before it served ({ended})");
    }
    format!("cannot take over: {error}")
}

/// How it ended, by itself or not.
fn end(child: &mut Child) -> String {
    for _ in 0..MAX_POLLS {
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) => std::thread::sleep(POLL_INTERVAL), // a process that closes the link is about to end
            Err(error) => return error.to_string(),
        }
    }
    let _ = child.kill();
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

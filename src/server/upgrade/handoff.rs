//! The data for the next process: a line of JSON, with the listening sockets beside its first byte.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::RecvAncillaryMessage::ScmRights;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::config::diagnostic::Diagnostic;
use crate::os::listener::BindKey;
use crate::tls::session_tickets::ExportedKey;

/// Limit of sockets; systemd hands over one or two.
const MAX_SOCKETS: usize = 64;
const MAX_LINE_BYTES: usize = 64 << 10;

/// Versions of nodegate differ in their data: an unknown part is ignored, a missing one has a default.
#[derive(Deserialize, Serialize)]
pub struct HandoffState {
    /// the settings that the sockets beside the line were bound for
    pub bound_for: BindKey,
    /// the same for one socket each, which are sent on request: a version without other listeners would serve them
    /// like the first
    #[serde(default)]
    pub others: Vec<BindKey>,
    /// the encryption keys of session tickets: kept only in memory
    #[serde(default)]
    pub tickets: Vec<ExportedKey>,
    /// errors in the configuration that the process serves with, as logged
    #[serde(default)]
    pub known: Vec<String>,
    /// where a confined process and its children may write
    #[serde(default)]
    pub confined_to: Option<Vec<PathBuf>>,
    /// whether the file of worker slots may be requested
    #[serde(default)]
    pub shares_workers: bool,
}

impl HandoffState {
    /// Whether the predecessor serves with this problem.
    pub fn knows(&self, problem: &Diagnostic) -> bool {
        self.known.contains(&problem.to_string())
    }

    pub(super) fn send(&self, to: &UnixStream, sockets: &[Arc<TcpListener>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        send(to, &line, sockets)
    }

    pub(super) fn receive(mut from: &UnixStream) -> io::Result<(Self, Vec<TcpListener>)> {
        let mut line = vec![0; MAX_LINE_BYTES];
        let ReceivedMessage { bytes: mut length, descriptors } = receive(from, &mut line)?;
        while !line.get(..length).is_some_and(|line| line.ends_with(b"\n")) {
            match from.read(line.get_mut(length..).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => length += more,
            }
        }
        let inheritance = serde_json::from_slice(line.get(..length).unwrap_or_default())?;
        Ok((inheritance, listeners(descriptors)))
    }
}

/// The sockets of the other listeners, beside a byte without a meaning.
pub(super) fn send_others(to: &UnixStream, sockets: &[Arc<TcpListener>]) -> io::Result<()> {
    send(to, b"\n", sockets)
}

pub(super) fn receive_others(from: &UnixStream) -> io::Result<Vec<TcpListener>> {
    receive(from, &mut [0]).map(|received| listeners(received.descriptors))
}

/// The file of worker slots beside a byte, or only the byte if there is none.
pub(super) fn send_worker_slots(to: &UnixStream, slots: Option<&OwnedFd>) -> io::Result<()> {
    send_descriptors(to, b"\n", slots.map(AsFd::as_fd).as_slice())
}

pub(super) fn receive_worker_slots(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    receive(from, &mut [0]).map(|mut received| received.descriptors.pop())
}

fn send(to: &UnixStream, line: &[u8], sockets: &[Arc<TcpListener>]) -> io::Result<()> {
    send_descriptors(to, line, &sockets.iter().map(AsFd::as_fd).collect::<Vec<_>>())
}

fn send_descriptors(mut to: &UnixStream, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {MAX_SOCKETS} listening sockets")));
    }
    let sent = sendmsg(to, &[IoSlice::new(line)], &mut control, SendFlags::NOSIGNAL)?;
    to.write_all(line.get(sent..).unwrap_or_default())
}

fn listeners(descriptors: Vec<OwnedFd>) -> Vec<TcpListener> {
    descriptors.into_iter().map(TcpListener::from).collect()
}

/// The beginning of a line.
struct ReceivedMessage {
    /// that have arrived
    bytes: usize,
    /// beside them
    descriptors: Vec<OwnedFd>,
}

/// Reads as many bytes of a line as have arrived.
fn receive(from: &UnixStream, line: &mut [u8]) -> io::Result<ReceivedMessage> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(line)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control
        .drain()
        .filter_map(|message| if let ScmRights(descriptors) = message { Some(descriptors) } else { None })
        .flatten()
        .collect();
    Ok(ReceivedMessage { bytes: received.bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handoff_delivers_sockets_keys_and_ignores_unknowns() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let text =
            r#"{"bound_for":{"address":"fe80::1%2","port":8006,"given":false},"tickets":[],"later":1}"#;
        let inheritance: HandoffState = serde_json::from_str(text).unwrap();
        inheritance.send(&ours, std::slice::from_ref(&socket)).unwrap();
        let (received, sockets) = HandoffState::receive(&theirs).unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets.first().unwrap().local_addr().unwrap(), socket.local_addr().unwrap());
        assert_eq!(received.bound_for, inheritance.bound_for);
        assert!(received.others.is_empty(), "an older version knows of none");
        send_others(&ours, std::slice::from_ref(&socket)).unwrap();
        assert_eq!(receive_others(&theirs).unwrap().len(), 1);
        assert!(!received.shares_workers, "an older version has no slots");
        send_worker_slots(&ours, None).unwrap();
        assert!(receive_worker_slots(&theirs).unwrap().is_none());
        let slots = OwnedFd::from(UnixStream::pair().unwrap().0);
        send_worker_slots(&ours, Some(&slots)).unwrap();
        assert!(receive_worker_slots(&theirs).unwrap().is_some());
    }
}

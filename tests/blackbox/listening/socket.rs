//! Options of the listening sockets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{on, serves};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site};

/// As on a kernel without IPv6: `socket(AF_INET6, …)` fails, everything else is allowed.
fn without_ipv6() -> BpfProgram {
    let family = u64::try_from(libc::AF_INET6).unwrap();
    let is_ipv6 = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family).unwrap();
    let rules = BTreeMap::from([(libc::SYS_socket, vec![SeccompRule::new(vec![is_ipv6]).unwrap()])]);
    let unsupported = SeccompAction::Errno(u32::try_from(libc::EAFNOSUPPORT).unwrap());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, unsupported, architecture).unwrap().try_into().unwrap()
}

fn deny_ipv6(command: &mut Command) {
    let program = without_ipv6();
    // SAFETY: between fork and exec only two system calls are made; the program was built before.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::from_raw_os_error(libc::EPERM))
        });
    }
}

#[test]
fn where_ipv6_is_off_the_wildcard_serves_ipv4() {
    let site = Site::pve();
    let mut command = Nodegate::prepared(&site, "pve", &["listen.address=::"]);
    deny_ipv6(&mut command);
    let gate = Nodegate::spawn(&mut command);
    assert!(gate.address().is_ipv4() && gate.address().ip().is_unspecified());
    assert!(
        gate.stderr().contains("IPv6 is off on this machine; listening on 0.0.0.0 only"),
        "{}",
        gate.stderr()
    );
    assert!(serves(on("127.0.0.1", &gate)));
    let mut command = Nodegate::prepared(&site, "pve", &["listen.address=::1"]);
    deny_ipv6(&mut command);
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("--set: listen.address: cannot listen on [::1]:0: "), "{outcome:?}");
}

/// Duplicates of all TCP sockets of a process that have a peer.
fn connected_sockets(pid: u32) -> Vec<TcpStream> {
    // SAFETY: the call takes numbers only and gives a new descriptor or -1.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(process >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor was just made and has no other owner.
    let process = unsafe { OwnedFd::from_raw_fd(i32::try_from(process).unwrap()) };
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap());
    let mut sockets = Vec::new();
    for number in numbers {
        // SAFETY: as above.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
        let Ok(copy) = i32::try_from(copy) else { continue };
        if copy >= 0 {
            // SAFETY: as above; what is no TCP socket has no peer, and is closed right away.
            sockets.push(unsafe { TcpStream::from_raw_fd(copy) });
        }
    }
    sockets.retain(|socket| socket.peer_addr().is_ok());
    sockets
}

#[test]
fn accepted_sockets_send_at_once() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let client = TcpStream::connect(gate.address()).unwrap();
    let own: SocketAddr = client.local_addr().unwrap();
    eventually("the connection to be accepted", || {
        let sockets = connected_sockets(gate.pid());
        let accepted = sockets.iter().find(|socket| socket.peer_addr().is_ok_and(|peer| peer == own));
        accepted.is_some_and(|socket| {
            assert!(socket.nodelay().unwrap(), "TCP_NODELAY is off");
            true
        })
    });
}

#[test]
fn many_connections_may_wait_to_be_accepted() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let filter = format!("sport = :{}", gate.port());
    let output = Command::new("ss").args(["-Hltn", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let backlog = text.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap();
    assert_eq!(backlog, most.min(4096), "{text}");
}

#[test]
fn a_restart_can_listen_while_old_connections_linger() {
    let site = Site::pve();
    // A separate address, so that no other test's client takes the port in between.
    let gate = Nodegate::start(&site, &["listen.address=127.0.0.77"]);
    let address = gate.address();
    let mut session = Session::tls(address);
    assert_eq!(session.request("GET", "/x", "", b"").status, 404);
    assert_eq!(gate.stop().code(), Some(0));
    assert!(session.is_closed(), "closed by the server: the connection lingers on its side");
    let again =
        Nodegate::start(&site, &["listen.address=127.0.0.77", &format!("listen.port={}", address.port())]);
    assert!(serves(again.address()));
}

//! The bytes of a tunnel, and their cost.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use nodegate_standin::Echo;
use socket2::{Domain, Socket, Type};

use super::{Viewer, echoing_machine, gate, ports, scripted_machine, target, viewer_head};
use crate::support::Site;
use crate::support::nodegate::TIMEOUT;

pub(super) fn accepted(machine: &TcpListener) -> TcpStream {
    let stream = machine.accept().unwrap().0;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(length).collect()
}

#[test]
fn bytes_that_came_with_the_head_go_first() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let mut viewer = Viewer::connect(&gate);
    viewer.send(viewer_head(&target(&site, machine.address().port())) + "early\r\n\r\n");
    viewer.expect(b"HTTP/1.0 200 OK\r\n\r\nearly\r\n\r\n");
    viewer.send("late");
    viewer.expect(b"late");
}

#[test]
fn megabytes_go_through_unchanged_in_both_directions() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.address().port()));
    let sent = pattern(8_000_001);
    let mut sender = viewer.0.try_clone().unwrap();
    let copy = sent.clone();
    let sending = std::thread::spawn(move || {
        sender.write_all(&copy).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert!(viewer.rest() == sent);
    sending.join().unwrap();
}

#[test]
fn a_half_closed_viewer_still_receives() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    viewer.send("question");
    viewer.end();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    server.write_all(b"answer").unwrap();
    viewer.expect(b"answer");
    drop(server);
    assert_eq!(viewer.rest(), b"");
}

#[test]
fn a_half_closed_machine_still_receives() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    server.write_all(b"bye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(viewer.rest(), b"bye");
    viewer.send("one more thing");
    viewer.end();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "one more thing");
}

/// Back-pressure: nodegate's memory does not grow.
#[test]
fn a_stalled_side_stops_the_other() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    let before = gate.kilobytes("VmRSS");
    let down = flood(&mut server);
    let up = flood(&mut viewer.0);
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    assert!(grown < 4096, "{grown} kB more with {down} and {up} bytes on their way");
    server.shutdown(Shutdown::Write).unwrap();
    let drained = std::thread::spawn(move || {
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    assert_eq!(viewer.rest().len(), down);
    viewer.end();
    assert_eq!(drained.join().unwrap(), up);
}

/// Writes until nothing more is taken for a while.
pub(super) fn flood(stream: &mut TcpStream) -> usize {
    const TOO_MUCH: usize = 256 << 20;
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let chunk = pattern(65_536);
    let mut written = 0;
    loop {
        match stream.write(&chunk) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return written;
            }
            Err(error) => panic!("after {written} bytes: {error}"),
        }
        assert!(written < TOO_MUCH, "nothing holds the sender back");
    }
}

#[test]
fn a_machine_on_ipv6_only_is_found() {
    let site = Site::pve();
    let gate = gate(&site, &[]);
    let (machine, _held) = machine_on_ipv6();
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.address().port()));
    viewer.send("six");
    viewer.expect(b"six");
}

/// The same port of 127.0.0.1 is held, so that no other process listens there.
fn machine_on_ipv6() -> (Echo, Socket) {
    let found = ports().find_map(|port| {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).ok()?;
        Some((Echo::start((Ipv6Addr::LOCALHOST, port).into()).ok()?, held))
    });
    found.unwrap()
}

#[test]
fn many_viewers_at_once_get_their_own_bytes() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut viewers: Vec<Viewer> = (0..50).map(|_| Viewer::tunnel(&gate, &target)).collect();
    for (number, viewer) in viewers.iter_mut().enumerate() {
        viewer.send(format!("{number:03}"));
    }
    for (number, viewer) in viewers.iter_mut().enumerate().rev() {
        viewer.expect(format!("{number:03}").as_bytes());
    }
}

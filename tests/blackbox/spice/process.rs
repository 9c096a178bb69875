//! The log, the access list, and the end.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nodegate_standin::now;
use regex::Regex;
use socket2::{Domain, Socket, Type};

use super::{Viewer, echoing_machine, gate, refused, scripted_machine, target, viewer_head};
use crate::status::report;
use crate::support::nodegate::{TIMEOUT, eventually};
use crate::support::{Nodegate, Site};

#[test]
fn connects_are_logged_without_signature() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let good = target(&site, port);
    let expired = site.keys.spice_target_old("node1", 7, port, now() - 100);
    Viewer::tunnel(&gate, &good);
    assert_eq!(refused(&gate, &expired).0, 401);
    eventually("two lines", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    let stamp = r"\[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]";
    for (line, expected) in log.lines().zip([
        format!(r#"^127\.0\.0\.1 - - {stamp} "CONNECT pvespiceproxy:[0-9a-f]{{8}}:100:node1:{port}::\*\*\*:{port} HTTP/1\.0" 200 -$"#),
        format!(r#"^127\.0\.0\.1 - - {stamp} "CONNECT pvespiceproxy:[0-9a-f]{{8}}:7:node1::\*\*\*:{port} HTTP/1\.0" 401 14$"#),
    ]) {
        assert!(Regex::new(&expected).unwrap().is_match(line), "{line}\n{expected}");
    }
    let signature = Regex::new("[0-9a-f]{40}").unwrap();
    assert!(!signature.is_match(&log) && !signature.is_match(&gate.stderr()), "{log}{}", gate.stderr());
}

#[test]
fn the_access_list_applies_to_viewers() {
    let (site, machine) = (Site::pve(), echoing_machine());
    site.legacy("DENY_FROM=\"127.0.0.9\"\n");
    let gate = gate(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut denied = connect_from("127.0.0.9:0", &gate);
    let _ = std::io::Write::write_all(&mut denied, viewer_head(&target).as_bytes());
    let mut heard = Vec::new();
    let _ = denied.read_to_end(&mut heard);
    assert_eq!(String::from_utf8_lossy(&heard), "");
    eventually("the refusal is in the log", || {
        let log = site.access_log();
        log.starts_with("127.0.0.9 - - [") && log.ends_with("\"-\" 403 -\n")
    });
    Viewer::tunnel(&gate, &target);
}

fn connect_from(own: &str, gate: &Nodegate) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&own.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&gate.local().into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn a_stop_ends_tunnels_and_exits_0() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let mut gate = gate(&site, &["timeout.stop=5"]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = machine.accept().unwrap().0;
    server.set_read_timeout(Some(TIMEOUT)).unwrap();
    let _silent = Viewer::connect(&gate);
    let address = gate.local();
    let started = Instant::now();
    gate.signal(Signal::SIGTERM);
    assert_eq!(viewer.rest(), b"");
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert_eq!(gate.wait().code(), Some(0), "{}", gate.stderr());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_stop_waits_for_no_stalled_viewer() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let mut gate = gate(&site, &["timeout.stop=5"]);
    let viewer = Viewer::tunnel(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = machine.accept().unwrap().0;
    server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while std::io::Write::write(&mut server, &[0; 65_536]).is_ok() {}
    let started = Instant::now();
    gate.signal(Signal::SIGINT);
    assert_eq!(gate.wait().code(), Some(0), "{}", gate.stderr());
    assert!(started.elapsed() < Duration::from_secs(6));
    let _ = viewer.0.shutdown(Shutdown::Both);
}

/// The list shows client, target and bytes.
#[test]
fn an_open_tunnel_is_listed() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let port = machine.address().port();
    let mut viewer = Viewer::tunnel(&gate, &target(&site, port));
    viewer.send(b"hello");
    viewer.expect(b"hello");
    let reported = report(&site, &gate, "spice");
    let tunnel = &reported["open"][0];
    assert_eq!((&reported["tunnels"], &reported["consoles"]), (&1.into(), &0.into()));
    assert_eq!(reported["latency"]["count"], 1, "its answer has a latency: {reported}");
    assert_eq!(tunnel["kind"], "tunnel");
    assert_eq!(tunnel["client"], "127.0.0.1");
    assert_eq!(tunnel["target"], format!("machine 100, port {port}"));
    assert_eq!((&tunnel["up"], &tunnel["down"]), (&5.into(), &5.into()));
    drop(viewer);
    eventually("it is gone from the list", || report(&site, &gate, "spice")["tunnels"] == 0);
}

#[test]
fn idle_tunnels_end_only_by_setting() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &["timeout.tunnel=4"]);
    let mut used = Viewer::tunnel(&gate, &target(&site, machine.address().port()));
    let mut unused = Viewer::tunnel(&gate, &target(&site, machine.address().port()));
    let began = Instant::now();
    for _ in 0..12 {
        used.send("x");
        used.expect(b"x");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(unused.rest(), b"");
    used.send("y");
    used.expect(b"y");
    assert_eq!(used.rest(), b"");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    eventually("it is logged", || gate.stderr().contains("timed out"));
}

//! Viewers that come by TLS, to the port that serves plain ones as well.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nodegate_standin::now;

use super::bytes::{accepted, flood, pattern};
use super::{Viewer, echoing_machine, gate, refusal_to, scripted_machine, target, viewer_head};
use crate::status::report;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

/// A tunnel over TLS.
pub(super) fn sealed(gate: &Nodegate, target: &str) -> Session {
    let mut session = Session::tls(gate.local());
    session.send(viewer_head(target));
    welcomed(&mut session);
    session
}

pub(super) fn welcomed(session: &mut Session) {
    const WELCOME: &[u8] = b"HTTP/1.0 200 OK\r\n\r\n";
    let answer = session.take(WELCOME.len());
    assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(WELCOME));
}

#[test]
fn one_port_takes_viewers_with_tls_and_without() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut early = Session::tls(gate.local());
    early.send(viewer_head(&target) + "early");
    welcomed(&mut early);
    assert_eq!(early.take(5), b"early");
    let mut plain = Viewer::tunnel(&gate, &target);
    for word in ["one", "another"] {
        early.send(word);
        assert_eq!(early.take(word.len()), word.as_bytes());
        plain.send(word);
        plain.expect(word.as_bytes());
    }
    eventually("both are in the log", || site.access_log().matches("::***:").count() == 2);
    let log = site.access_log();
    assert!(log.lines().all(|line| line.ends_with(" HTTP/1.0\" 200 -")), "{log}");
}

#[test]
fn megabytes_and_ends_go_through_tls_unchanged() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = sealed(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    let sent = pattern(8_000_001);
    let copy = sent.clone();
    let serving = std::thread::spawn(move || {
        server.write_all(&copy).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        heard
    });
    // The machine has said all, and still hears.
    assert!(viewer.rest() == sent);
    viewer.send(&sent);
    viewer.finish();
    assert!(serving.join().unwrap() == sent);
}

#[test]
fn a_half_closed_tls_viewer_still_reads() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = sealed(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    viewer.send("question");
    viewer.finish();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "question");
    server.write_all(b"answer").unwrap();
    assert_eq!(viewer.take(6), b"answer");
    drop(server);
    assert_eq!(viewer.rest(), b"");
}

/// Back-pressure: nodegate's memory does not grow.
#[test]
fn a_stalled_tls_viewer_stops_the_machine() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let gate = gate(&site, &[]);
    let mut viewer = sealed(&gate, &target(&site, machine.local_addr().unwrap().port()));
    let mut server = accepted(&machine);
    let before = gate.kilobytes("VmRSS");
    let down = flood(&mut server);
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    assert!(grown < 2048, "{grown} kB more with {down} bytes on their way");
    viewer.send("still here");
    let mut heard = [0; 10];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(viewer.rest().len(), down);
}

#[test]
fn tls_rejections_equal_plaintext_ones() {
    let site = Site::pve();
    let gate = gate(&site, &["timeout.header=1"]);
    let expired = site.keys.spice_target("node1", 100, 61_000, now() - 100);
    for (sent, status) in [
        (viewer_head(&expired), 401),
        ("GET / HTTP/1.1\r\nHost: node1:3128\r\n\r\n".to_owned(), 405),
        ("CONNECT a:1 HTTP/1.0\r\nHost: b:1\r\n\r\n".to_owned(), 400),
        (String::new(), 408),
    ] {
        let mut session = Session::tls(gate.local());
        session.send(&sent);
        let reply = session.reply(false);
        assert_eq!(reply.status, status, "{sent}");
        assert!(session.is_closed(), "{sent}");
        if status != 408 {
            assert_eq!(refusal_to(&gate, &sent).text(), reply.text());
        }
    }
}

#[test]
fn curl_is_rejected_equally_over_https() {
    let site = Site::pve();
    let gate = gate(&site, &[]);
    for scheme in ["https", "http"] {
        let proxy = format!("{scheme}://{}", gate.local());
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", "--proxytunnel", "--proxy-cacert"]);
        command.arg(site.path("/etc/pve/local/pve-ssl.pem")).args([
            "--proxy",
            &proxy,
            "http://localhost:61000/",
        ]);
        let output = command.env("no_proxy", "").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(56), "{scheme}: {said}");
        assert!(said.contains("401"), "{scheme}: {said}");
    }
}

/// nodegate warns of it once.
#[test]
fn without_certificate_the_port_serves_plaintext() {
    let (site, machine) = (Site::pve(), echoing_machine());
    std::fs::remove_file(site.path("/etc/pve/local/pve-ssl.key")).unwrap();
    let gate = gate(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut viewer = Viewer::tunnel(&gate, &target);
    viewer.send("plain");
    viewer.expect(b"plain");
    assert_eq!(refusal_to(&gate, "\x16\x03\x01\x02\0\x01\0\x01\u{7c}").status, 400);
    eventually("it is logged", || gate.stderr().contains("only served without TLS"));
    let log = gate.stderr();
    assert_eq!(log.matches("only served without TLS").count(), 1, "{log}");
    assert!(log.contains("pve-ssl.key: is missing"), "{log}");
}

#[test]
fn a_tls_tunnel_is_listed_and_stops() {
    let (site, machine) = (Site::pve(), scripted_machine());
    let mut gate = gate(&site, &["timeout.stop=5"]);
    let port = machine.local_addr().unwrap().port();
    let mut viewer = sealed(&gate, &target(&site, port));
    let mut server = accepted(&machine);
    viewer.send(b"hello");
    server.read_exact(&mut [0; 5]).unwrap();
    let reported = report(&site, &gate, "spice");
    let tunnel = &reported["open"][0];
    assert_eq!((&reported["tunnels"], &tunnel["kind"]), (&1.into(), &"tunnel".into()));
    assert_eq!(tunnel["target"], format!("machine 100, port {port}"));
    assert_eq!((&tunnel["up"], &tunnel["down"]), (&5.into(), &0.into()));
    assert!(reported["certificates"][0]["file"].as_str().unwrap().ends_with("/pve-ssl.pem"), "{reported}");
    let started = Instant::now();
    gate.signal(Signal::SIGTERM);
    assert_eq!(viewer.rest(), b"");
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert_eq!(gate.wait().code(), Some(0), "{}", gate.stderr());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn idle_tls_tunnels_end_by_setting() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &["timeout.tunnel=1"]);
    let mut viewer = sealed(&gate, &target(&site, machine.address().port()));
    let began = Instant::now();
    assert_eq!(viewer.rest(), b"");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    eventually("it is logged", || gate.stderr().contains("timed out"));
}

//! The end: what runs is finished, what waits is closed, nothing new is taken.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::nodegate::{TIMEOUT, eventually, free_port};
use crate::support::{Nodegate, Session, Site};

const SLOW: &str = "/api2/json/standin/slow";

/// A session whose request has reached the daemon.
fn asking(site: &Site, gate: &Nodegate, path: &str) -> Session {
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session.send(format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    eventually("the daemon has the request", || {
        site.daemon.requests().iter().any(|seen| seen.target == path)
    });
    session
}

#[test]
fn a_running_request_finishes_and_idle_connections_close() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let site = Site::pve();
        let mut gate = Nodegate::start(&site, &["timeout.stop=20"]);
        let mut fresh = gate.connect();
        let mut used = gate.connect();
        let silent = TcpStream::connect(gate.local()).unwrap();
        assert_eq!(used.request("GET", "/nope", "", b"").status, 404);
        let mut running = asking(&site, &gate, &format!("{SLOW}?ms=2000"));
        let before = Instant::now();
        gate.signal(signal);
        eventually("new connections are refused", || TcpStream::connect(gate.local()).is_err());
        assert!(used.is_closed() && fresh.is_closed());
        assert_eq!(running.reply(false).status, 200);
        assert!(running.is_closed());
        assert!(gate.wait().success());
        assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        drop(silent);
    }
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let site = Site::pve();
    let mut gate = Nodegate::start(&site, &["timeout.stop=3"]);
    let mut hanging = asking(&site, &gate, "/api2/json/standin/hang");
    let before = Instant::now();
    gate.signal(Signal::SIGTERM);
    assert!(gate.wait().success());
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    assert!(hanging.is_closed());
    eventually("a warning", || gate.stderr().contains("connections closed after"));
}

/// Its log is complete.
#[test]
fn an_idle_service_stops_at_once() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for number in 0..50 {
        assert_eq!(session.request("GET", &format!("/nope?{number}."), "", b"").status, 404);
    }
    let before = Instant::now();
    assert!(gate.stop().success());
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    let log = site.access_log();
    for number in 0..50 {
        assert!(log.contains(&format!("/nope?{number}. ")), "{number}: {log}");
    }
}

#[test]
fn systemd_hears_of_start_and_stop() {
    let site = Site::pve();
    let path = site.path("/run/notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(command.env("NOTIFY_SOCKET", &path));
    let heard = || {
        let mut text = [0; 4096];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let first = heard();
    assert!(first.lines().any(|line| line == "READY=1"), "{first}");
    assert!(gate.stop().success());
    let mut last = heard();
    while !last.lines().any(|line| line == "STOPPING=1") {
        last = heard();
    }
}

#[test]
fn the_pid_file_needs_the_products_port() {
    let site = Site::pve();
    let port = free_port();
    let own = site.own_profile(port);
    let pid_file = site.path("/run/pveproxy/pveproxy.pid");
    let trial = Nodegate::start_profile(&site, &own, &[]);
    assert!(!pid_file.exists());
    let set = format!("listen.port={port}");
    let gate = Nodegate::start_profile(&site, &own, &[&set]);
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), gate.pid().to_string());
    assert!(trial.stop().success());
    assert!(pid_file.exists());
    std::fs::remove_file(&pid_file).unwrap();
    gate.signal(Signal::SIGHUP);
    eventually("a reload writes a deleted file again", || pid_file.exists());
    assert!(gate.stop().success());
    assert!(!pid_file.exists());
}

#[test]
fn the_port_is_free_again_at_once() {
    let site = Site::pve();
    let port = free_port();
    let set = format!("listen.port={port}");
    for _ in 0..3 {
        let gate = Nodegate::start(&site, &[&set]);
        assert_eq!(gate.address().port(), port);
        assert_eq!(gate.get("/nope", "").status, 404);
        assert!(gate.stop().success());
    }
}

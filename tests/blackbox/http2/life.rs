//! How long a connection and an answer may last, and how they end.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::wire::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, STATUS_200, WINDOW_UPDATE, Wire, frame,
    request,
};
use super::{VERSION, curl, start};
use crate::support::Site;
use crate::support::nodegate::eventually;

/// `SETTINGS_INITIAL_WINDOW_SIZE`
const WINDOW: u16 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// Requests that a connection may have at once.
const STREAMS: usize = 32;
const CONNECTIONS: usize = 5;

#[test]
fn running_requests_are_answered_during_a_stop() {
    let site = Site::pve();
    let mut gate = start(&site, &[]);
    let cookie = site.cookie("root@pam").trim_end().to_owned();
    let value = cookie.trim_start_matches("Cookie: ").to_owned();
    let mut idle = Wire::connect(&gate, &[]);
    idle.get(1, VERSION, &[("cookie", &value)]);
    idle.wait_for(HEADERS, 1);
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, "/api2/json/standin/slow?ms=5000", &[("cookie", &value)]);
    eventually("the daemon is asked", || site.daemon.requests().len() == 2);
    gate.signal(Signal::SIGTERM);
    wire.wait_for(GOAWAY, 0);
    assert_eq!(wire.wait_for(HEADERS, 1).payload[0], STATUS_200);
    assert_eq!(wire.wait_for(DATA, 1).flags & END_STREAM, END_STREAM);
    assert_eq!(wire.end().unwrap_or_default(), 0);
    assert_eq!(idle.end(), Some(0));
    assert!(gate.wait().success());
}

#[test]
fn a_stream_that_is_reset_leaves_a_line() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let value = site.cookie("root@pam").trim_end().trim_start_matches("Cookie: ").to_owned();
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, "/api2/json/standin/hang", &[("cookie", &value)]);
    eventually("the daemon is asked", || site.daemon.open() == 1);
    wire.frame(RST_STREAM, 0, 1, &CANCEL);
    eventually("it is logged", || site.access_log().contains("/standin/hang HTTP/2.0\" 499 "));
    eventually("the daemon's connection ends", || site.daemon.open() == 0);
}

/// By a reset of the stream, and by the end of the connection.
#[test]
fn guesses_on_reset_streams_count() {
    let site = Site::pve();
    let proxied = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1", "limits.login_failures=2"];
    let gate = start(&site, &proxied);
    let form = b"username=root@pam&password=x";
    let path = "/api2/json/access/ticket?standin-wait=2000";
    for (guesses, resets) in [(1, true), (2, false)] {
        let mut wire = Wire::connect(&gate, &[]);
        let length = form.len().to_string();
        let headers = [("x-real-ip", "192.0.2.7"), ("content-length", length.as_str())];
        wire.frame(HEADERS, END_HEADERS, 1, &request("POST", path, &headers));
        wire.frame(DATA, END_STREAM, 1, form);
        eventually("the daemon is asked", || site.daemon.requests().len() == guesses);
        if resets {
            wire.frame(RST_STREAM, 0, 1, &CANCEL);
        }
        drop(wire);
        let line = format!("{path} HTTP/2.0\" 401 ");
        eventually("the verdict is logged", || site.access_log().matches(&line).count() == guesses);
    }
    let headers = "X-Real-IP: 192.0.2.7\r\n";
    let reply = gate.request("POST", "/api2/json/access/ticket", headers, b"username=root@pam&password=demo");
    assert_eq!(reply.status, 429, "{reply:?}");
}

#[test]
fn new_requests_do_not_prolong_draining() {
    let site = Site::pve();
    let mut gate = start(&site, &["timeout.stop=60"]);
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, "/nowhere", &[]);
    wire.wait_for(HEADERS, 1);
    gate.signal(Signal::SIGTERM);
    wire.wait_for(GOAWAY, 0);
    let asked = Instant::now();
    for stream in (3..).step_by(2) {
        let next = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/nowhere", &[]));
        if wire.try_send(&next).is_err() {
            break;
        }
        assert!(asked.elapsed() < Duration::from_secs(25), "request after request is answered");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(gate.wait().success());
}

#[test]
fn removed_workers_send_goaway() {
    let site = Site::pve();
    site.write("/etc/nodegate/pve.toml", "workers = 3\n");
    let gate = start(&site, &[]);
    let value = site.cookie("root@pam").trim_end().trim_start_matches("Cookie: ").to_owned();
    let mut wires: Vec<_> = (0..6).map(|_| Wire::connect(&gate, &[])).collect();
    for wire in &mut wires {
        wire.get(1, VERSION, &[("cookie", &value)]);
        wire.wait_for(HEADERS, 1);
    }
    site.write("/etc/nodegate/pve.toml", "workers = 1\n");
    gate.signal(Signal::SIGHUP);
    let retired = wires.iter_mut().filter_map(|wire| {
        // Those that stay answer a ping, the others say goodbye.
        std::thread::sleep(Duration::from_millis(300));
        wire.try_send(&super::wire::frame(PING, 0, 0, &[7; 8])).ok()?;
        loop {
            match wire.next() {
                None => return Some(()),
                Some(frame) if frame.kind == GOAWAY => return Some(()),
                Some(frame) if frame.kind == PING && frame.payload == [7; 8] => return None,
                Some(_) => (),
            }
        }
    });
    let retired = retired.count();
    assert!((1..6).contains(&retired), "{retired} of 6");
}

/// The first request has the time of a head; a quiet connection ends.
#[test]
fn head_and_idle_timeouts_apply() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.header=1", "timeout.idle=2"]);
    let began = Instant::now();
    assert_eq!(Wire::silent(&gate).next().map(|frame| frame.kind).filter(|kind| *kind == HEADERS), None);
    let mut silent = Wire::connect(&gate, &[]);
    assert_eq!(silent.end(), Some(0));
    eventually("the log has it", || site.access_log().contains("\"-\" 408 -"));
    let mut wire = Wire::connect(&gate, &[]);
    wire.get(1, "/nowhere", &[]);
    wire.wait_for(HEADERS, 1);
    // A frame that belongs to no request keeps no connection open.
    let answered = Instant::now();
    while wire.try_send(&super::wire::frame(PING, 0, 0, &[0; 8])).is_ok()
        && answered.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(200));
        if wire.next().is_some_and(|frame| frame.kind == GOAWAY) {
            break;
        }
    }
    assert!(answered.elapsed() < Duration::from_secs(10) && began.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_unread_response_ends_its_stream_only() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.write=2"]);
    let value = site.cookie("root@pam").trim_end().trim_start_matches("Cookie: ").to_owned();
    let mut wire = Wire::connect(&gate, &[(WINDOW, 0)]);
    wire.get(1, "/api2/json/standin/big?size=1000000", &[("cookie", &value)]);
    wire.get(3, VERSION, &[("cookie", &value)]);
    wire.wait_for(HEADERS, 3);
    wire.frame(WINDOW_UPDATE, 0, 3, &1000_u32.to_be_bytes());
    assert_eq!(wire.wait_for(DATA, 3).flags & END_STREAM, END_STREAM);
    let given_up = wire.wait_for(RST_STREAM, 1);
    assert_eq!(given_up.payload, CANCEL);
    wire.get(5, VERSION, &[("cookie", &value)]);
    assert_eq!(wire.wait_for(HEADERS, 5).payload[0], STATUS_200);
}

#[test]
fn a_dripping_body_is_too_slow() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.write=2", "limits.response_min_rate=1000"]);
    let value = site.cookie("root@pam").trim_end().trim_start_matches("Cookie: ").to_owned();
    let mut wire = Wire::connect(&gate, &[(WINDOW, 0)]);
    wire.get(1, "/api2/json/standin/big?size=1000000", &[("cookie", &value)]);
    let began = Instant::now();
    wire.wait_for(HEADERS, 1);
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "a byte each half a second is enough");
        std::thread::sleep(Duration::from_millis(500));
        wire.frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
        if wire.next().is_some_and(|frame| frame.kind == RST_STREAM) {
            break;
        }
    }
}

#[test]
fn clients_that_take_nothing_hold_little_memory() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.write=10", "timeout.header=60"]);
    let cookie = site.cookie("root@pam");
    let value = cookie.trim_end().trim_start_matches("Cookie: ").to_owned();
    assert_eq!(curl(&gate, VERSION, &["-H", cookie.trim_end()]).status, "200");
    let before = gate.kilobytes("VmRSS");
    let mut wires: Vec<_> = (0..CONNECTIONS).map(|_| Wire::connect(&gate, &[(WINDOW, 1)])).collect();
    for wire in &mut wires {
        for stream in 0..40 {
            wire.get(stream * 2 + 1, "/api2/json/standin/big?size=5000000", &[("cookie", &value)]);
        }
    }
    eventually("as many as may are under way", || site.daemon.requests().len() >= CONNECTIONS * STREAMS);
    std::thread::sleep(Duration::from_secs(1));
    let each = gate.kilobytes("VmRSS").saturating_sub(before) / 5;
    println!("{each} kB a connection with {STREAMS} answers that nobody takes");
    assert!(each < 1600, "{each} kB a connection");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    for mut wire in wires {
        let mut given_up = 0;
        while given_up < STREAMS {
            let frame = wire.next().expect("the connection closed");
            given_up += usize::from(frame.kind == RST_STREAM && frame.payload == CANCEL);
        }
    }
}

#[test]
fn connections_that_rest_hold_little_memory() {
    let site = Site::pve();
    let gate = start(&site, &["timeout.header=60"]);
    let cookie = site.cookie("root@pam");
    let value = cookie.trim_end().trim_start_matches("Cookie: ").to_owned();
    assert_eq!(curl(&gate, VERSION, &["-H", cookie.trim_end()]).status, "200");
    let before = gate.kilobytes("VmRSS");
    let mut wires: Vec<_> = (0..50).map(|_| Wire::connect(&gate, &[])).collect();
    for wire in &mut wires {
        wire.get(1, VERSION, &[("cookie", &value)]);
        wire.wait_for(DATA, 1);
    }
    let each = gate.kilobytes("VmRSS").saturating_sub(before) / 50;
    println!("{each} kB a connection that rests");
    assert!(each < 200, "{each} kB a connection");
}

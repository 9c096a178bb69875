//! Guesses at passwords on streams, and clients that do not wait for the verdict.

use std::time::{Duration, Instant};

use nodegate_standin::API_TOKEN;

use super::start;
use super::wire::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, STATUS_200, Wire, request,
};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const LOGIN: &str = "/api2/json/access/ticket";
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const CLIENT: &str = "192.0.2.7";
const WRONG: &[u8] = b"username=root@pam&password=x";
const RIGHT: &[u8] = b"username=root@pam&password=demo";

fn behind_a_proxy(site: &Site, sets: &[&str]) -> Nodegate {
    let proxied = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];
    start(site, &[&proxied, sets].concat())
}

/// A login, without waiting for anything.
fn send(wire: &mut Wire, stream: u32, path: &str, form: &[u8]) -> bool {
    let length = form.len().to_string();
    let headers = [("x-real-ip", CLIENT), ("content-length", length.as_str())];
    let head = super::wire::frame(HEADERS, END_HEADERS, stream, &request("POST", path, &headers));
    let body = super::wire::frame(DATA, END_STREAM, stream, form);
    wire.try_send(&[head, body].concat()).is_ok()
}

fn log_in(gate: &Nodegate, form: &[u8]) -> u16 {
    gate.request("POST", LOGIN, &format!("X-Real-IP: {CLIENT}\r\n"), form).status
}

/// A right password is answered at once and a wrong one late, so an attacker need not wait: reset, next.
#[test]
fn resets_gain_no_guesses() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=5"]);
    let path = format!("{LOGIN}?standin-wait=3000");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        let mut wire = Wire::connect(&gate, &[]);
        for stream in (1..40).step_by(2) {
            if !send(&mut wire, stream, &path, WRONG) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            if wire.try_send(&super::wire::frame(RST_STREAM, 0, stream, &CANCEL)).is_err() {
                break;
            }
        }
    }
    assert_eq!(site.daemon.requests().len(), 5, "guesses that the daemon has judged");
    assert_eq!(log_in(&gate, RIGHT), 429);
}

/// By the end of the connection with and without a goodbye.
#[test]
fn correct_passwords_on_ended_streams_do_not_count() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    let path = format!("{LOGIN}?standin-wait=12000");
    let mut wire = Wire::connect(&gate, &[]);
    assert!(send(&mut wire, 1, &path, RIGHT));
    eventually("the daemon is asked", || site.daemon.requests().len() == 1);
    wire.frame(GOAWAY, 0, 0, &[0; 8]);
    drop(wire);
    eventually("the daemon has answered", || site.daemon.open() == 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(log_in(&gate, RIGHT), 200);
}

#[test]
fn dripping_bodies_on_streams_take_no_slot() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=3"]);
    let mut wire = Wire::connect(&gate, &[]);
    for stream in [1, 3, 5, 7, 9, 11] {
        let headers = [("x-real-ip", CLIENT), ("content-length", "60")];
        wire.frame(HEADERS, END_HEADERS, stream, &request("POST", LOGIN, &headers));
        wire.frame(DATA, 0, stream, b"username=");
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(log_in(&gate, RIGHT), 200);
    drop(wire);
}

#[test]
fn a_rejection_is_delayed_and_sends_goaway() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=1"]);
    assert_eq!(log_in(&gate, WRONG), 401);
    let mut wire = Wire::connect(&gate, &[]);
    let began = Instant::now();
    assert!(send(&mut wire, 1, LOGIN, RIGHT));
    let mut seen = Vec::new();
    while let Some(frame) = wire.next() {
        seen.push(frame.kind);
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(seen.contains(&HEADERS) && seen.contains(&GOAWAY), "{seen:?}");
}

/// The daemon takes the call for one that needs no login, and ignores the token.
#[test]
fn answers_of_open_calls_prove_no_token() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=2"]);
    let mut wire = Wire::connect(&gate, &[]);
    for (stream, number) in [(1, 0), (5, 1)] {
        let token = format!("PVEAPIToken=root@pam!t={number:08x}-0000");
        let headers = [("authorization", token.as_str()), ("x-real-ip", CLIENT)];
        wire.get(stream, "/api2/json/access/domains/", &headers);
        assert_eq!(wire.wait_for(HEADERS, stream).payload[0], STATUS_200);
        if number == 0 {
            wire.get(stream + 2, "/api2/json/version", &headers);
            assert_ne!(wire.wait_for(HEADERS, stream + 2).payload[0], STATUS_200);
        }
    }
    assert_eq!(log_in(&gate, RIGHT), 429);
}

/// The upload may be the first call of a token after a restart. The check before the file proves the token.
#[test]
fn a_proven_tokens_upload_has_a_users_window() {
    for client in [CLIENT, "127.0.0.1"] {
        let site = Site::pve();
        let gate = behind_a_proxy(&site, &[]);
        let mut wire = Wire::connect(&gate, &[]);
        wire.wait_for(SETTINGS, 0);
        wire.frame(SETTINGS, 1, 0, b"");
        let token = format!("PVEAPIToken={API_TOKEN}");
        let multipart = ("content-type", "multipart/form-data; boundary=x");
        let headers = [("authorization", token.as_str()), multipart, ("x-real-ip", client)];
        let path = "/api2/json/nodes/node1/storage/local/upload";
        wire.frame(HEADERS, END_HEADERS, 1, &request("POST", path, &headers));
        wire.frame(DATA, 0, 1, b"--x\r\n");
        let is_wide = |setting: &[u8]| {
            let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
            setting[..2] == [0, 4] && value > 16 << 10
        };
        while !wire.wait_for(SETTINGS, 0).payload.chunks_exact(6).any(is_wide) {}
    }
}

/// Its visitors would be locked out with their whole address.
#[test]
fn foreign_pages_log_in_on_no_stream() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &["limits.login_failures=3"]);
    let mut wire = Wire::connect(&gate, &[]);
    for stream in [1, 3, 5, 7] {
        let length = WRONG.len().to_string();
        let browser = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example.com")];
        let headers = [&[("x-real-ip", CLIENT), ("content-length", length.as_str())][..], &browser].concat();
        wire.frame(HEADERS, END_HEADERS, stream, &request("POST", LOGIN, &headers));
        wire.frame(DATA, END_STREAM, stream, WRONG);
        wire.wait_for(HEADERS, stream);
    }
    assert_eq!(site.daemon.requests().len(), 0, "logins that the daemon has judged");
    assert_eq!(log_in(&gate, RIGHT), 200);
}

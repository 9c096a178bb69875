//! Bounds of clients without login: little of each body, little of all bodies together, and not for long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{BEHIND_A_PROXY, LOGIN, VERSION, from};
use crate::http2::wire::{DATA, END_HEADERS, HEADERS, Wire, frame, request};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Session, Site};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const OPTIONS: &str = "/api2/json/cluster/options";

/// The Mail Gateway with a general listener and one for the quarantine.
fn two_listeners(sets: &[&str]) -> (Site, Nodegate, [SocketAddr; 2]) {
    let site = Site::pmg();
    site.write(
        "/etc/nodegate/pmg.toml",
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n",
    );
    let gate = Nodegate::start(&site, &[&["http2=true"], sets].concat());
    let addresses = [gate.address(), gate.listener("public")];
    (site, gate, addresses)
}

/// A login whose body is announced and has begun.
fn begin_login(address: SocketAddr, headers: &str, announced: usize, sent: usize) -> Session {
    let mut session = Session::tls(address);
    let head =
        format!("POST {LOGIN} HTTP/1.1\r\nHost: a\r\n{FORM}Content-Length: {announced}\r\n{headers}\r\n");
    // A rejected connection may close before all of it is sent.
    let _ = session.try_send([head.as_bytes(), &vec![b'x'; sent]].concat());
    session
}

fn has_retry_after(reply: &Reply) -> bool {
    let seconds: u64 = reply.header("retry-after").unwrap_or_default().parse().unwrap_or_default();
    reply.status == 503 && seconds > 0
}

#[test]
fn a_login_with_a_large_body_is_refused() {
    let (_site, _gate, addresses) = two_listeners(&[]);
    for address in addresses {
        let reply = begin_login(address, "", 20_000, 0).reply(false);
        assert_eq!(reply.status, 413, "announced: {}", reply.text());
        let mut session = Session::tls(address);
        session.send(format!("POST {LOGIN} HTTP/1.1\r\nHost: a\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n"));
        session.send([b"4e20\r\n".as_slice(), &[b'x'; 20_000], b"\r\n"].concat());
        assert_eq!(session.reply(false).status, 413, "in chunks");
        let reply = Session::tls(address).request("POST", LOGIN, FORM, &[b'x'; 16_000]);
        assert!(matches!(reply.status, 400..=403), "{} {}", reply.status, reply.text());
    }
}

#[test]
fn a_login_body_that_drips_ends_in_time() {
    let (_site, gate, addresses) = two_listeners(&[]);
    let began = Instant::now();
    let mut sessions = addresses.map(|address| begin_login(address, "", 10_000, 1));
    let mut wire = Wire::connect(&gate, &[]);
    wire.send(&begin_stream(1, 10_000));
    // As fast as the least rate for bodies asks.
    let is_over = |session: &mut Session| session.try_send([b'x'; 600]).is_err() || session.has_reply();
    while began.elapsed() < Duration::from_secs(25) {
        let done = sessions.iter_mut().map(is_over).filter(|done| *done).count();
        let _ = wire.try_send(&frame(DATA, 0, 1, &[b'x'; 600]));
        if done == 2 || began.elapsed() > Duration::from_secs(14) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(sessions.iter_mut().all(Session::has_reply), "still read after {:?}", began.elapsed());
    assert_eq!(sessions.map(|mut session| session.reply(false).status), [408, 408]);
    // Plainly, or in Huffman's code.
    let is_timeout = |three: &[u8]| three == b"408" || three == [0x68, 0x0f, 0x7f];
    assert!(wire.wait_for(HEADERS, 1).payload.windows(3).any(is_timeout));
}

fn begin_stream(stream: u32, announced: usize) -> Vec<u8> {
    let length = announced.to_string();
    let headers =
        [("content-type", "application/x-www-form-urlencoded"), ("content-length", length.as_str())];
    frame(HEADERS, END_HEADERS, stream, &request("POST", LOGIN, &headers))
}

/// Kilobytes that nodegate holds more for each of these.
fn grown<T>(gate: &Nodegate, count: usize, begin: impl Fn() -> T) -> u64 {
    let before = gate.kilobytes("VmRSS");
    let held: Vec<T> = (0..count).map(|_| begin()).collect();
    // An accepted request arrives, and a rejected one is answered.
    std::thread::sleep(Duration::from_secs(1));
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    drop(held);
    grown / u64::try_from(count).unwrap()
}

#[test]
fn unfinished_login_bodies_take_little_memory() {
    const COUNT: usize = 100;
    for number in 0..2 {
        let (_site, gate, addresses) = two_listeners(&[]);
        let each = grown(&gate, COUNT, || begin_login(addresses[number], "", 524_288, 524_000));
        println!("HTTP/1.1, listener {number}: {each} kB a connection");
        assert!(each < 300, "HTTP/1.1, listener {number}: {each} kB a connection");
        let half = grown(&gate, COUNT, || begin_login(addresses[number], "", 16_384, 8_192));
        println!("HTTP/1.1, listener {number}: {half} kB for half a login body");
        assert!(half < 120, "HTTP/1.1, listener {number}: {half} kB for half a login body");
    }
}

/// Eight streams at once, as much of each body as the windows allow.
fn eight_streams(gate: &Nodegate, address: SocketAddr, announced: usize, sent: usize) -> Wire {
    let mut wire = Wire::connect_to(address, &[]);
    for stream in 0..8 {
        wire.send(&begin_stream(stream * 2 + 1, announced));
    }
    let piece = vec![b'x'; 16_000];
    for _ in 0..sent / piece.len() {
        for stream in 0..8 {
            // Without looking at windows: a connection that breaks holds nothing either.
            let _ = wire.try_send(&frame(DATA, 0, stream * 2 + 1, &piece));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(gate.kilobytes("VmRSS") > 0);
    wire
}

#[test]
fn bodies_of_http2_streams_take_little_memory() {
    for number in 0..2 {
        let (_site, gate, addresses) = two_listeners(&[]);
        let each = grown(&gate, 10, || eight_streams(&gate, addresses[number], 524_288, 512_000));
        println!("HTTP/2, listener {number}: {each} kB a connection");
        assert!(each < 1200, "HTTP/2, listener {number}: {each} kB a connection");
    }
}

/// Strangers of one address after another begin bodies until one is refused for want of room.
fn fill(gate: &Nodegate, address_of: impl Fn(usize) -> String) -> Vec<Session> {
    let mut held: Vec<Session> = Vec::new();
    for number in 0..300 {
        let mut session = begin_login(gate.local(), &from(&address_of(number)), 16_384, 8_192);
        std::thread::sleep(Duration::from_millis(5));
        if session.has_reply() {
            let reply = session.reply(false);
            assert!(has_retry_after(&reply), "{} {}", reply.status, reply.text());
            // Room is taken as bytes come: others may have been refused a little later.
            std::thread::sleep(Duration::from_millis(500));
            held.retain_mut(|session| !session.has_reply());
            return held;
        }
        held.push(session);
    }
    panic!("nobody was refused")
}

#[test]
fn bodies_of_strangers_leave_room_for_others() {
    let site = Site::pve();
    let sets = [&BEHIND_A_PROXY[..], &["limits.buffered=1048576", "timeout.login_body=600"]].concat();
    let gate = Nodegate::start(&site, &sets);
    let one = fill(&gate, |_| "192.0.2.7".to_owned());
    assert!(one.len() >= 4, "{}", one.len());
    let login = |client: &str| {
        let form = "username=root@pam&password=demo";
        gate.request("POST", LOGIN, &(from(client) + FORM), form.as_bytes()).status
    };
    assert_eq!(login("192.0.2.8"), 200, "another address");
    let many = fill(&gate, |number| format!("198.51.{}.{}", number / 200, number % 200 + 1));
    assert!(many.len() >= 8, "{}", many.len());
    assert_eq!(login("192.0.2.9"), 200, "another address beside many");
    let user = site.cookie("root@pam") + &site.csrf("root@pam") + FORM;
    let reply = gate.request("PUT", OPTIONS, &(from("192.0.2.10") + &user), &[b'x'; 300_000]);
    assert_eq!(reply.status, 200, "a user: {}", reply.text());
    assert!(one.into_iter().chain(many).all(|mut session| !session.has_reply()), "nobody was cut off");
    eventually("the room is free again", || login("192.0.2.7") == 200);
    assert_eq!(gate.get(VERSION, &user).status, 200);
}

//! Frames by which HTTP/2 servers were brought down: each attack ends with its connection, in bounded memory, and
//! other clients are served during it.

use std::time::{Duration, Instant};

use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire,
    frame, request, text,
};
use super::{VERSION, start};
use crate::support::{Nodegate, Site};

const ENHANCE_YOUR_CALM: u32 = 11;

/// The result of one attack.
struct Outcome {
    /// of the last GOAWAY
    code: Option<u32>,
    /// pieces that were sent before the connection broke
    sent: usize,
    /// kilobytes that nodegate holds more
    grown: u64,
}

/// Sends pieces until the connection breaks or there are no more, while another client sends requests.
fn attack(site: &Site, gate: &Nodegate, first: &[u8], pieces: impl Iterator<Item = Vec<u8>>) -> Outcome {
    let cookie = site.cookie("root@pam");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    let before = gate.kilobytes("VmRSS");
    let mut wire = Wire::connect(gate, &[]);
    wire.send(first);
    let began = Instant::now();
    let mut sent = 0;
    for piece in pieces {
        if wire.try_send(&piece).is_err() || began.elapsed() > Duration::from_secs(20) {
            break;
        }
        sent += 1;
    }
    assert_eq!(gate.get(VERSION, &cookie).status, 200, "others are served");
    let code = wire.end();
    Outcome { code, sent, grown: gate.kilobytes("VmRSS").saturating_sub(before) }
}

impl Outcome {
    /// The connection has ended. The client got the reason if there was time for it.
    fn is_calm(&self, what: &str) {
        println!("{what}: {:?} after {} pieces, {} kB", self.code, self.sent, self.grown);
        assert!(matches!(self.code, None | Some(ENHANCE_YOUR_CALM)), "{what}: {:?}", self.code);
        assert!(self.grown < 8000, "{what}: {} kB", self.grown);
    }
}

fn get(stream: u32, site: &Site) -> Vec<u8> {
    let cookie = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    let block = request("GET", "/api2/json/standin/slow?ms=5000", &[("cookie", &cookie)]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[test]
fn rapid_resets_end_the_connection() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let pieces = (0..100_000_u32).map(|number| {
        let stream = number * 2 + 1;
        [get(stream, &site), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    attack(&site, &gate, b"", pieces).is_calm("rapid reset");
    let calls = site.daemon.requests().len();
    assert!(calls < 500, "{calls} calls of the daemon");
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let begin = frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
    let empty = frame(CONTINUATION, 0, 1, b"");
    let full = frame(CONTINUATION, 0, 1, &[vec![0], text("a"), text(&"b".repeat(16_000))].concat());
    for (what, piece) in [("empty CONTINUATION", empty), ("full CONTINUATION", full)] {
        attack(&site, &gate, &begin, std::iter::repeat_n(piece, 100_000)).is_calm(what);
    }
}

#[test]
fn frames_that_cost_nothing_end_the_connection() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let begin = [
        frame(HEADERS, END_HEADERS, 1, &request("POST", "/api2/json/access/ticket", &[])),
        frame(DATA, 0, 1, b"a=1"),
    ]
    .concat();
    for (what, piece) in [
        ("PING", frame(PING, 0, 0, &[1; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
        ("empty SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 9])),
        ("empty DATA", frame(DATA, 0, 1, b"")),
        ("DATA of a byte", frame(DATA, 0, 1, b"x")),
        ("unknown frames", frame(0x77, 0, 0, b"")),
    ] {
        let pieces = std::iter::repeat_n(piece.repeat(100), 2000);
        attack(&site, &gate, &begin, pieces).is_calm(what);
    }
}

/// One entry of the table, named again and again: few bytes that mean many (RFC 7541 section 7.3).
#[test]
fn a_head_that_unpacks_to_much_is_refused() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let mut block = request("GET", "/", &[]);
    block.push(0x40); // into the table, where it is number 62
    block.extend([text("x-bomb"), text(&"b".repeat(3900))].concat());
    block.extend(std::iter::repeat_n(0xbe, 8000));
    let before = gate.kilobytes("VmRSS");
    let mut wire = Wire::connect(&gate, &[]);
    for stream in 0..8 {
        // It may have had enough by then.
        if wire.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, &block)).is_err() {
            break;
        }
    }
    for stream in 0..8 {
        let answer = loop {
            match wire.next() {
                Some(frame) if frame.stream == stream * 2 + 1 => break Some(frame),
                Some(_) => (),
                None => break None,
            }
        };
        // 431, or no stream at all.
        assert!(answer.is_none_or(|it| it.kind == RST_STREAM || has_status(&it.payload, "431")));
    }
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    println!("HPACK bomb: {grown} kB");
    assert!(grown < 8000, "{grown} kB");
    assert_eq!(site.daemon.requests().len(), 0);
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
}

/// `:status` (8 in HPACK's table) and a value that is written out, plainly or in Huffman's code.
fn has_status(block: &[u8], status: &str) -> bool {
    let is_status = block.first().is_some_and(|byte| byte & 0x0f == 8 && *byte != 0x88);
    is_status
        && (block.windows(3).any(|three| three == status.as_bytes())
            || block.get(1) == Some(&0x82)
            || block.get(1) == Some(&0x83))
}

/// The reason is sent as far as the head can be read.
#[test]
fn an_oversized_head_is_rejected_with_reason() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let got = super::curl(
        &gate,
        VERSION,
        &["-H", cookie.trim_end(), "-H", &format!("X-Much: {}", "x".repeat(9000))],
    );
    assert_eq!(got.status, "431");
    assert!(got.header("status-message").is_some_and(|told| told.contains("too large")), "{got:?}");
    let many: Vec<String> = (0..70).map(|number| format!("X-{number}: y")).collect();
    let mut arguments = vec!["-H", cookie.trim_end()];
    arguments.extend(many.iter().flat_map(|line| ["-H", line.as_str()]));
    assert_eq!(super::curl(&gate, VERSION, &arguments).status, "431");
    let long = format!("/{}", "x".repeat(33_000));
    assert_eq!(super::curl(&gate, &long, &[]).status, "414");
    assert_eq!(site.daemon.requests().len(), 0);
}

/// The streams within the limit are answered.
#[test]
fn excess_streams_are_refused() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    let cookie = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    let block = request("GET", "/api2/json/standin/slow?ms=500", &[("cookie", &cookie)]);
    let get = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &block);
    wire.send(&(0..160).flat_map(get).collect::<Vec<_>>());
    let (mut refused, mut answered) = (0, 0);
    while refused + answered < 160 {
        match wire.next() {
            Some(frame) if frame.kind == RST_STREAM && frame.payload == [0, 0, 0, 7] => refused += 1,
            Some(frame) if frame.kind == HEADERS => answered += 1,
            Some(_) => (),
            None => panic!("closed after {refused} and {answered}"),
        }
    }
    // An answer that is quick makes room for one more.
    assert!(refused > 0 && answered >= 100, "{refused} refused, {answered} answered");
    assert_eq!(site.daemon.requests().len(), answered);
}

/// Frames of every kind, with flags, streams, lengths and contents as they fall.
#[test]
fn invalid_frames_harm_no_other_client() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for round in 0..150 {
        let mut wire = Wire::connect(&gate, &[]);
        if round % 3 > 0 {
            wire.send(&get(1, &site));
        }
        for _ in 0..40 {
            let [kind, flags, stream, length] = next().to_be_bytes();
            let payload: Vec<u8> = (0..length / 4).map(|_| next().to_be_bytes()[0]).collect();
            let stream = if stream < 64 { 0 } else { u32::from(stream % 8) };
            if wire.try_send(&frame(kind % 12, flags, stream, &payload)).is_err() {
                break;
            }
        }
    }
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    let log = gate.stderr();
    assert!(!log.contains("panicked"), "{log}");
    assert!(gate.kilobytes("VmRSS") < 60_000, "{} kB", gate.kilobytes("VmRSS"));
}

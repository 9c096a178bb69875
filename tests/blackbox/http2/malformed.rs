//! Requests that are malformed (RFC 9113 section 8.1.1): each ends its stream, and no other that shares the connection.

use std::time::{Duration, Instant};

use super::start;
use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Wire, frame, request_for,
};
use crate::support::{Nodegate, Site};

const PROTOCOL_ERROR: u32 = 1;

/// How a line is written (RFC 7541 section 6.2): kept in the table, not kept, never kept.
const PLAIN: u8 = 0x00;
const NEVER: u8 = 0x10;

fn line(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![kind], octets(name), octets(value)].concat()
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    [vec![u8::try_from(bytes.len()).unwrap()], bytes.to_vec()].concat()
}

fn get(path: &[u8]) -> Vec<u8> {
    request_for("GET", path, &[])
}

/// The end of a stream: the code that it was reset with, or `None` for a response; `Err` where the connection ended.
fn outcome(wire: &mut Wire, stream: u32) -> Result<Option<u32>, u32> {
    loop {
        let frame = wire.next().ok_or(u32::MAX)?;
        let code =
            || u32::from_be_bytes(frame.payload[frame.payload.len().min(4)..][..4].try_into().unwrap());
        match frame.kind {
            GOAWAY => return Err(code()),
            RST_STREAM if frame.stream == stream => {
                return Ok(Some(u32::from_be_bytes(frame.payload[..4].try_into().unwrap())));
            }
            HEADERS if frame.stream == stream => return Ok(None),
            _ => (),
        }
    }
}

/// Header blocks that say what no request says.
fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let with = |more: &[u8]| [get(b"/x").as_slice(), more].concat();
    let without = |skipped: &str| -> Vec<u8> {
        let lines = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/x")];
        let lines = lines.iter().filter(|(name, _)| *name != skipped);
        lines.flat_map(|(name, value)| line(PLAIN, name.as_bytes(), value.as_bytes())).collect()
    };
    let instead = |name: &str, value: &[u8]| [without(name), line(PLAIN, name.as_bytes(), value)].concat();
    vec![
        ("NUL in a value", with(&line(PLAIN, b"x-a", b"a\0b"))),
        ("NUL in a value, never indexed", with(&line(NEVER, b"x-a", b"a\0b"))),
        ("line end in a value", with(&line(PLAIN, b"x-a", b"a\r\nb: c"))),
        ("delete in a value", with(&line(PLAIN, b"x-a", b"\x7f"))),
        ("NUL in the value of a name of the table", with(&[&[0x0f, 0x0b][..], &octets(b"a\0b")].concat())),
        ("capitals in a name", with(&line(PLAIN, b"X-A", b"b"))),
        ("space in a name", with(&line(PLAIN, b"x a", b"b"))),
        ("colon in a name", with(&line(PLAIN, b"x:a", b"b"))),
        ("NUL in a name", with(&line(PLAIN, b"x\0a", b"b"))),
        ("bytes above 0x7f in a name", with(&line(PLAIN, b"x\xfc", b"b"))),
        ("unknown pseudo-header", with(&line(PLAIN, b":x", b"b"))),
        (":status", with(&line(PLAIN, b":status", b"200"))),
        ("bad :status", with(&line(PLAIN, b":status", b"x"))),
        ("space in :method", instead(":method", b"G T")),
        ("NUL in :path", instead(":path", b"/a\0b")),
        ("broken UTF-8 in :path", instead(":path", b"/\xff")),
        ("broken UTF-8 in :authority", instead(":authority", b"\xff")),
        ("space in :authority", instead(":authority", b"a b")),
        ("empty :path", instead(":path", b"")),
        ("no :path", without(":path")),
        ("no :method", without(":method")),
        ("no :scheme", without(":scheme")),
        ("two :path", with(&line(PLAIN, b":path", b"/y"))),
        ("a pseudo-header at the end", [line(PLAIN, b"x-a", b"b"), get(b"/x")].concat()),
        ("connection", with(&line(PLAIN, b"connection", b"close"))),
        ("transfer-encoding", with(&line(PLAIN, b"transfer-encoding", b"chunked"))),
        ("te", with(&line(PLAIN, b"te", b"gzip"))),
        ("content-length too large", with(&line(PLAIN, b"content-length", b"18446744073709551619"))),
        ("content-length no number", with(&line(PLAIN, b"content-length", b"0x3"))),
        ("content-length negative", with(&line(PLAIN, b"content-length", b"-1"))),
        (
            "two content-lengths",
            with(&[line(PLAIN, b"content-length", b"3"), line(PLAIN, b"content-length", b"4")].concat()),
        ),
    ]
}

/// The error of a connection on which one request is malformed and the next one is another client's.
fn fault(wire: &mut Wire, stream: u32, block: &[u8], with_body: bool) -> Option<String> {
    if with_body {
        let _ = wire.try_send(&frame(HEADERS, END_HEADERS, stream, block));
        let _ = wire.try_send(&frame(DATA, 0, stream, b"a=1"));
        let _ = wire.try_send(&frame(DATA, END_STREAM, stream, b"&b=2"));
    } else {
        let _ = wire.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, block));
    }
    match outcome(wire, stream) {
        Ok(Some(PROTOCOL_ERROR)) => (),
        other => return Some(format!("{other:?} on its stream")),
    }
    let _ = wire.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, &get(b"/after")));
    match outcome(wire, stream + 2) {
        Ok(None) => None,
        other => Some(format!("{other:?} afterwards")),
    }
}

#[test]
fn a_malformed_request_ends_only_its_stream() {
    let (pve, pmg) = (Site::pve(), Site::pmg());
    let public =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
    pmg.write("/etc/nodegate/pmg.toml", public);
    for (site, listener) in [(&pve, None), (&pmg, Some("public"))] {
        let gate = start(site, &[]);
        let address = listener.map_or(gate.local(), |name| gate.listener(name));
        let (mut wire, mut stream, mut faults) = (Wire::connect_to(address, &[]), 1, Vec::new());
        for (name, block) in blocks() {
            for with_body in [false, true] {
                if let Some(fault) = fault(&mut wire, stream, &block, with_body) {
                    faults.push(format!("{name}, body {with_body}: {fault}"));
                    (wire, stream) = (Wire::connect_to(address, &[]), 1);
                } else {
                    stream += 4;
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(site.daemon.requests().is_empty());
    }
}

#[test]
fn a_malformed_block_may_come_in_pieces() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    for (name, block) in blocks() {
        let mut wire = Wire::connect(&gate, &[]);
        let (head, rest) = block.split_at(block.len() / 2);
        for byte in [frame(HEADERS, END_STREAM, 1, head), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
        {
            wire.send(&[byte]);
        }
        assert_eq!(outcome(&mut wire, 1), Ok(Some(PROTOCOL_ERROR)), "{name}");
        wire.get(3, "/after", &[]);
        assert_eq!(outcome(&mut wire, 3), Ok(None), "{name}");
    }
}

/// Only senders with their own table, or with Huffman's code, can send these. Fronts that verify their output do not.
#[test]
fn what_the_table_keeps_still_ends_the_connection() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let huffman = [0x00, 0x82, 0xf2, 0xb7, 0x83, 0xff, 0xc7, 0xff]; // `xa`, and NUL with a bit of its padding
    for more in [&line(0x40, b"x-a", b"a\0b")[..], &huffman] {
        let mut wire = Wire::connect(&gate, &[]);
        wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &[get(b"/x"), more.to_vec()].concat());
        assert_eq!(outcome(&mut wire, 1), Err(PROTOCOL_ERROR));
    }
}

#[test]
fn only_unauthenticated_malformed_requests_are_a_flood() {
    let site = Site::pve();
    let bad = [get(b"/x"), line(PLAIN, b"x-a", b"a\0b")].concat();
    let malformed = [get(b"/x"), line(PLAIN, b"connection", b"close")].concat();
    let reach = |gate: &Nodegate, block: &[u8]| {
        let mut wire = Wire::connect(gate, &[]);
        let reached = (0..1000_u32).take_while(|number| {
            let stream = 1 + 2 * number;
            let sent = wire.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, block));
            sent.is_ok() && outcome(&mut wire, stream) == Ok(Some(PROTOCOL_ERROR))
        });
        reached.count()
    };
    let stranger = start(&site, &[]);
    for block in [&bad, &malformed] {
        let began = Instant::now();
        let reached = reach(&stranger, block);
        // With time more is allowed.
        let is_slow = began.elapsed() > Duration::from_secs(30);
        assert!(reached >= 50 && (reached < 900 || is_slow), "{reached} in {:?}", began.elapsed());
    }
    drop(stranger);
    let front = start(&site, &["real_ip.header=X-Forwarded-For", "real_ip.allow_from=127.0.0.1"]);
    for block in [&bad, &malformed] {
        assert_eq!(reach(&front, block), 1000);
    }
}

#[test]
fn a_front_resets_streams_it_has_not_opened() {
    let site = Site::pve();
    let trusted = ["real_ip.header=X-Forwarded-For", "real_ip.allow_from=127.0.0.1"];
    for (sets, expected) in [(&trusted[..], Ok(None)), (&[][..], Err(PROTOCOL_ERROR))] {
        let gate = start(&site, sets);
        let mut wire = Wire::connect(&gate, &[]);
        wire.get(1, "/before", &[]);
        assert_eq!(outcome(&mut wire, 1), Ok(None));
        let reset = frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes());
        let next = frame(HEADERS, END_HEADERS | END_STREAM, 5, &get(b"/after"));
        let _ = wire.try_send(&[reset, next].concat());
        assert_eq!(outcome(&mut wire, 5), expected);
    }
}

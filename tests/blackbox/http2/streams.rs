//! Many requests at once over one connection, and answers that end it.

use super::wire::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, STATUS_200, Wire,
    frame, request, text,
};
use super::{VERSION, start};
use crate::support::{Nodegate, Site};

const MAX_CONCURRENT_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;
const SCRIPT: &str = "/pve2/js/a.js";
const LOGIN: &str = "/api2/json/access/ticket";

/// The streams of a client, as many as it may have.
fn streams() -> impl Iterator<Item = u32> {
    (0..100).map(|number| 2 * number + 1)
}

fn code(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.payload[..4].try_into().unwrap())
}

/// How each of these streams ends: true for an answer, or the code of its reset.
fn ends(wire: &mut Wire, count: usize) -> Vec<(u32, Result<bool, u32>)> {
    let mut ends = Vec::new();
    while ends.len() < count {
        let frame = wire.next().expect("the connection goes on");
        match frame.kind {
            HEADERS => ends.push((frame.stream, Ok(frame.payload.first() == Some(&STATUS_200)))),
            RST_STREAM => ends.push((frame.stream, Err(code(&frame)))),
            GOAWAY => panic!("{frame:?}"),
            _ => (),
        }
    }
    ends
}

/// Clients send as many before they know the settings (RFC 9113 section 6.5.2).
#[test]
fn a_hundred_requests_at_once_are_answered() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "content");
    let gate = start(&site, &[]);
    let cookie = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    for (path, headers) in [(SCRIPT, &[][..]), (VERSION, &[("cookie", cookie.as_str())])] {
        let mut wire = Wire::connect(&gate, &[]);
        let block = request("GET", path, headers);
        wire.send(
            &streams()
                .flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block))
                .collect::<Vec<_>>(),
        );
        let settings = wire.wait_for(SETTINGS, 0).payload;
        let limit = settings.chunks(6).find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
        assert_eq!(limit.map(|setting| setting[2..].to_vec()), Some(vec![0, 0, 0, 100]));
        let mut ended = ends(&mut wire, 100);
        ended.sort_unstable();
        assert!(ended.iter().map(|(stream, _)| *stream).eq(streams()), "{path}: {ended:?}");
        assert!(ended.iter().all(|(_, end)| *end == Ok(true)), "{path}: {ended:?}");
    }
}

/// Before a login eight requests run. The others wait, unless their heads hold too much memory.
#[test]
fn waiting_heads_are_bounded() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "content");
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    let login = request("POST", LOGIN, &[("content-type", "application/x-www-form-urlencoded")]);
    for stream in streams().take(8) {
        wire.frame(HEADERS, END_HEADERS, stream, &login);
    }
    let cookie = format!("a={}", "x".repeat(4000));
    for stream in streams().skip(8) {
        wire.get(stream, SCRIPT, &[("cookie", &cookie)]);
    }
    let mut ended = ends(&mut wire, 50);
    for stream in streams().take(8) {
        let _ = wire.try_send(&frame(DATA, END_STREAM, stream, b"username=root@pam&password=demo"));
    }
    ended.extend(ends(&mut wire, 50));
    let scripts: Vec<_> = ended.iter().filter(|(stream, _)| *stream > 15).map(|(_, end)| *end).collect();
    assert_eq!(scripts.len(), 92);
    let refused = scripts.iter().filter(|end| **end == Err(REFUSED_STREAM)).count();
    let answered = scripts.iter().filter(|end| **end == Ok(true)).count();
    assert_eq!(refused + answered, 92, "{scripts:?}");
    assert!((50..=70).contains(&refused), "{refused} refused");
}

/// The heads of one burst are accepted together, before the task of any runs.
#[test]
fn heads_of_one_burst_are_bounded() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    let cookie = format!("a={}", "x".repeat(4000));
    let form = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie.as_str())];
    let login = request("POST", LOGIN, &form);
    let burst: Vec<_> = streams().map(|stream| frame(HEADERS, END_HEADERS, stream, &login)).collect();
    wire.try_send(&burst.concat()).unwrap();
    let ended = ends(&mut wire, 50);
    assert!(ended.iter().all(|(_, end)| *end == Err(REFUSED_STREAM)), "{ended:?}");
}

/// A stream that waits may be reset: its slot goes to the next one.
#[test]
fn reset_streams_do_not_wait() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "content");
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    let login = request("POST", LOGIN, &[("content-type", "application/x-www-form-urlencoded")]);
    for stream in streams().take(8) {
        wire.frame(HEADERS, END_HEADERS, stream, &login);
    }
    for stream in streams().skip(8).take(20) {
        wire.get(stream, SCRIPT, &[]);
        wire.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    wire.get(61, SCRIPT, &[]);
    wire.frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(ends(&mut wire, 1), [(61, Ok(true))]);
}

/// The next requests of the connection are answered.
#[test]
fn a_malformed_authority_ends_only_its_stream() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "content");
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    let mut stream = 1;
    for host in ["other", "a b", "localhost:x"] {
        let block = request("GET", SCRIPT, &[("host", host)]);
        wire.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        let [(_, end)] = ends(&mut wire, 1)[..] else { panic!() };
        assert!(matches!(end, Ok(false) | Err(1)), "{host}: {end:?}");
        wire.get(stream + 2, SCRIPT, &[]);
        assert_eq!(ends(&mut wire, 1), [(stream + 2, Ok(true))], "{host}");
        stream += 4;
    }
}

/// A field that begins or ends with white space makes a request malformed (RFC 9113 section 8.2.1).
#[test]
fn white_space_around_a_value_resets_the_stream() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "content");
    let gate = start(&site, &[]);
    let mut wire = Wire::connect(&gate, &[]);
    for (stream, value) in (1..).step_by(2).zip([" a", "a ", "\ta", "a\t", " "]) {
        wire.get(stream, SCRIPT, &[("x-a", value)]);
        assert_eq!(ends(&mut wire, 1), [(stream, Err(1))], "{value:?}");
    }
    wire.get(101, SCRIPT, &[("x-a", "a b")]);
    assert_eq!(ends(&mut wire, 1), [(101, Ok(true))]);
}

/// Some clients read nothing behind GOAWAY.
#[test]
fn the_last_answer_precedes_goaway() {
    let site = Site::pve();
    let proxied = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];
    let gate = start(&site, &[&["limits.login_failures=1"], &proxied[..]].concat());
    let mut wire = Wire::connect(&gate, &[]);
    let login = request("POST", LOGIN, &[("x-real-ip", "192.0.2.7")]);
    for stream in [1, 3] {
        wire.frame(HEADERS, END_HEADERS, stream, &login);
        wire.frame(DATA, END_STREAM, stream, b"username=root@pam&password=wrong");
        if stream == 1 {
            wire.wait_for(HEADERS, stream);
        }
    }
    // The second one is over the limit, and closes the connection.
    let frames: Vec<_> = std::iter::from_fn(|| wire.next().map(|frame| (frame.kind, frame.stream))).collect();
    let place = |wanted| frames.iter().position(|found| *found == wanted);
    assert!(place((HEADERS, 3)).is_some() && place((HEADERS, 3)) < place((GOAWAY, 0)), "{frames:?}");
}

fn goaway(gate: &Nodegate, bytes: &[u8]) -> Option<u32> {
    let mut wire = Wire::connect(gate, &[]);
    wire.send(bytes);
    wire.end()
}

/// RFC 9113 sections 4.2, 6.5.2 and 8.4.
#[test]
fn connection_errors_have_their_codes() {
    const PROTOCOL_ERROR: u32 = 1;
    const FLOW_CONTROL_ERROR: u32 = 3;
    const FRAME_SIZE_ERROR: u32 = 6;
    let site = Site::pve();
    let gate = start(&site, &[]);
    let window = [&4_u16.to_be_bytes()[..], &(1_u32 << 31).to_be_bytes()].concat();
    let cases = [
        ("short settings", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("settings in an acknowledgement", frame(SETTINGS, 1, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("short ping", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("long reset", frame(RST_STREAM, 0, 1, &[0; 5]), FRAME_SIZE_ERROR),
        ("window over the maximum", frame(SETTINGS, 0, 0, &window), FLOW_CONTROL_ERROR),
        (
            "push promise",
            frame(5, END_HEADERS, 1, &[[0, 0, 0, 2].to_vec(), text("")].concat()),
            PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(goaway(&gate, &bytes), Some(expected), "{what}");
    }
}

//! Bytes of a `:path` that no target may hold.

use super::wire::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Wire, request_for};
use super::{VERSION, start};
use crate::support::Site;

/// The result of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Answered,
    /// only this stream, with `PROTOCOL_ERROR`
    Reset,
    /// the whole connection
    Ended,
}

fn asked(wire: &mut Wire, stream: u32, path: &[u8], cookie: &str) -> Outcome {
    let head = request_for("GET", path, &[("cookie", cookie)]);
    wire.frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
    loop {
        let Some(frame) = wire.next() else { return Outcome::Ended };
        match (frame.kind, frame.stream) {
            (HEADERS, at) if at == stream => return Outcome::Answered,
            (RST_STREAM, at) if at == stream => {
                assert_eq!(frame.payload, [0, 0, 0, 1]);
                return Outcome::Reset;
            }
            (GOAWAY, _) => return Outcome::Ended,
            _ => (),
        }
    }
}

#[test]
fn each_byte_is_forwarded_or_resets_its_stream() {
    let site = Site::pve();
    let gate = start(&site, &[]);
    let line = site.cookie("root@pam");
    let cookie = line.trim().trim_start_matches("Cookie: ");
    let (mut wire, mut stream) = (Wire::connect(&gate, &[]), 1);
    for byte in 0..=0xff_u8 {
        for before in ["/api2/json/cluster/a", "/api2/json/version?a="] {
            if matches!(byte, b'%' | b'#' | b'?') {
                continue;
            }
            let seen = site.daemon.requests().len();
            let path = [before.as_bytes(), &[byte], b"b"].concat();
            let outcome = asked(&mut wire, stream, &path, cookie);
            let is_query = before.contains('?');
            let expected = match byte {
                b'<' | b'>' => Outcome::Reset,
                b'`' if !is_query => Outcome::Reset,
                b'"' if is_query => Outcome::Reset,
                byte if byte.is_ascii_graphic() => Outcome::Answered,
                _ => Outcome::Reset,
            };
            assert_eq!(outcome, expected, "{byte:#04X} behind {before}");
            if outcome == Outcome::Answered {
                let target = site.daemon.last().target;
                assert_eq!(percent_encoding::percent_decode(target.as_bytes()).collect::<Vec<_>>(), path);
                assert!(target.chars().all(|c| c.is_ascii_graphic() && !"\"<>`".contains(c)), "{target}");
            } else {
                assert_eq!(site.daemon.requests().len(), seen);
            }
            (wire, stream) = match outcome {
                Outcome::Ended => (Wire::connect(&gate, &[]), 1),
                // So many resets of a client that breaks the rules are borne, and no more.
                Outcome::Answered | Outcome::Reset if stream > 60 => (Wire::connect(&gate, &[]), 1),
                Outcome::Answered | Outcome::Reset => (wire, stream + 2),
            };
        }
    }
    assert_eq!(asked(&mut wire, stream, VERSION.as_bytes(), cookie), Outcome::Answered);
    assert_eq!(asked(&mut wire, stream + 2, "/api2/json/version?ü".as_bytes(), cookie), Outcome::Answered);
    assert_eq!(site.daemon.last().query(), "%C3%BC");
}

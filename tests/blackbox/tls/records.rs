//! Sizes of TLS records in both directions.

use std::process::Command;

use super::s_client;
use crate::support::{Nodegate, Outcome, Site};

const FULL_RECORD_BYTES: usize = 16 << 10;
const FILE_BYTES: usize = 300_000;

fn site() -> Site {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/big.js", "a".repeat(FILE_BYTES));
    site
}

/// The lengths of the records with data that a download brings, by the headers that `-msg` prints.
fn record_lengths(gate: &Nodegate, options: &[&str]) -> Vec<usize> {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl", "s_client", "-ign_eof", "-msg", "-connect", &gate.address().to_string()]);
    let request = b"GET /pve2/js/big.js HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n";
    let outcome = Outcome::with_input(command.args(options), request);
    let received = outcome.stdout.matches('a').count();
    assert!(received >= FILE_BYTES, "{options:?}: {received} bytes; {}", outcome.stderr);
    let headers =
        outcome.stdout.split("<<< TLS 1.").filter_map(|part| part.split_once("RecordHeader [length 0005]\n"));
    let data = headers.filter_map(|(_, bytes)| bytes.trim_start().strip_prefix("17 03 03 "));
    data.map(|digits| usize::from_str_radix(&digits[..5].replace(' ', ""), 16).unwrap()).collect()
}

#[test]
fn a_download_uses_full_records() {
    let site = site();
    let gate = Nodegate::start(&site, &[]);
    for (version, overhead) in [("-tls1_3", 17), ("-tls1_2", 24)] {
        let lengths = record_lengths(&gate, &[version]);
        let is_full = |length: &usize| *length == FULL_RECORD_BYTES + overhead;
        // The messages of the handshake come first, then the head of the response.
        let body: Vec<_> = lengths.iter().copied().skip_while(|length| !is_full(length)).collect();
        let full = body.iter().take_while(|length| is_full(length)).count();
        assert!(full >= FILE_BYTES / FULL_RECORD_BYTES - 1, "{version}: {lengths:?}");
        // The rest of the body, its end, and the end of the session.
        assert!(body.len() <= full + 3, "{version}: {lengths:?}");
    }
}

/// RFC 6066 section 4.
#[test]
fn a_client_gets_the_record_size_it_negotiates() {
    let site = site();
    let gate = Nodegate::start(&site, &[]);
    for version in ["-tls1_3", "-tls1_2"] {
        for size in [512, 1024, 4096] {
            let lengths = record_lengths(&gate, &[version, "-maxfraglen", &size.to_string()]);
            let longest = *lengths.iter().max().unwrap();
            assert!((size..=size + 24).contains(&longest), "{version} {size}: {longest}");
            assert!(lengths.len() >= FILE_BYTES / size, "{version} {size}: {}", lengths.len());
        }
    }
}

#[test]
fn small_and_padded_records_are_read() {
    let site = site();
    let gate = Nodegate::start(&site, &[]);
    for options in [
        ["-tls1_3", "-max_send_frag", "512"],
        ["-tls1_2", "-max_send_frag", "512"],
        ["-tls1_3", "-record_padding", "4096"],
        ["-tls1_3", "-record_padding", "16384"],
    ] {
        let said = s_client(gate.address(), &options);
        assert!(said.contains("HTTP/1.1 404 "), "{options:?}: {said}");
    }
}

//! Messages of consoles: fragments, pings, and bytes that are no frame.

use std::io::Write as _;

use super::client::{
    BINARY, CLOSE, CONTINUATION, Console, FINAL, Frame, PING, PONG, TEXT, UPGRADE, content, frame, opened,
    read, read_to_end,
};
use crate::support::{Nodegate, Site};

#[test]
fn a_fragmented_megabyte_paste_arrives_whole() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    // Fragments cut its characters.
    let paste = "aß€😀".repeat(105_000).into_bytes();
    let length = paste.len() + 5;
    let reader = std::thread::spawn(move || {
        let bytes = read(&mut server, length);
        (server, bytes)
    });
    // As Chromium does it: fragments of 131,000 bytes, here with a ping between them.
    let parts: Vec<&[u8]> = paste.chunks(131_000).collect();
    for (number, part) in parts.iter().enumerate() {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        let last = if number + 1 == parts.len() { FINAL } else { 0 };
        socket.send(opcode | last, part);
        if number == 3 {
            socket.send(FINAL | PING, b"still there?");
        }
    }
    socket.send(FINAL | BINARY, b"after");
    assert_eq!(socket.receive(), Frame { opcode: PONG, payload: b"still there?".to_vec() });
    let (_server, bytes) = reader.join().unwrap();
    assert!(bytes == [paste, b"after".to_vec()].concat());
}

#[test]
fn frames_in_the_record_of_the_handshake_arrive() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let path = console.path(&site, "root@pam");
    let head = format!("GET {path} HTTP/1.1\r\nHost: node1:8006\r\n{}{UPGRADE}\r\n", site.cookie("root@pam"));
    let mut session = gate.connect();
    session.send(
        [head.into_bytes(), frame(FINAL | BINARY, b"first"), frame(FINAL | BINARY, b"second")].concat(),
    );
    assert_eq!(session.reply(true).status, 101);
    assert_eq!(read(&mut console.accept(), 11), b"firstsecond");
}

/// nodegate has only a part of it at a time.
#[test]
fn a_frame_of_any_length_is_relayed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    let before = gate.kilobytes("VmRSS");
    let reader = std::thread::spawn(move || read(&mut server, 32 << 20) == content(32 << 20));
    socket.send(FINAL | BINARY, &content(32 << 20));
    assert!(reader.join().unwrap());
    let after = gate.kilobytes("VmRSS");
    assert!(after < before + 8 * 1024, "{before} kB before, {after} kB after");
}

/// Its frames have a megabyte each.
#[test]
fn an_endless_fragmented_message_is_relayed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    let before = gate.kilobytes("VmRSS");
    let reader = std::thread::spawn(move || (0..30).all(|_| read(&mut server, 1 << 20) == content(1 << 20)));
    for number in 0..30 {
        socket.send(if number == 0 { BINARY } else { CONTINUATION }, &content(1 << 20));
    }
    assert!(reader.join().unwrap());
    let grown = gate.kilobytes("VmRSS").saturating_sub(before);
    assert!(grown < 4096, "{grown} kB for a message of 30 MB");
}

#[test]
fn small_messages_leave_at_once_and_in_order() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    for number in 0..200_u8 {
        socket.send(FINAL | BINARY, &[number]);
        assert_eq!(read(&mut server, 1), [number]);
        server.write_all(&[number, number]).unwrap();
        assert_eq!(socket.data(2), [number, number]);
    }
    // One byte of a frame at a time.
    for byte in frame(FINAL | TEXT, b"slow typist") {
        socket.send_raw(&[byte]);
    }
    assert_eq!(read(&mut server, 11), b"slow typist");
}

#[test]
fn frames_to_the_client_are_binary_and_bounded() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    let sent = content(3_000_000);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            server.write_all(&sent).unwrap();
            server
        }
    });
    assert!(socket.data(sent.len()) == sent);
    let _server = writer.join().unwrap();
}

#[test]
fn pings_are_answered_with_what_they_brought() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, _server) = opened(&site, &gate);
    for payload in [&b""[..], b"x", &content(125)] {
        socket.send(FINAL | PING, payload);
        assert_eq!(socket.receive(), Frame { opcode: PONG, payload: payload.to_vec() });
    }
    socket.send(FINAL | PONG, b"nobody asked");
    socket.send(FINAL | PING, b"and on");
    assert_eq!(socket.receive().payload, b"and on");
}

/// The bytes before it arrive first.
#[test]
fn a_broken_frame_closes_with_its_code() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let code = |code: u16| frame(FINAL | CLOSE, &code.to_be_bytes());
    let unmasked = vec![FINAL | BINARY, 3, b'a', b'b', b'c'];
    let huge = |length: u64| [&[FINAL | BINARY, 0xff][..], &length.to_be_bytes(), b"mask"].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("no mask", unmasked, 1002),
        ("rsv1", frame(FINAL | 0x40 | BINARY, b"x"), 1002),
        ("rsv2", frame(FINAL | 0x20 | BINARY, b"x"), 1002),
        ("rsv3", frame(FINAL | 0x10 | BINARY, b"x"), 1002),
        ("reserved data opcode", frame(FINAL | 0x3, b"x"), 1002),
        ("reserved control opcode", frame(FINAL | 0xb, b"x"), 1002),
        ("fragmented ping", frame(PING, b"x"), 1002),
        ("long ping", frame(FINAL | PING, &content(126)), 1002),
        ("long close", frame(FINAL | CLOSE, &content(126)), 1002),
        ("continuation of nothing", frame(FINAL | CONTINUATION, b"x"), 1002),
        ("message in a message", [frame(BINARY, b"a"), frame(FINAL | BINARY, b"b")].concat(), 1002),
        ("long form of a short length", [&[FINAL | BINARY, 0xfe, 0, 5][..], b"mask12345"].concat(), 1002),
        ("top bit of a length", huge(1 << 63), 1002),
        ("text no UTF-8", frame(FINAL | TEXT, b"caf\xe9"), 1007),
        ("text that ends within a character", frame(FINAL | TEXT, b"\xe2\x82"), 1007),
        ("close code 999", code(999), 1002),
        ("close code 1005", code(1005), 1002),
        ("close code 1006", code(1006), 1002),
        ("close code 2999", code(2999), 1002),
        ("half a close code", frame(FINAL | CLOSE, b"\x03"), 1002),
        ("close reason no text", frame(FINAL | CLOSE, b"\x03\xe8\xff"), 1007),
    ];
    for (what, bytes, expected) in cases {
        let (mut socket, mut server) = opened(&site, &gate);
        socket.send(FINAL | BINARY, b"before");
        // More follows, which nodegate does not read as frames any more.
        socket.send_raw(&[bytes, frame(FINAL | BINARY, b"after")].concat());
        assert_eq!(socket.receive().code(), expected, "{what}");
        socket.assert_ended();
        let heard = read_to_end(&mut server);
        assert!(heard == b"before" || heard == b"beforea", "{what}: {}", String::from_utf8_lossy(&heard));
    }
}

//! Clients of every kind, good and bad. Each goes round until its time is over and says how often it did.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use nodegate_standin::{Echo, now};

use crate::client::{BINARY, CLOSE, FINAL, WebSocket, path};
use crate::strangers::strangers;
use crate::support::nodegate::TIMEOUT;
use crate::support::{Nodegate, Session, Site};

/// The clients of the run.
pub struct Scene {
    pub site: Site,
    pub gate: Nodegate,
    /// serves viewers
    pub viewers: Nodegate,
    pub console: Echo,
    pub machine: Echo,
}

/// Until then; how many rounds.
type Load = fn(&Scene, Instant) -> u32;

/// A load, and how many of them at once.
pub const LOADS: &[(&str, u32, Load)] = &[
    ("calls", 3, calls),
    ("files", 2, files),
    ("consoles", 3, consoles),
    ("tunnels", 2, tunnels),
    ("uploads", 1, uploads),
    ("leaving clients", 2, leaving_clients),
    ("invalid clients", 1, invalid_clients),
    ("those with bad tickets", 1, those_with_bad_tickets),
    ("strangers", 2, strangers),
];

const UPLOAD: &str = "/api2/json/nodes/node1/storage/local/upload";
const ECHO: &str = "/api2/json/standin/echo";
const JS: &str = "/xtermjs/a.js";

pub fn content(size: usize) -> Vec<u8> {
    nodegate_standin::content(size)
}

pub fn rounds(until: Instant, mut round: impl FnMut(u32)) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        round(count);
        count += 1;
    }
    count
}

/// Sizes that fit into one packet, one record and one buffer, and those that do not.
fn size(round: u32) -> usize {
    [0, 1, 1000, 16_384, 65_537, 300_000][usize::try_from(round).unwrap() % 6]
}

/// Reads and writes, a few on each connection.
fn calls(scene: &Scene, until: Instant) -> u32 {
    let user = "root@pam";
    rounds(until, |round| {
        let mut session = scene.gate.connect();
        let cookie = scene.site.cookie(user);
        let write = cookie.clone() + &scene.site.csrf(user);
        for step in round..round + 6 {
            let big = format!("/api2/json/standin/big?size={}", size(step));
            let reply = session.request("GET", &big, &cookie, b"");
            assert!(reply.status == 200 && reply.body == content(size(step)), "{}", reply.status);
            let body = "x".repeat(size(step));
            let reply = session.request("PUT", ECHO, &write, body.as_bytes());
            assert!(reply.status == 200 && reply.json()["data"]["body"] == body, "{}", reply.status);
        }
    })
}

/// Whole, compressed, in part, and not at all.
fn files(scene: &Scene, until: Instant) -> u32 {
    let whole = content(200_000);
    rounds(until, |_| {
        let mut session = scene.gate.connect();
        let reply = session.request("GET", JS, "", b"");
        assert!(reply.status == 200 && reply.body == whole);
        let reply = session.request("GET", JS, "Range: bytes=1000-199998\r\n", b"");
        assert!(reply.status == 206 && reply.body == whole[1000..=199_998]);
        let reply = session.request("GET", "/xtermjs/b.js", "Accept-Encoding: gzip\r\n", b"");
        assert!(reply.status == 200 && reply.header("content-encoding") == Some("gzip"));
        assert_eq!(session.request("GET", "/xtermjs/none.js", "", b"").status, 404);
    })
}

fn consoles(scene: &Scene, until: Instant) -> u32 {
    rounds(until, |round| {
        let path = path(&scene.site, "root@pam", scene.console.address().port());
        let opened = WebSocket::open(&scene.gate, &path, &scene.site.cookie("root@pam"));
        let (mut socket, _) = opened.unwrap_or_else(|reply| panic!("{} {}", reply.status, reply.text()));
        for step in round..round + 4 {
            let sent = content(size(step));
            socket.send(FINAL | BINARY, &sent);
            assert!(socket.data(sent.len()) == sent);
        }
        if round.is_multiple_of(2) {
            socket.send(FINAL | CLOSE, &1000_u16.to_be_bytes());
            assert_eq!(socket.receive().code(), 1000);
        }
    })
}

fn tunnels(scene: &Scene, until: Instant) -> u32 {
    rounds(until, |round| {
        let target = scene.site.keys.spice_target("node1", 100, scene.machine.address().port(), now());
        let mut viewer = TcpStream::connect(scene.viewers.local()).unwrap();
        viewer.set_read_timeout(Some(TIMEOUT)).unwrap();
        viewer.write_all(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            viewer.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.0 200 "), "{}", String::from_utf8_lossy(&head));
        for step in round..round + 4 {
            let sent = content(size(step).min(65_000));
            viewer.write_all(&sent).unwrap();
            let mut received = vec![0; sent.len()];
            viewer.read_exact(&mut received).unwrap();
            assert!(received == sent);
        }
        if round.is_multiple_of(2) {
            viewer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(viewer.read(&mut [0]).unwrap(), 0);
        }
    })
}

fn form(content: &[u8]) -> Vec<u8> {
    let head = "--b0undary\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\r\n";
    [head.as_bytes(), content, b"\r\n--b0undary--\r\n"].concat()
}

fn upload_headers(scene: &Scene) -> String {
    let kind = "Content-Type: multipart/form-data; boundary=b0undary\r\n";
    scene.site.cookie("root@pam") + &scene.site.csrf("root@pam") + kind
}

/// The only one who looks at what the daemon has recorded, and who has it forget.
fn uploads(scene: &Scene, until: Instant) -> u32 {
    rounds(until, |round| {
        let sent = content(size(round) * 4);
        scene.site.daemon.clear();
        let reply = scene.gate.request("POST", UPLOAD, &upload_headers(scene), &form(&sent));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let received = scene.site.daemon.requests().into_iter().filter_map(|request| request.upload);
        assert!(received.collect::<Vec<_>>() == [sent]);
    })
}

/// In the middle of a head, a body, an answer, an upload, a console.
fn leaving_clients(scene: &Scene, until: Instant) -> u32 {
    rounds(until, |round| {
        let cookie = scene.site.cookie("root@pam");
        let mut session = scene.gate.connect();
        match round % 5 {
            0 => session.send("GET /api2/json/ver"),
            1 => session.send(format!(
                "PUT {ECHO} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n{cookie}{}\r\nhalf",
                scene.site.csrf("root@pam")
            )),
            2 => {
                let big = "/api2/json/standin/big?size=3000000";
                session.send(format!("GET {big} HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
                assert!(session.take(5000).starts_with(b"HTTP/1.1 200 "));
            }
            3 => {
                let head = format!("POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n");
                session.send([head.as_bytes(), upload_headers(scene).as_bytes(), b"\r\n"].concat());
                session.send(&form(&content(700_000))[..600_000]);
            }
            _ => {
                let path = path(&scene.site, "root@pam", scene.console.address().port());
                let (mut socket, _) = WebSocket::open(&scene.gate, &path, &cookie).unwrap();
                socket.send(BINARY, &content(1000));
            }
        }
    })
}

fn invalid_clients(scene: &Scene, until: Instant) -> u32 {
    let heads: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\0\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n",
        b"GET /api2/json/%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    rounds(until, |round| {
        let head = heads[usize::try_from(round).unwrap() % heads.len()];
        let mut encrypted = scene.gate.connect();
        encrypted.send(head);
        let reply = encrypted.try_reply(false);
        assert!(reply.is_none_or(|reply| [400, 505].contains(&reply.status)));
        for address in [scene.gate.local(), scene.viewers.local()] {
            let mut plain = Session::plain(address);
            plain.send(if round.is_multiple_of(2) { head } else { b"\x16\x03\x01\x00\x05hello\r\n\r\n" });
            assert!(!plain.rest().starts_with(b"HTTP/1.1 200"));
        }
    })
}

/// Each takes three seconds; a few of them at once.
fn those_with_bad_tickets(scene: &Scene, until: Instant) -> u32 {
    rounds(until, |round| {
        let old = scene.site.keys.ticket("PVE", "root@pam", now() - 100_000);
        let cookies = [format!("Cookie: PVEAuthCookie={old}\r\n"), "Cookie: PVEAuthCookie=x\r\n".to_owned()];
        let mut sessions: Vec<_> = (0..20).map(|_| scene.gate.connect()).collect();
        for (number, session) in (round..).zip(&mut sessions) {
            let cookie = &cookies[usize::try_from(number % 2).unwrap()];
            session.send(format!("GET {ECHO} HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
        }
        for session in &mut sessions {
            assert_eq!(session.reply(false).status, 401);
        }
    })
}

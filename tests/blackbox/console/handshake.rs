//! The handshake of a console, and its authentication.

use std::io::Write as _;
use std::os::unix::net::UnixListener;

use nodegate_standin::API_TOKEN;

use super::client::{
    BINARY, Console, FINAL, TEXT, UPGRADE, WebSocket, content, echo, frame, opened, path, read,
};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

#[test]
fn a_console_opens_and_carries_bytes_both_ways() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let path = console.path(&site, "root@pam");
    let headers = site.cookie("root@pam")
        + "Origin: https://node1:8006\r\nSec-WebSocket-Protocol: binary\r\n\
           Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut socket, reply) = WebSocket::open(&gate, &path, &headers).unwrap();
    assert_eq!(reply.reason, "Switching Protocols");
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(reply.header("sec-websocket-protocol"), Some("binary"));
    assert_eq!(reply.header("sec-websocket-extensions"), None);
    assert_eq!(reply.header("upgrade"), Some("websocket"));
    assert_eq!(reply.header("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    let mut server = console.accept();
    server.write_all(b"RFB 003.008\n").unwrap();
    assert_eq!(socket.data(12), b"RFB 003.008\n");
    socket.send(FINAL | BINARY, b"RFB 003.008\n");
    socket.send(FINAL | TEXT, "grüße".as_bytes());
    assert_eq!(read(&mut server, 19), "RFB 003.008\ngrüße".as_bytes());
    let asked = site.daemon.last();
    assert_eq!(asked.target, path);
    assert!(
        ["upgrade", "sec-websocket-key", "origin", "accept-encoding"]
            .iter()
            .all(|name| asked.header(name).is_none())
    );
    eventually("the log tells of the console while it is open", || {
        let log = site.access_log();
        log.contains("vncticket=*** HTTP/1.1\" 101") && log.contains(" root@pam [")
    });
}

#[test]
fn an_api_token_opens_a_console() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let path = console.path(&site, "root@pam!t");
    let authorization = format!("Authorization: PVEAPIToken={API_TOKEN}\r\n");
    let (mut socket, _) = WebSocket::open(&gate, &path, &authorization).unwrap();
    console.accept().write_all(b"hello").unwrap();
    assert_eq!(socket.data(5), b"hello");
}

#[test]
fn without_upgrade_it_is_an_ordinary_call() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get(&path(&site, "root@pam", 5999), &site.cookie("root@pam"));
    assert_eq!((reply.status, reply.json()["data"]["port"].as_str()), (200, Some("5999")));
}

#[test]
fn frames_behind_the_handshake_are_kept() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let path = console.path(&site, "root@pam");
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    let head = format!("GET {path} HTTP/1.1\r\nHost: node1:8006\r\n{cookie}{UPGRADE}\r\n");
    session.send([head.as_bytes(), &frame(FINAL | BINARY, &content(60_000))].concat());
    assert_eq!(session.reply(false).status, 101);
    let mut socket = WebSocket::of(session);
    let mut server = console.accept();
    socket.send(FINAL | BINARY, b"more");
    assert_eq!(read(&mut server, 60_004), [content(60_000), b"more".to_vec()].concat());
}

#[test]
fn a_migration_tunnel_leads_to_a_unix_socket() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    std::fs::create_dir_all(site.path("/run/qemu-server")).unwrap();
    let listener = UnixListener::bind(site.path("/run/qemu-server/100.mtunnel")).unwrap();
    let path =
        "/api2/json/nodes/node1/qemu/100/mtunnelwebsocket?socket=/run/qemu-server/100.mtunnel&ticket=x";
    let (mut socket, _) = WebSocket::open(&gate, path, &site.cookie("root@pam")).unwrap();
    let server = std::thread::spawn(move || echo(listener.accept().unwrap().0));
    let sent = content(500_000);
    socket.send(FINAL | BINARY, &sent);
    assert!(socket.data(sent.len()) == sent);
    drop(socket);
    server.join().unwrap();
}

/// Where there is one, nodegate opens the console through it.
#[test]
fn the_unprivileged_worker_gets_the_call() {
    use nodegate_standin::{Config, Daemon, Product};
    let site = Site::pve();
    let keys = std::sync::Arc::clone(&site.keys);
    let unprivileged = Daemon::start(Config { keys, ..Config::new(Product::Pve) });
    let gate = Nodegate::start(&site, &[&format!("backend.unprivileged={}", unprivileged.address())]);
    let (mut socket, mut server) = opened(&site, &gate);
    server.write_all(b"x").unwrap();
    assert_eq!(socket.data(1), b"x");
    assert_eq!((unprivileged.requests().len(), site.daemon.requests().len()), (1, 0));
}

#[test]
fn the_mail_gateway_has_consoles_as_well() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let port = console.port;
    let ticket = site.keys.vnc_ticket("PMGVNC", "root@pam", "/nodes/node1", port, nodegate_standin::now());
    let ticket = ticket.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let path = format!("/api2/json/nodes/node1/vncwebsocket?port={port}&vncticket={ticket}");
    let (mut socket, _) = WebSocket::open(&gate, &path, &site.cookie("root@pam")).unwrap();
    console.accept().write_all(b"pmg").unwrap();
    assert_eq!(socket.data(3), b"pmg");
}

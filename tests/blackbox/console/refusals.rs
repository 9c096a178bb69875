//! Requests that are rejected before a console opens, and their messages.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use socket2::{Domain, Socket, Type};

use super::client::{UPGRADE, WebSocket, path};
use crate::support::{Nodegate, Reply, Site};

fn refused(gate: &Nodegate, path: &str, headers: &str) -> Reply {
    match WebSocket::open(gate, path, headers) {
        Ok(_) => panic!("a console opened: {path}"),
        Err(reply) => reply,
    }
}

#[test]
fn an_invalid_handshake_gets_a_reason() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let path = path(&site, "root@pam", 5999);
    let cases = [
        ("Upgrade: websocket", "Upgrade: h2c", 400, "unable to upgrade to protocol 'h2c', only to websocket"),
        ("Connection: Upgrade", "Connection: keep-alive", 400, "Connection: upgrade is missing"),
        ("Sec-WebSocket-Version: 13", "X-A: b", 400, "missing websocket-version"),
        (
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Version: 8",
            426,
            "unsupported websocket-version '8', only 13",
        ),
        ("Sec-WebSocket-Key", "X-Key", 400, "missing websocket-key"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400, "malformed websocket-key"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400, "malformed websocket-key"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64 at all!!!", 400, "malformed websocket-key"),
        (
            "Connection: Upgrade",
            "Connection: Upgrade\r\nSec-WebSocket-Protocol: two words",
            400,
            "malformed websocket-protocol",
        ),
    ];
    for (good, bad, status, reason) in cases {
        let headers = site.cookie("root@pam") + &UPGRADE.replace(good, bad);
        let reply = gate.get(&path, &headers);
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{bad}");
        assert_eq!(reply.json()["message"], reason);
        let version = reason.contains("version").then_some("13");
        assert_eq!(reply.header("sec-websocket-version"), version, "{bad}");
    }
    let headers = site.cookie("root@pam") + UPGRADE;
    assert_eq!(gate.request("HEAD", &path, &headers, b"").status, 400);
    assert_eq!(site.daemon.requests().len(), 0, "the daemon was not asked");
}

#[test]
fn authentication_precedes_the_daemon() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply = refused(&gate, &path(&site, "root@pam", 5999), "Cookie: PVEAuthCookie=PVE:root@pam:1::x\r\n");
    assert_eq!((reply.status, site.daemon.requests().len()), (401, 0));
}

#[test]
fn rejections_of_the_daemon_are_forwarded() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let json = path(&site, "bob@pve", 5999);
    let reply = refused(&gate, &json, &cookie);
    assert_eq!((reply.status, reply.reason.as_str()), (401, "permission denied - invalid PVEVNC ticket"));
    assert!(reply.text().contains("invalid PVEVNC ticket"));
    let reply = refused(&gate, &json.replace("/json/", "/extjs/"), &cookie);
    assert_eq!((reply.status, reply.json()["status"].as_u64()), (200, Some(401)));
}

/// The sockets of consoles are allowed as well.
#[test]
fn only_console_ports_are_connected_to() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let port = other.local_addr().unwrap().port();
    let reply = refused(&gate, &path(&site, "root@pam", port), &cookie);
    assert_eq!((reply.status, reply.reason), (403, format!("port {port} is not a console port")));
    assert!(other.accept().is_err(), "nothing was connected to");

    for folder in ["/run/qemu-server", "/run/pve", "/run/other"] {
        std::fs::create_dir_all(site.path(folder)).unwrap();
    }
    let secret = UnixListener::bind(site.path("/run/other/secret")).unwrap();
    secret.set_nonblocking(true).unwrap();
    std::os::unix::fs::symlink("../other/secret", site.path("/run/pve/link")).unwrap();
    std::os::unix::fs::symlink("../other", site.path("/run/pve/folder")).unwrap();
    let cases = [
        ("/run/other/secret", 403),
        ("/run/pve/../other/secret", 403),
        ("/run/qemu-server-2/x", 403),
        ("/run/pve/", 403),
        ("/run/pve/link", 595),
        ("/run/pve/folder/secret", 595),
        ("/run/pve/nothing", 595),
    ];
    for (socket, status) in cases {
        let path = format!("/api2/json/nodes/node1/lxc/100/mtunnelwebsocket?socket={socket}&ticket=x");
        let reply = refused(&gate, &path, &cookie);
        assert_eq!(reply.status, status, "{socket}: {}", reply.reason);
        assert!(reply.reason.contains(socket.trim_end_matches('/')), "{}", reply.reason);
    }
    assert!(secret.accept().is_err(), "nothing was connected to");
}

#[test]
fn an_unreachable_console_is_named() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (_taken, port) = bound_but_deaf();
    let reply = refused(&gate, &path(&site, "root@pam", port), &site.cookie("root@pam"));
    assert_eq!(reply.status, 595);
    let expected = format!("Connection refused (connecting, upstream console port {port}, after");
    assert!(reply.reason.starts_with(&expected), "{}", reply.reason);
}

/// A console port without a listener, which no other process can take during the test.
fn bound_but_deaf() -> (Socket, u16) {
    for port in (5900..6000).rev() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_ok() {
            return (socket, port);
        }
    }
    panic!("no console port is free")
}

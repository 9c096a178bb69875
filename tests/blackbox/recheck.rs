//! Consoles and tunnels whose client is no longer admitted end (`console.recheck`).

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::console::client::{BINARY, CLOSE, Console, FINAL, UPGRADE, WebSocket, read, read_to_end};
use crate::reload::reload;
use crate::reload::upgrade::Installed;
use crate::spice::{Viewer, echoing_machine, target};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Session, Site};

const PVE: &str = "/etc/nodegate/pve.toml";
const RECHECK: &str = "[console]\nrecheck = 1\nping = 0\n";
const DENIED: &str = "console or tunnel closed: the access list denies its address";

/// A console that was opened from that address, with more header lines, and the stream on its other side.
fn opened(site: &Site, address: SocketAddr, from: &str, headers: &str) -> (WebSocket, TcpStream) {
    let console = Console::listen();
    let path = console.path(site, "root@pam");
    let mut session = Session::tls_behind(b"", from, address).unwrap();
    let headers = [&site.cookie("root@pam"), UPGRADE, headers].concat();
    let reply = session.request("GET", &path, &headers, b"");
    assert_eq!(reply.status, 101, "{}", reply.text());
    (WebSocket::of(session), console.accept())
}

/// The client gets a close code, and the console is closed.
fn assert_denied(socket: &mut WebSocket, server: &mut TcpStream) {
    let frame = socket.receive();
    assert_eq!((frame.code(), &frame.payload[2..]), (1001, &b"this client is no longer admitted"[..]));
    socket.send(FINAL | CLOSE, b"\x03\xe9");
    socket.assert_ended();
    assert_eq!(read_to_end(server), b"");
}

fn assert_open(socket: &mut WebSocket, server: &mut TcpStream) {
    socket.send(FINAL | BINARY, b"still here");
    assert_eq!(read(server, 10), b"still here");
}

#[test]
fn a_console_ends_once_its_client_is_denied() {
    let site = Site::pve();
    site.write(PVE, RECHECK);
    let gate = Nodegate::start(&site, &[]);
    let (mut denied, mut its_server) = opened(&site, gate.address(), "127.0.0.2", "");
    let (mut admitted, mut other_server) = opened(&site, gate.address(), "127.0.0.3", "");
    reload(&gate, "reloaded");
    assert_open(&mut denied, &mut its_server);
    site.write(PVE, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n"));
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    assert_denied(&mut denied, &mut its_server);
    assert_open(&mut admitted, &mut other_server);
    eventually("it is logged", || gate.stderr().contains(DENIED));
    let log = gate.stderr();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(DENIED)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("127.0.0.2") && lines[0].contains("listen"), "{lines:?}");
}

#[test]
fn a_listeners_access_list_ends_consoles() {
    let site = Site::pve();
    let (port, gone) = (free_port(), free_port());
    let table = |name: &str, port: u16, rules: &str| {
        format!("[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1\"\nport = {port}\n{rules}")
    };
    site.write(PVE, RECHECK.to_owned() + &table("inside", port, "") + &table("gone", gone, ""));
    let gate = Nodegate::start(&site, &[]);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut consoles = [
        opened(&site, at(port), "127.0.0.2", ""),
        opened(&site, at(gone), "127.0.0.2", ""),
        opened(&site, at(gone), "127.0.0.3", ""),
        opened(&site, gate.address(), "127.0.0.3", ""),
    ];
    let rules = "deny_from = \"127.0.0.2\"\n";
    site.write(PVE, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n") + &table("inside", port, rules));
    reload(&gate, "reloaded changed=");
    let [inside, of_gone, stays, general] = &mut consoles;
    assert_denied(&mut inside.0, &mut inside.1);
    // Its listener has no list any more, so that of [listen] counts.
    assert_denied(&mut of_gone.0, &mut of_gone.1);
    assert_open(&mut stays.0, &mut stays.1);
    assert_open(&mut general.0, &mut general.1);
}

#[test]
fn a_client_behind_a_proxy_is_rechecked() {
    let site = Site::pve();
    let rules =
        format!("{RECHECK}[real_ip]\nheader = \"X-Real-IP\"\nallow_from = \"127.0.0.9\"\nacl = true\n");
    site.write(PVE, &rules);
    let gate = Nodegate::start(&site, &[]);
    let (mut denied, mut its_server) = opened(&site, gate.address(), "127.0.0.9", "X-Real-IP: 192.0.2.1\r\n");
    let (mut admitted, mut other_server) =
        opened(&site, gate.address(), "127.0.0.9", "X-Real-IP: 192.0.2.2\r\n");
    site.write(PVE, format!("{rules}[acl]\ndeny_from = \"192.0.2.1\"\n"));
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    assert_denied(&mut denied, &mut its_server);
    assert_open(&mut admitted, &mut other_server);
}

#[test]
fn consoles_of_surplus_workers_are_rechecked() {
    let site = Site::pve();
    site.write(PVE, format!("workers = 4\n{RECHECK}"));
    let gate = Nodegate::start(&site, &[]);
    let mut consoles: Vec<_> = (0..8).map(|_| opened(&site, gate.address(), "127.0.0.2", "")).collect();
    site.write(PVE, format!("workers = 1\n{RECHECK}"));
    reload(&gate, "reloaded changed=\"workers\"");
    site.write(PVE, format!("workers = 1\n{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n"));
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    for (socket, server) in &mut consoles {
        assert_denied(socket, server);
    }
}

#[test]
fn consoles_of_the_process_before_are_rechecked() {
    let site = Site::pve();
    site.write(PVE, RECHECK);
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let mut first = opened(&site, gate.address(), "127.0.0.2", "");
    let mut second = opened(&site, gate.address(), "127.0.0.3", "");
    site.write(PVE, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n"));
    installed.replace();
    gate.signal(Signal::SIGHUP);
    let successor = installed.successor(&gate);
    // By what was in the files when the successor began to serve, and by each reload of the successor.
    assert_denied(&mut first.0, &mut first.1);
    assert_open(&mut second.0, &mut second.1);
    site.write(PVE, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.3\"\n"));
    kill(successor, Signal::SIGHUP).unwrap();
    assert_denied(&mut second.0, &mut second.1);
    assert!(gate.wait().success(), "nothing is left there");
}

#[test]
fn a_tunnel_ends_once_its_client_is_denied() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let settings = "/etc/nodegate/spice.toml";
    site.write(settings, RECHECK);
    let gate = crate::spice::gate(&site, &[]);
    let mut viewer = Viewer::tunnel(&gate, &target(&site, machine.address().port()));
    viewer.send("before");
    viewer.expect(b"before");
    reload(&gate, "reloaded");
    std::thread::sleep(Duration::from_millis(2500));
    viewer.send("after a reload");
    viewer.expect(b"after a reload");
    site.write(settings, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.1\"\n"));
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    assert_eq!(viewer.rest(), b"");
    eventually("it is logged", || gate.stderr().contains(DENIED));
}

#[test]
fn a_tunnel_on_https_ends_too() {
    let (site, machine) = (Site::pve(), echoing_machine());
    site.write(PVE, format!("tunnel.connect_on_https = true\n{RECHECK}"));
    let gate = Nodegate::start(&site, &[]);
    let target = target(&site, machine.address().port());
    let mut viewer = Session::tls_behind(b"", "127.0.0.2", gate.address()).unwrap();
    viewer.send(format!("CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\nearly"));
    let welcome = b"HTTP/1.0 200 OK\r\n\r\nearly";
    assert_eq!(viewer.take(welcome.len()), welcome);
    site.write(PVE, format!("tunnel.connect_on_https = true\n{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n"));
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    assert_eq!(viewer.rest(), b"");
    assert!(viewer.was_closed_cleanly());
    eventually("it is logged", || gate.stderr().contains(DENIED));
}

#[test]
fn without_recheck_a_console_stays() {
    let site = Site::pve();
    site.write(PVE, "[console]\nrecheck = 0\nping = 0\n");
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, gate.address(), "127.0.0.2", "");
    site.write(PVE, "[console]\nrecheck = 0\nping = 0\n[acl]\ndeny_from = \"127.0.0.2\"\n");
    reload(&gate, "reloaded changed=\"acl.deny_from\"");
    std::thread::sleep(Duration::from_secs(6));
    assert_open(&mut socket, &mut server);
    // A reload can switch it on.
    site.write(PVE, format!("{RECHECK}[acl]\ndeny_from = \"127.0.0.2\"\n"));
    reload(&gate, "reloaded changed=");
    assert_denied(&mut socket, &mut server);
}

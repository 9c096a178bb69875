//! Origins of pages that open consoles: real clients and fronts name origins that are not the Host.

use std::io::{Read as _, Write as _};
use std::process::Command;

use nodegate_standin::API_TOKEN;

use super::client::{BINARY, Console, FINAL, UPGRADE, WebSocket, echo};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Reply, Site};

const LISTED: &str = "real_ip.allow_from=127.0.0.1";
const PANEL: &str = "console.origins=https://panel.example.com";
const FRONT: &str = "X-Forwarded-Host: pve.example.com\r\n";

/// A call for the console at `path` with this Host.
fn ask(gate: &Nodegate, path: &str, host: &str, headers: &str) -> (WebSocket, Reply) {
    let mut session = gate.connect();
    session.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{UPGRADE}\r\n"));
    let reply = session.reply(false);
    (WebSocket::of(session), reply)
}

/// Whether a console of root's opens, and carries a byte where it does.
fn status(site: &Site, gate: &Nodegate, host: &str, headers: &str) -> u16 {
    let console = Console::listen();
    let (mut socket, reply) = ask(gate, &console.path(site, "root@pam"), host, headers);
    if reply.status == 101 {
        let mut machine = console.accept();
        machine.write_all(b"x").unwrap();
        assert_eq!(socket.data(1), b"x", "{headers}");
    }
    reply.status
}

fn origin(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

#[test]
fn reported_fronts_and_clients_get_their_console() {
    let site = Site::pve();
    let gates = [&[LISTED][..], &[LISTED, PANEL], &[PANEL]].map(|sets| Nodegate::start(&site, sets));
    // By default; with a list that names another origin; the same without trust in any proxy.
    let cases = [
        ("localhost:8006", "https://pve.example.com", FRONT, [101, 101, 403]),
        ("localhost:8006", "https://pve.example.com", "", [101, 403, 403]),
        ("pve.example.com", "https://pve.example.com:8443", "", [101, 403, 403]),
        ("pve.example.com", "https://pve.example.com:8443", "X-Forwarded-Port: 8443\r\n", [101, 101, 403]),
        ("pve.example.com:8006", "http://pve.example.com:8006", "", [101; 3]),
        ("pve.example.com:8006", "wss://pve.example.com:8006", "", [101; 3]),
        ("pve.example.com", "wss://pve.example.com:443", "", [101; 3]),
        ("10.0.0.10:8006", "https://pve.example.com", FRONT, [101, 101, 403]),
        ("10.0.0.10", "https://pve.example.com", "Forwarded: host=pve.example.com\r\n", [101, 101, 403]),
        ("node1:8006", "https://panel.example.com", "", [101; 3]),
        ("node1:8006", "wss://panel.example.com", "", [101; 3]),
        ("node1:8006", "https://evil.example.com", FRONT, [101, 403, 403]),
        ("node1:8006", "null", "", [101, 403, 403]),
    ];
    for (host, from, more, expected) in cases {
        let headers = site.cookie("root@pam") + &origin(from) + more;
        let got = [0, 1, 2].map(|gate| status(&site, &gates[gate], host, &headers));
        assert_eq!(got, expected, "{from} on {host} {more}");
    }
}

#[test]
fn a_credential_without_cookie_needs_no_origin() {
    let site = Site::pve();
    let credentials = [
        (format!("Authorization: PVEAPIToken={API_TOKEN}\r\n"), "root@pam!t"),
        (format!("Authorization: PVEAPIToken={API_TOKEN}\r\nCookie: PVELangCookie=de\r\n"), "root@pam!t"),
        (format!("Authorization: PVEAuthCookie={}\r\n", site.ticket("root@pam")), "root@pam"),
    ];
    for sets in [&[][..], &[PANEL]] {
        let gate = Nodegate::start(&site, sets);
        for (headers, user) in &credentials {
            let console = Console::listen();
            let headers = format!("{headers}{}", origin("https://evil.example.com"));
            let (_socket, reply) = ask(&gate, &console.path(&site, user), "node1:8006", &headers);
            assert_eq!(reply.status, 101, "{sets:?} {}", reply.text());
        }
        assert!(!gate.stderr().contains("https://evil"), "{}", gate.stderr());
    }
}

#[test]
fn a_cookie_without_ticket_needs_the_origin() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam") + &origin("https://evil.example.com");
    let call = |call: &str| format!("/api2/json/nodes/node1/{call}");
    for path in [
        call("qemu/100/vncwebsocket?port=5900"),
        call("qemu/100/vncwebsocket?port=5900&vncticket="),
        call("qemu/100/vncwebsocket?port=5900&ticket=x"),
        call("lxc/100/mtunnelwebsocket?socket=/run/pve/x&vncticket=x"),
    ] {
        let (_, reply) = ask(&gate, &path, "node1:8006", &cookie);
        assert_eq!(reply.status, 403, "{path}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        for part in ["https://evil.example.com", "https://node1:8006", "console.origins"] {
            assert!(message.contains(part) && reply.reason.contains(part), "{message}");
        }
    }
    assert_eq!(site.daemon.requests().len(), 0, "the daemon is not asked");
    let is_warning = |line: &&str| line.contains("WARN") && line.contains("console refused");
    eventually("it is in the log", || gate.stderr().lines().any(|line| is_warning(&line)));
    let log = gate.stderr();
    assert_eq!(log.lines().filter(is_warning).count(), 1, "the log names each origin once: {log}");
}

#[test]
fn only_tickets_of_the_daemon_open_consoles() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &origin("https://evil.example.com");
    let guessed = "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900&vncticket=guessed";
    let (_, reply) = ask(&gate, guessed, "node1:8006", &headers);
    assert_eq!((reply.status, reply.reason.as_str()), (401, "permission denied - invalid PVEVNC ticket"));
    assert!(!gate.stderr().contains("https://evil"), "nothing was opened");
    std::fs::create_dir_all(site.path("/run/pve")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(site.path("/run/pve/ct")).unwrap();
    let tunnel = "/api2/json/nodes/node1/lxc/100/mtunnelwebsocket?socket=/run/pve/ct&ticket=x";
    let (_socket, reply) = ask(&gate, tunnel, "node1:8006", &headers);
    assert_eq!(reply.status, 101, "{}", reply.text());
    listener.accept().unwrap();
}

#[test]
fn every_console_route_names_its_ticket() {
    for (site, count) in [(Site::pve(), 5), (Site::pmg(), 1)] {
        let gate = Nodegate::start(&site, &[]);
        let headers = site.cookie("root@pam") + &origin("https://evil.example.com");
        let routes = nodegate::testing::config::built_in_file(&format!("{}.routes", site.profile())).unwrap();
        let consoles = routes.lines().filter(|line| line.split(' ').any(|word| word == "GET:w"));
        let paths: Vec<_> = consoles.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(paths.len(), count);
        for path in paths {
            let path = path.replace("{node}", "node1").replace("{vmid}", "100");
            let name = if path.ends_with("/mtunnelwebsocket") { "ticket" } else { "vncticket" };
            let other = if name == "ticket" { "vncticket" } else { "ticket" };
            // The daemon finds the port wrong, or the ticket: it was asked.
            for (query, status) in [(format!("{name}=x"), 401), (format!("{other}=x"), 403)] {
                let path = format!("/api2/json{path}?port=1&{query}");
                let (_, reply) = ask(&gate, &path, "node1:8006", &headers);
                assert_eq!(reply.status, status, "{path} {}", reply.text());
            }
        }
    }
}

#[test]
fn a_foreign_origin_is_logged_once() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=2"]);
    for from in ["https://a.example.com", "https://b.example.com", "https://node1:8006"] {
        for _ in 0..3 {
            let headers = site.cookie("root@pam") + &origin(from);
            assert_eq!(status(&site, &gate, "node1:8006", &headers), 101);
        }
    }
    let lines = |what: &str| gate.stderr().lines().filter(|line| line.contains(what)).count();
    let reported = "console's own ticket; console.origins";
    eventually("both are logged", || lines(reported) == 2);
    assert_eq!((lines("https://a.example.com"), lines("https://b.example.com")), (1, 1));
    assert!(!gate.stderr().contains("PVEVNC:"), "no ticket is logged");
}

#[test]
fn the_list_of_origins_is_checked() {
    let site = Site::pve();
    for bad in ["*", "https://panel.example.com/x", "panel.example.com"] {
        let form = "write https://HOST or https://HOST:PORT in small letters, as browsers send it";
        let outcome = Outcome::check(&site, &[&format!("console.origins={bad}")]);
        outcome.complains(&format!("--set: console.origins: '{bad}' is not an origin: {form}"));
    }
}

#[test]
fn debians_websocket_client_opens_a_console() {
    let site = Site::pve();
    let gates = [&[][..], &[PANEL]].map(|sets| Nodegate::start(&site, sets));
    let cookie = site.cookie("root@pam");
    let token = format!("Authorization: PVEAPIToken={API_TOKEN}");
    for gate in &gates {
        // The client's own request, with a login; and that of a panel's backend, with a token.
        for (user, header, from) in [
            ("root@pam", cookie.trim_end(), ""),
            ("root@pam!t", token.as_str(), "https://elsewhere.example.com"),
        ] {
            let console = Console::listen();
            let url = format!("wss://127.0.0.1:{}{}", gate.port(), console.path(&site, user));
            let machine = std::thread::spawn(move || echo(console.accept()));
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/console/websocket_client.py");
            let mut python = Command::new("/usr/bin/python3");
            let output = python.args([script, &url, header, from]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said, "echo from the machine", "{output:?}");
            machine.join().unwrap();
        }
    }
}

#[test]
fn consoles_carry_bytes_for_foreign_pages() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let headers = site.cookie("root@pam") + &origin("https://panel.example.com");
    let (mut socket, reply) = ask(&gate, &console.path(&site, "root@pam"), "node1:8006", &headers);
    assert_eq!(reply.status, 101);
    let mut machine = console.accept();
    socket.send(FINAL | BINARY, b"typed");
    let mut typed = [0; 5];
    machine.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"typed");
}

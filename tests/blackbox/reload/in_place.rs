//! With the same binary: the process stays, and everything that the files say is taken up.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nodegate_standin::{Certificate, KeyKind};

use super::{SETTINGS, reload, start, threads};
use crate::support::nodegate::{command, eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

const VERSION: &str = "/api2/json/version";
const RELOADED: &str = "reloaded";
const REFUSED: &str = "reload refused, serving as before";

fn workers(gate: &Nodegate) -> usize {
    threads(gate).iter().filter(|name| name.starts_with("worker-")).count()
}

#[test]
fn kept_connections_follow_new_settings() {
    let site = Site::pve();
    let gate = start(&site, "");
    let mut kept = gate.connect();
    let cookie = site.cookie("root@pam");
    let body = [b'a'; 2000];
    let headers = format!("{cookie}{}", site.csrf("root@pam"));
    assert_eq!(kept.request("PUT", "/api2/json/standin/echo", &headers, &body).status, 200);
    site.write(SETTINGS, "[limits]\nbody = 1000\n");
    reload(&gate, RELOADED);
    assert!(gate.stderr().contains("changed=\"limits.body\""), "{}", gate.stderr());
    assert_eq!(kept.request("GET", VERSION, &cookie, b"").status, 200);
    assert_eq!(kept.request("PUT", "/api2/json/standin/echo", &headers, &body).status, 413);
}

#[test]
fn newly_denied_clients_get_no_more_responses() {
    let site = Site::pve();
    let gate = start(&site, "");
    let cookie = site.cookie("root@pam");
    let mut kept = [gate.connect(), gate.connect()];
    for session in &mut kept {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    let asked = site.daemon.requests().len();
    site.write(SETTINGS, "[acl]\ndeny_from = \"127.0.0.0/8\"\n");
    reload(&gate, RELOADED);
    for session in &mut kept {
        let _ = session.try_send(format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        assert!(session.is_closed());
    }
    assert!(Session::try_tls(gate.local()).is_err());
    assert_eq!(site.daemon.requests().len(), asked);
    eventually("the log tells of all three", || site.access_log().matches("\"-\" 403 -").count() == 3);
    site.write(SETTINGS, "");
    reload(&gate, RELOADED);
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
}

/// The message has every reason, and the old configuration stays.
#[test]
fn a_broken_configuration_is_rejected() {
    let site = Site::pve();
    let gate = start(&site, "");
    let other = Certificate::ca().issue("node1.example.com", &[], KeyKind::Rsa2048);
    let certificate = std::fs::read(site.path("/etc/pve/local/pve-ssl.pem")).unwrap();
    let cases = [
        ("[tls]\nciphers = \"NOSUCHCIPHER\"\n", "tls.ciphers"),
        ("[acl]\nallow_from = \"10.0.0.0/33\"\n", "acl.allow_from"),
        ("[no\n", "pve.toml:1"),
        ("unknown = 1\n", "unknown"),
    ];
    for (settings, reason) in cases {
        site.write(SETTINGS, settings);
        reload(&gate, REFUSED);
        let line = gate.stderr().lines().rfind(|line| line.contains(REFUSED)).unwrap().to_owned();
        assert!(line.contains(reason), "{line}");
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    }
    site.write(SETTINGS, "[tls]\nciphers = \"NOSUCHCIPHER\"\n[acl]\npolicy = \"perhaps\"\n");
    let before = gate.stderr().matches(REFUSED).count();
    reload(&gate, REFUSED);
    eventually("both reasons", || gate.stderr().matches(REFUSED).count() == before + 2);
    site.write(SETTINGS, "[limits]\nbody = 1000\n");
    site.write("/etc/pve/local/pve-ssl.pem", other.chain_pem());
    reload(&gate, "the key does not belong to the certificate");
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    site.write("/etc/pve/local/pve-ssl.pem", certificate);
    reload(&gate, RELOADED);
}

#[test]
fn reloads_switch_certificates_and_keep_sessions() {
    let site = Site::pve();
    let gate = start(&site, "");
    let serial = || {
        let outcome = Outcome::of(std::process::Command::new("sh").arg("-c").arg(format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint",
            gate.local()
        )));
        assert!(outcome.stdout.contains("ingerprint="), "{outcome:?}");
        outcome.stdout
    };
    let ticket = site.path("/session.pem");
    let s_client = |option: &str| {
        Outcome::of(std::process::Command::new("sh").arg("-c").arg(format!(
            "openssl s_client -tls1_2 -connect {} {option} {} </dev/null",
            gate.local(),
            ticket.display()
        )))
    };
    let before = serial();
    assert!(s_client("-sess_out").stdout.contains("New, "));
    let other = Certificate::ca().issue("node1.example.com", &[], KeyKind::Rsa2048);
    site.write("/etc/pve/local/pve-ssl.pem", other.chain_pem());
    site.write("/etc/pve/local/pve-ssl.key", other.key_pem());
    reload(&gate, RELOADED);
    assert_ne!(serial(), before);
    // Unless nodegate has read the files right before the reload.
    let named = ["reloaded changed=\"certificates\"", "a renewed certificate is served"];
    assert!(named.iter().any(|text| gate.stderr().contains(text)), "{}", gate.stderr());
    let resumed = s_client("-sess_in");
    assert!(resumed.stdout.contains("Reused, "), "{resumed:?}");
}

#[test]
fn renewed_certificates_need_no_reload() {
    let site = Site::pve();
    let gate = start(&site, "");
    let other = Certificate::ca().issue("node1.example.com", &[], KeyKind::Rsa2048);
    site.write("/etc/pve/local/pve-ssl.pem", other.chain_pem());
    site.write("/etc/pve/local/pve-ssl.key", other.key_pem());
    eventually("it is served", || gate.stderr().contains("a renewed certificate is served"));
    let shown = Outcome::of(
        std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509", gate.local())),
    );
    assert!(other.chain_pem().contains(shown.stdout.trim()), "{shown:?}");
}

/// Without its key the custom pair is not served. `status` shows that as soon as the log does.
#[test]
fn status_follows_a_renewal_at_once() {
    let site = Site::pve();
    let custom = Certificate::ca().issue("custom.example.com", &[], KeyKind::Rsa2048);
    site.write("/etc/pve/local/pveproxy-ssl.pem", custom.chain_pem());
    site.write("/etc/pve/local/pveproxy-ssl.key", custom.key_pem());
    let gate = start(&site, "");
    std::fs::remove_file(site.path("/etc/pve/local/pveproxy-ssl.key")).unwrap();
    eventually("the other pair is served", || {
        gate.stderr().contains("a renewed certificate is served files=")
    });
    let port = format!("listen.port={}", gate.port());
    let status = || Outcome::ask(&site, &["--set", &port, "status", "pve"]).stdout;
    let shown = Instant::now();
    eventually("status shows the warning", || status().contains("pveproxy-ssl.key is missing"));
    assert!(shown.elapsed() < Duration::from_secs(5), "{:?}", shown.elapsed());
}

/// The process has given up root, so only a restart changes its user.
#[test]
fn a_new_user_needs_a_restart() {
    let site = Site::pve();
    let gate = start(&site, "");
    site.write(SETTINGS, "user = \"nobody\"\n");
    reload(&gate, RELOADED);
    let log = gate.stderr();
    assert!(log.contains("user: warning: a reload does not change the user"), "{log}");
}

#[test]
fn a_reload_moves_log_and_resizes_workers() {
    let site = Site::pve();
    let gate = start(&site, "workers = 3\n");
    eventually("three workers have their names", || workers(&gate) == 3);
    let mut kept: Vec<_> = (0..12).map(|_| gate.connect()).collect();
    for session in &mut kept {
        assert_eq!(session.request("GET", "/first", "", b"").status, 404);
    }
    let elsewhere = site.path("/var/log/elsewhere.log");
    site.write(SETTINGS, "workers = 1\n[log]\naccess = \"/var/log/elsewhere.log\"\n");
    reload(&gate, RELOADED);
    assert_eq!(gate.get("/second", "").status, 404);
    eventually("the line in the new file", || {
        std::fs::read_to_string(&elsewhere).unwrap_or_default().contains("/second")
    });
    assert!(!site.access_log().contains("/second"));
    // Connections of the removed workers get a `Connection: close`; none is cut off.
    let mut closing = 0;
    for session in &mut kept {
        let reply = session.request("GET", "/third", "", b"");
        assert_eq!(reply.status, 404);
        closing += usize::from(reply.header("connection") == Some("close"));
    }
    assert!((1..12).contains(&closing), "{closing}");
    eventually("two workers have left", || workers(&gate) == 1);
    site.write(SETTINGS, "workers = 5\n");
    reload(&gate, RELOADED);
    eventually("five workers have their names", || workers(&gate) == 5);
    assert_eq!(gate.get("/fourth", "").status, 404);
}

/// `Nodegate::start` sets address and port more strongly than any file.
fn start_by_file(site: &Site, listen: &str) -> Nodegate {
    site.write(SETTINGS, format!("[listen]\n{listen}"));
    let root = site.root().to_str().unwrap();
    let backend = format!("backend.address={}", site.daemon.address());
    let sets = ["--set", "node.name=node1", "--set", &backend];
    Nodegate::spawn(command(&["--root", root, "--debug", "run", "pve"]).args(sets))
}

fn answers(site: &Site, address: SocketAddr) -> bool {
    let cookie = site.cookie("root@pam");
    Session::try_tls(address)
        .is_ok_and(|mut session| session.request("GET", VERSION, &cookie, b"").status == 200)
}

#[test]
fn a_reload_moves_address_and_port() {
    let site = Site::pve();
    let (first, second) = (free_port(), free_port());
    let gate = start_by_file(&site, &format!("address = \"127.0.0.1\"\nport = {first}\n"));
    let mut kept = gate.connect();
    let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    // Each overlaps with the one before it.
    for (address, port, good, gone) in [
        ("127.0.0.1", second, at("127.0.0.1", second), at("127.0.0.1", first)),
        ("::", second, at("::1", second), at("::1", first)),
        ("0.0.0.0", second, at("127.0.0.2", second), at("::1", second)),
        ("127.0.0.3", second, at("127.0.0.3", second), at("127.0.0.2", second)),
        ("::", second, at("127.0.0.2", second), at("127.0.0.1", first)),
        ("::1", first, at("::1", first), at("::1", second)),
    ] {
        site.write(SETTINGS, format!("[listen]\naddress = \"{address}\"\nport = {port}\n"));
        reload(&gate, RELOADED);
        assert!(answers(&site, good), "{address} {port}: {}", gate.stderr());
        eventually("the old one refuses", || TcpStream::connect(gone).is_err());
    }
    assert_eq!(kept.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    // No other process may share the port.
    let intruder = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    intruder.set_reuse_port(true).unwrap();
    assert!(intruder.bind(&at("::1", first).into()).and_then(|()| intruder.listen(1)).is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for (listen, reason) in [
        (
            format!("address = \"127.0.0.1\"\nport = {}\n", taken.local_addr().unwrap().port()),
            "is in use by another",
        ),
        ("address = \"192.0.2.77\"\n".to_owned(), "is not an address of this machine"),
    ] {
        site.write(SETTINGS, format!("[listen]\n{listen}"));
        reload(&gate, reason);
        assert!(answers(&site, at("::1", first)));
    }
}

#[test]
fn reloads_leave_nothing_behind() {
    let site = Site::pve();
    let gate = start(&site, "");
    let mut kept = gate.connect();
    let cookie = site.cookie("root@pam");
    let mut once = |number: usize| {
        site.write(
            SETTINGS,
            format!("workers = {}\n[limits]\nheaders = {}\n", 2 + number % 2, 20 + number % 50),
        );
        reload(&gate, RELOADED);
        let reply = kept.request("GET", VERSION, &cookie, b"");
        assert_eq!(reply.status, 200);
        if reply.header("connection") == Some("close") {
            kept = gate.connect(); // its worker leaves
        }
    };
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap().count();
    (0..20).for_each(&mut once);
    let before = (descriptors(), workers(&gate), gate.kilobytes("VmRSS"));
    (0..200).for_each(&mut once);
    eventually("descriptors and threads are those of before", || {
        descriptors() <= before.0 && workers(&gate) <= 3
    });
    let after = gate.kilobytes("VmRSS");
    assert!(after < before.2 + 6_000, "{} kB became {after} kB", before.2);
}

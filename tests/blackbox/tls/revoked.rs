//! Certificates of clients that their CA has revoked.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::clients::{CA, People, REQUIRED, curl};
use super::s_client;
use crate::console::client::{CLOSE, Console, FINAL, UPGRADE, WebSocket};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site};

const LISTS: &str = "tls.client_crl=/etc/nodegate/clients.crl";
const FILE: &str = "/etc/nodegate/clients.crl";
/// A list that is good now, and one that ended long ago.
const NOW: [&str; 2] = ["-crldays", "2"];
const LATE: [&str; 4] = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"];

const SETTINGS: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = number\ndefault_md = sha256\n\
    crl_extensions = e\n[e]\nauthorityKeyIdentifier = keyid\n";

impl People {
    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let outcome = Outcome::of(command.args(arguments).current_dir(self.folder()));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }

    /// The files that `openssl ca` keeps of each CA, if they are not there yet.
    fn register(&self, authority: &str) -> String {
        let settings = format!("{authority}.cnf");
        if !self.path(&settings).exists() {
            let text = SETTINGS.replace("index.txt", &format!("{authority}.txt"));
            std::fs::write(self.path(&settings), text.replace("number\n", &format!("{authority}.number\n")))
                .unwrap();
            std::fs::write(self.path(&format!("{authority}.txt")), "").unwrap();
            std::fs::write(self.path(&format!("{authority}.number")), "01\n").unwrap();
        }
        settings
    }

    fn ca(&self, authority: &str, arguments: &[&str]) {
        let settings = self.register(authority);
        let [certificate, key] = ["pem", "key"].map(|end| format!("{authority}.{end}"));
        let by = ["ca", "-config", &settings, "-cert", &certificate, "-keyfile", &key];
        self.openssl(&[&by, arguments].concat());
    }

    fn revoke(&self, certificate: &str, authority: &str) {
        self.ca(authority, &["-revoke", certificate]);
    }

    /// The list of a CA as PEM.
    fn list(&self, authority: &str, times: &[&str]) -> String {
        self.ca(authority, &[&["-gencrl", "-out", "list"], times].concat());
        std::fs::read_to_string(self.path("list")).unwrap()
    }

    /// At once, so that no look finds half a file.
    fn put(&self, list: impl AsRef<[u8]>) {
        self.site.write("/etc/nodegate/next", list);
        std::fs::rename(self.site.path("/etc/nodegate/next"), self.site.path(FILE)).unwrap();
    }

    fn place(&self) -> String {
        self.site.path(FILE).display().to_string()
    }
}

/// Files are looked at every 15 seconds.
fn await_next_list(gate: &Nodegate) {
    let until = Instant::now() + Duration::from_mins(2);
    while !gate.stderr().contains("certificate files were read again") {
        assert!(Instant::now() < until, "the list is not taken up: {}", gate.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The response to a client that shows that certificate, over both versions of TLS and of HTTP.
fn answers(gate: &Nodegate, [certificate, key]: &[String; 2]) -> Vec<String> {
    let shown = ["--cert", certificate, "--key", key];
    let versions: [&[&str]; 3] =
        [&["--tlsv1.3", "--http1.1"], &["--tls-max", "1.2", "--http1.1"], &["--http2"]];
    versions.iter().map(|version| curl(gate, &[&shown[..], version].concat())).collect()
}

#[test]
fn a_revoked_certificate_opens_no_connection() {
    let people = People::new();
    let [alice, bob] = ["alice", "bob"].map(|name| people.person(name, "ca"));
    people.revoke(&bob[0], "ca");
    people.put(people.list("ca", &NOW));
    for mode in [REQUIRED, "tls.client_certificates=optional"] {
        let gate = Nodegate::start(&people.site, &[CA, LISTS, mode, "http2=true"]);
        assert_eq!(answers(&gate, &alice), ["404"; 3]);
        assert_eq!(answers(&gate, &bob), ["000"; 3]);
        let none = if mode == REQUIRED { "000" } else { "404" };
        assert_eq!(curl(&gate, &[]), none);
    }
}

#[test]
fn lists_may_be_der_or_several() {
    let people = People::new();
    let other = people.authority("other");
    let both = std::fs::read_to_string(people.site.path("/etc/nodegate/clients.pem")).unwrap();
    let [alice, bob] = ["alice", "bob"].map(|name| people.person(name, "ca"));
    let [carol, dave] = ["carol", "dave"].map(|name| people.person(name, "other"));
    people.revoke(&bob[0], "ca");
    people.revoke(&dave[0], "other");
    let first = people.list("ca", &NOW);
    people.openssl(&["crl", "-in", "list", "-outform", "DER", "-out", "list.der"]);
    people.put(std::fs::read(people.path("list.der")).unwrap());
    let gate = Nodegate::start(&people.site, &[CA, LISTS, REQUIRED, "http2=true"]);
    assert_eq!(
        (answers(&gate, &alice), answers(&gate, &bob)),
        (vec!["404".into(); 3], vec!["000".into(); 3])
    );
    drop(gate);
    // Both CAs have the same name here, as a CA has that was given a new key.
    people.site.write("/etc/nodegate/clients.pem", both + &other.certificate_pem());
    people.put(format!("a comment\n{first}{}", people.list("other", &NOW)));
    let gate = Nodegate::start(&people.site, &[CA, LISTS, REQUIRED, "http2=true"]);
    for (person, status) in [(&alice, "404"), (&bob, "000"), (&carol, "404"), (&dave, "000")] {
        assert_eq!(answers(&gate, person), [status; 3], "{person:?}");
    }
}

#[test]
fn a_list_that_has_ended_refuses_its_ca() {
    let people = People::new();
    let alice = people.person("alice", "ca");
    people.put(people.list("ca", &LATE));
    let gate = Nodegate::start(&people.site, &[CA, LISTS, REQUIRED, "http2=true"]);
    assert_eq!(answers(&gate, &alice), ["000"; 3]);
    let said = format!("tls.client_crl: {}: the list of", people.place());
    let end = "so certificates of this CA are refused: renew the list";
    let is_said = |log: &str| log.lines().filter(|line| line.contains(&said) && line.contains(end)).count();
    eventually("the log says so", || is_said(&gate.stderr()) == 1);
    let check = Outcome::check(&people.site, &[CA, LISTS, REQUIRED]);
    assert_eq!(check.code, 1);
    assert!(check.stderr.contains(&said) && check.stderr.contains(end), "{}", check.stderr);
    // The new one is taken up without a reload.
    people.put(people.list("ca", &NOW));
    await_next_list(&gate);
    assert_eq!(answers(&gate, &alice), ["404"; 3]);
    assert_eq!(is_said(&gate.stderr()), 1);
}

#[test]
fn a_ca_without_list_is_named_and_refused() {
    let people = People::new();
    let alice = people.person("alice", "ca");
    // Another CA's list, under another name.
    people.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=Elsewhere",
        "-keyout",
        "else.key",
        "-out",
        "else.pem",
    ]);
    people.put(people.list("else", &NOW));
    let gate = Nodegate::start(&people.site, &[CA, LISTS, REQUIRED, "http2=true"]);
    assert_eq!(answers(&gate, &alice), ["000"; 3]);
    let check = Outcome::check(&people.site, &[CA, LISTS, REQUIRED]);
    assert_eq!(check.code, 1);
    let said = "certificates that this CA has issued to clients are refused";
    assert!(check.stderr.contains("holds no list of ") && check.stderr.contains(said), "{}", check.stderr);
}

#[test]
fn an_invalid_list_names_its_setting() {
    let people = People::new();
    let place = people.place();
    let failed = |message: &str| {
        let line = format!("--set: tls.client_crl: {place}: {message}");
        let mut command = Nodegate::prepared(&people.site, "pve", &[CA, LISTS, REQUIRED]);
        for outcome in [Outcome::of(&mut command), Outcome::check(&people.site, &[CA, LISTS, REQUIRED])] {
            assert_eq!(outcome.code, 1);
            assert!(outcome.stderr.contains(&line), "{line}: {}", outcome.stderr);
        }
    };
    failed("cannot be read: No such file or directory");
    for nonsense in ["", "nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        people.put(nonsense);
        failed("holds no certificate revocation list, in PEM or DER form");
    }
    people.put(std::fs::read(people.site.path("/etc/nodegate/clients.pem")).unwrap());
    failed("holds no certificate revocation list, in PEM or DER form");
    // The same name, and another key.
    people.authority("other");
    people.put(people.list("other", &NOW));
    failed("the list of ");
}

#[test]
fn a_revocation_reaches_sessions_and_connections() {
    let people = People::new();
    let [alice, bob] = ["alice", "bob"].map(|name| people.person(name, "ca"));
    people.put(people.list("ca", &NOW));
    let site = &people.site;
    let gate =
        Nodegate::start(site, &[CA, LISTS, REQUIRED, "http2=true", "console.recheck=1", "console.ping=0"]);
    let session = people.path("session").to_str().unwrap().to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        let shown = ["-cert", &bob[0], "-key", &bob[1], version, "-sess_out", &session];
        assert!(s_client(gate.address(), &shown).contains("HTTP/1.1 404 "));
        let again = s_client(gate.address(), &["-sess_in", &session, version]);
        assert!(again.contains("Reused, ") && again.contains("HTTP/1.1 404 "), "{again}");
    }
    let get = "GET /nothing HTTP/1.1\r\nHost: node1\r\n\r\n";
    let [mut kept, mut kept_by_alice] =
        [&bob, &alice].map(|[file, key]| Session::tls_showing(file, key, gate.address()));
    for session in [&mut kept, &mut kept_by_alice] {
        session.send(get);
        assert_eq!(session.reply(false).status, 404);
    }
    let [(mut console, _server), (mut console_of_alice, mut her_server)] =
        [&bob, &alice].map(|[file, key]| opened(site, Session::tls_showing(file, key, gate.address())));

    people.revoke(&bob[0], "ca");
    people.put(people.list("ca", &NOW));
    await_next_list(&gate);
    assert_eq!(
        (answers(&gate, &bob), answers(&gate, &alice)),
        (vec!["000".into(); 3], vec!["404".into(); 3])
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let again = s_client(gate.address(), &["-sess_in", &session, version]);
        assert!(!again.contains("HTTP/1.1 404 "), "{again}");
    }
    kept.send(get);
    assert!(kept.is_closed(), "turned away before its request is read");
    kept_by_alice.send(get);
    assert_eq!(kept_by_alice.reply(false).status, 404);
    let frame = console.receive();
    assert_eq!((frame.code(), &frame.payload[2..]), (1001, &b"this client is no longer admitted"[..]));
    console.send(FINAL | CLOSE, b"\x03\xe9");
    console.assert_ended();
    eventually("the log says why", || {
        gate.stderr().contains("console or tunnel closed: its certificate is revoked")
    });
    her_server.write_all(b"on").unwrap();
    assert_eq!(console_of_alice.data(2), b"on");
}

#[test]
fn a_revoked_intermediate_ca_ends_open_connections() {
    let people = People::new();
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=Middle"];
    let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-out", "middle.pem", "-keyout", "middle.key"];
    people.openssl(&[&new[..], &by].concat());
    let middle = std::fs::read_to_string(people.path("middle.pem")).unwrap();
    let [mut bob, alice] = [("bob", "middle"), ("alice", "ca")].map(|(name, by)| people.person(name, by));
    let chain = std::fs::read_to_string(&bob[0]).unwrap() + &middle;
    bob[0] = people.path("chain.pem").to_str().unwrap().to_owned();
    std::fs::write(&bob[0], chain).unwrap();
    let lists = || people.put(people.list("middle", &NOW) + &people.list("ca", &NOW));
    lists();
    let site = &people.site;
    let gate =
        Nodegate::start(site, &[CA, LISTS, REQUIRED, "http2=true", "console.recheck=1", "console.ping=0"]);
    assert_eq!(answers(&gate, &bob), ["404"; 3]);
    let get = "GET /nothing HTTP/1.1\r\nHost: node1\r\n\r\n";
    let [mut kept, mut kept_by_alice] =
        [&bob, &alice].map(|[file, key]| Session::tls_showing(file, key, gate.address()));
    for session in [&mut kept, &mut kept_by_alice] {
        session.send(get);
        assert_eq!(session.reply(false).status, 404);
    }
    let (mut console, _server) = opened(site, Session::tls_showing(&bob[0], &bob[1], gate.address()));

    people.revoke("middle.pem", "ca");
    lists();
    eventually("it is taken up", || gate.stderr().contains("certificate files were read again"));
    assert_eq!(answers(&gate, &bob), ["000"; 3]);
    kept.send(get);
    assert!(kept.is_closed(), "turned away before its request is read");
    kept_by_alice.send(get);
    assert_eq!(kept_by_alice.reply(false).status, 404);
    assert_eq!(console.receive().code(), 1001);
}

/// A console on that connection, and the stream on its other side.
fn opened(site: &Site, mut session: Session) -> (WebSocket, std::net::TcpStream) {
    let console = Console::listen();
    let path = console.path(site, "root@pam");
    let reply = session.request("GET", &path, &(site.cookie("root@pam") + UPGRADE), b"");
    assert_eq!(reply.status, 101, "{}", reply.text());
    (WebSocket::of(session), console.accept())
}

#[test]
fn a_broken_list_keeps_the_one_of_before() {
    let people = People::new();
    let [alice, bob] = ["alice", "bob"].map(|name| people.person(name, "ca"));
    people.revoke(&bob[0], "ca");
    people.put(people.list("ca", &NOW));
    let gate = Nodegate::start(&people.site, &[CA, LISTS, REQUIRED, "http2=true"]);
    people.put("nonsense");
    gate.signal(Signal::SIGHUP);
    let refused = format!("tls.client_crl: {}: holds no certificate revocation list", people.place());
    let is_refused = |log: &str| {
        log.lines().any(|line| line.contains("reload refused, serving as before") && line.contains(&refused))
    };
    eventually("the reload is refused", || is_refused(&gate.stderr()));
    assert_eq!(
        (answers(&gate, &alice), answers(&gate, &bob)),
        (vec!["404".into(); 3], vec!["000".into(); 3])
    );
}

#[test]
fn a_listener_has_a_list_of_its_own() {
    let people = People::new();
    let bob = people.person("bob", "ca");
    people.revoke(&bob[0], "ca");
    people.put(people.list("ca", &NOW));
    let table = |name: &str, more: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1\"\nport = 0\nclient_certificates = \"required\"\n\
             client_ca = \"/etc/nodegate/clients.pem\"\n{more}"
        )
    };
    let tables = table("strict", "client_crl = \"/etc/nodegate/clients.crl\"\n") + &table("open", "");
    people.site.write("/etc/nodegate/pve.toml", tables);
    let gate = Nodegate::start(&people.site, &[]);
    let shown = ["-cert", &bob[0], "-key", &bob[1]];
    assert!(!s_client(gate.listener("strict"), &shown).contains("HTTP/1.1 404 "));
    assert!(s_client(gate.listener("open"), &shown).contains("HTTP/1.1 404 "));
    people.put("nonsense");
    let check = Outcome::check(&people.site, &[]);
    let line = "listener[1].client_crl: ";
    assert!(check.code == 1 && check.stderr.contains(line), "{}", check.stderr);
}

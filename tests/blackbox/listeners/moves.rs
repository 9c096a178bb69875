//! Listeners that come, go, and change while clients are served.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use nodegate_standin::Certificate;

use super::{PVE, VERSION, curl, start};
use crate::reload::reload;
use crate::reload::upgrade::Installed;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

fn table(name: &str, port: u16, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1\"\nport = {port}\n{more}")
}

#[test]
fn a_reload_opens_closes_and_renames_listeners() {
    let site = Site::pve();
    let [one, two] = [free_port(), free_port()];
    let gate = start(&site, &table("one", one, ""), &[]);
    let at = |port: u16| curl(&format!("https://127.0.0.1:{port}/x"), &[]);
    assert_eq!((at(one), at(two)), ("404".to_owned(), "000".to_owned()));

    site.write(PVE, table("one", one, "") + &table("two", two, ""));
    reload(&gate, "reloaded changed=\"listener\"");
    assert_eq!((at(one), at(two)), ("404".to_owned(), "404".to_owned()));

    site.write(PVE, table("new", one, ""));
    reload(&gate, "reloaded changed=\"listener\"");
    assert_eq!(gate.listener("new").port(), one, "the same socket by another name");
    assert_eq!(at(one), "404");
    eventually("nobody listens at the other one", || at(two) == "000");
    assert_eq!(gate.get("/x", "").status, 404);
}

#[test]
fn what_cannot_be_bound_changes_nothing() {
    let site = Site::pve();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let one = free_port();
    let gate = start(&site, &table("one", one, ""), &[]);
    site.write(PVE, table("other", port, ""));
    reload(&gate, "listener[1].port: port");
    assert!(gate.stderr().contains("is in use by another process"));
    assert_eq!(curl(&format!("https://127.0.0.1:{one}/x"), &[]), "404");
}

#[test]
fn a_trial_leaves_out_ports_in_use() {
    let site = Site::pve();
    let [one, metrics, own] = [free_port(), free_port(), free_port()];
    let settings = format!("[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n{}", table("one", one, ""));
    let gate = start(&site, &settings, &[]);
    let figures = || curl(&format!("http://127.0.0.1:{metrics}/metrics"), &[]);
    eventually("the metrics are served", || figures() == "200");

    let trial = Nodegate::start(&site, &[&format!("listen.port={own}")]);
    assert_eq!(trial.get("/x", "").status, 404);
    let left_out = format!(
        "listener 'one' is left out of this trial: port {one} on 127.0.0.1 is in use by another process"
    );
    assert!(trial.stderr().contains(&left_out), "{}", trial.stderr());
    let check = Outcome::check(&site, &[&format!("listen.port={own}")]);
    let named = format!("listener 'one' is left out of this trial: port {one} is in use");
    assert!(check.code == 0 && check.stderr.contains(&named), "{check:?}");
    eventually("the trial gives up the metrics", || trial.stderr().contains("this trial has no metrics"));
    reload(&trial, "reloaded changed=");
    assert_eq!(
        (gate.get("/x", "").status, trial.get("/x", "").status, figures().as_str()),
        (404, 404, "200")
    );

    gate.stop();
    assert_eq!(figures(), "000", "the trial has not waited for the address");
    reload(&trial, "listener 'one' on 127.0.0.1");
    assert_eq!(curl(&format!("https://127.0.0.1:{one}/x"), &[]), "404");
}

#[test]
fn connections_follow_their_listeners_current_rules() {
    let site = Site::pve();
    let [kept, closed, gone] = [free_port(), free_port(), free_port()];
    let tables = |more: &str| table("kept", kept, "") + &table("closed", closed, more);
    let gate = start(&site, &(tables("") + &table("gone", gone, "")), &[]);
    let cookie = site.cookie("root@pam");
    let mut sessions = [kept, closed, gone].map(|port| Session::tls(([127, 0, 0, 1], port).into()));
    for session in &mut sessions {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    site.write(PVE, tables("deny_from = \"127.0.0.1\"\n"));
    reload(&gate, "reloaded changed=\"listener\"");
    let [kept, closed, gone] = &mut sessions;
    let reply = kept.request("GET", VERSION, &cookie, b"");
    assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    closed.send(format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
    assert!(closed.is_closed(), "turned away before its request is read");
    let reply = gone.request("GET", VERSION, &cookie, b"");
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "it ends with this answer");
    assert!(gone.is_closed());
}

/// After a reload a client shows what its listener now requires, or its connection closes.
#[test]
fn connected_clients_must_meet_new_rules() {
    let site = Site::pve();
    site.write("/etc/nodegate/clients.pem", Certificate::ca().certificate_pem());
    let [badge, clear, named] = [free_port(), free_port(), free_port()];
    let tables = |asks: [&str; 3]| {
        table("badge", badge, asks[0]) + &table("clear", clear, asks[1]) + &table("named", named, asks[2])
    };
    let gate = start(&site, &tables(["", "tls = false\n", ""]), &["real_ip.allow_from=127.0.0.9"]);
    let cookie = site.cookie("root@pam");
    let at = |port: u16| ([127, 0, 0, 1], port).into();
    let mut sessions = [Session::tls(at(badge)), Session::plain(at(clear)), Session::tls(at(named))];
    for session in &mut sessions {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    let required = "client_certificates = \"required\"\nclient_ca = \"/etc/nodegate/clients.pem\"\n";
    site.write(PVE, tables([required, "", "proxy_protocol = true\n"]));
    reload(&gate, "reloaded changed=\"listener\"");
    for mut session in sessions {
        session.send(format!("GET {VERSION} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        assert!(session.is_closed(), "turned away before its request is read");
    }
}

/// The new process rejects no connection.
#[test]
fn an_upgrade_keeps_all_listeners_open() {
    let site = Site::pve();
    let port = free_port();
    site.write(PVE, table("other", port, "deny_from = \"127.0.0.2\"\n"));
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let other = gate.listener("other");
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(Session::tls(other).request("GET", "/x", "", b"").status, 404);
                served.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        installed.replace();
        gate.signal(Signal::SIGHUP);
        eventually("the successor serves", || gate.stderr().contains("the successor serves"));
        installed.successor(&gate);
        let before = served.load(Ordering::Relaxed);
        eventually("it answers there", || served.load(Ordering::Relaxed) > before + 20);
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
    assert_eq!(gate.wait().code(), Some(0), "the process before ends with its last connection");
    assert!(Session::try_tls(other).is_ok());
    assert_eq!(super::curl_from("127.0.0.2", &format!("https://{other}/x")), "000", "with the same rules");
    assert!(TcpStream::connect(other).is_ok());
}

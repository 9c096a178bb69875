//! Shares that strangers at one listener cannot take from the others: connections, requests, slots for rejected
//! logins.

use std::net::{SocketAddr, TcpStream};

use super::{PVE, VERSION, start};
use crate::listening::namespace::Namespace;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site};

const PMG: &str = "/etc/nodegate/pmg.toml";

fn public(more: &str) -> String {
    format!(
        "[[listener]]\nname = \"public\"\naddress = \"0.0.0.0\"\nport = 0\nroute_scope = \"quarantine\"\n{more}"
    )
}

#[test]
fn a_crowd_at_one_listener_leaves_others_permits() {
    let site = Site::pve();
    let settings = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\n";
    let gate = start(&site, settings, &["limits.connections=40"]);
    let (crowd, cookie) = (gate.listener("public"), site.cookie("root@pam"));
    let enter = |_: usize| {
        let mut user = Session::tls(crowd);
        (user.request("GET", VERSION, &cookie, b"").status == 200).then_some(user)
    };
    let held: Vec<_> = (0..60).map_while(enter).collect();
    assert_eq!(held.len(), 35, "all but the places of the other listener");
    let mut inside: Vec<_> = (0..4).map(|_| gate.connect()).collect();
    for session in &mut inside {
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    }
    drop(held);
}

#[test]
fn a_listener_may_have_fewer_connections() {
    let site = Site::pve();
    let settings = "[[listener]]\nname = \"small\"\naddress = \"127.0.0.1\"\nport = 0\nconnections = 2\n";
    let gate = start(&site, settings, &[]);
    let small = gate.listener("small");
    let mut inside: Vec<_> = (0..2).map(|_| Session::tls(small)).collect();
    for session in &mut inside {
        assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    let reply = Session::tls(small).request("GET", VERSION, "", b"");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{}", reply.text());
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    site.write(PVE, settings.replace("connections = 2", "connections = 3"));
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("one more after a reload", || {
        Session::tls(small).request("GET", VERSION, &site.cookie("root@pam"), b"").status == 200
    });
}

#[test]
fn an_address_has_64_connections_to_the_public() {
    let Some(space) = Namespace::new() else { return };
    for address in ["192.0.2.50/32", "192.0.2.51/32"] {
        space.ip(&["addr", "add", address, "dev", "lo"]);
    }
    let site = Site::pmg();
    space.inside(|| {
        site.write(PMG, public(""));
        let gate = Nodegate::start(&site, &["listen.address=0.0.0.0"]);
        let port = gate.listener("public").port();
        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let status = |address| Session::tls(address).request("GET", "/nope", "", b"").status;
        let held: Vec<_> = (0..64).map(|_| TcpStream::connect(at("192.0.2.50", port)).unwrap()).collect();
        eventually("the next one is refused", || {
            let reply = Session::tls(at("192.0.2.50", port)).request("GET", "/nope", "", b"");
            reply.status == 429 && reply.text().contains("64 are open")
        });
        assert_eq!(status(at("192.0.2.51", port)), 404, "another address");
        assert_eq!(status(at("192.0.2.50", gate.port())), 404, "the same address at the other listener");
        drop(held);
        eventually("its places are free again", || status(at("192.0.2.50", port)) == 404);
    });
}

#[test]
fn limits_of_a_listener_are_shown_and_checked() {
    let site = Site::pmg();
    site.write(PMG, public("") + "[[listener]]\nname = \"inside\"\nport = 8443\n");
    let outcome = Outcome::check(&site, &[]);
    let shown = |key: &str| {
        let start = format!("{key} = ");
        let line = outcome.stdout.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned));
        line.unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
    };
    let values = [1, 2].map(|number| shown(&format!("listener[{number}].connections_per_address")));
    assert_eq!(values, ["64", "0"], "{}", outcome.stdout);
    assert_eq!(shown("listener[1].connections"), "0");
    let set = Outcome::check(&site, &["limits.connections_per_address=100"]);
    assert!(set.stdout.contains("listener[1].connections_per_address = 100  (--set)"), "{}", set.stdout);
    site.write(PMG, public("connections = \"many\"\nrequests_per_address = -1\n"));
    let outcome = Outcome::check(&site, &[]);
    let file = site.path(PMG).display().to_string();
    for (line, key, value) in [(6, "connections", "many"), (7, "requests_per_address", "-1")] {
        outcome.complains(&format!(
            "{file}:{line}: listener[1].{key}: must be a whole number from 0 to 1048576, not '{value}'"
        ));
    }
    assert_eq!(outcome.code, 1);
}

#[test]
fn requests_are_limited_for_each_listener() {
    let site = Site::pve();
    let settings = "[real_ip]\nheader = \"X-Real-IP\"\nallow_from = [\"127.0.0.1\"]\n\
        [[listener]]\nname = \"small\"\naddress = \"127.0.0.1\"\nport = 0\nrequests_per_address = 1\n";
    let gate = start(&site, settings, &[]);
    let small = gate.listener("small");
    let headers = site.cookie("root@pam") + "X-Real-IP: 192.0.2.7\r\n";
    let mut slow = Session::tls(small);
    slow.send(format!("GET /api2/json/standin/slow?ms=3000 HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
    eventually("it is with the daemon", || site.daemon.requests().len() == 1);
    assert_eq!(Session::tls(small).request("GET", VERSION, &headers, b"").status, 429);
    assert_eq!(gate.get(VERSION, &headers).status, 200, "at the other listener");
    assert_eq!(slow.reply(false).status, 200);
}

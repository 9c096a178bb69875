//! Where it listens: families, names, zones, and what is said when that cannot be.

pub mod namespace;
mod socket;
mod zones;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::support::{Nodegate, Outcome, Session, Site};

fn serves(address: SocketAddr) -> bool {
    Session::try_tls(address).is_ok_and(|mut session| session.request("GET", "/x", "", b"").status == 404)
}

fn on(address: &str, gate: &Nodegate) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), gate.port())
}

/// Runs what must not start, and gives what it said.
fn refused(site: &Site, sets: &[&str]) -> String {
    let outcome = Outcome::of(&mut Nodegate::prepared(site, "pve", sets));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    outcome.stderr
}

#[test]
fn the_wildcard_serves_both_families() {
    let site = Site::pve();
    for address in ["::", "[::]", "", "*"] {
        let gate = Nodegate::start(&site, &[&format!("listen.address={address}")]);
        assert!(gate.address().ip().is_unspecified() && gate.address().is_ipv6(), "{address}");
        assert!(serves(on("127.0.0.1", &gate)), "{address}");
        assert!(serves(on("::1", &gate)), "{address}");
    }
}

#[test]
fn one_address_serves_only_its_family() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["listen.address=127.0.0.5"]);
    assert_eq!(gate.address().ip(), Ipv4Addr::new(127, 0, 0, 5));
    assert!(serves(on("127.0.0.5", &gate)));
    assert!(!serves(on("127.0.0.1", &gate)));
    let gate = Nodegate::start(&site, &["listen.address=0.0.0.0"]);
    assert!(serves(on("127.0.0.5", &gate)));
    assert!(!serves(on("::1", &gate)));
    for address in ["::1", "[::1]"] {
        let gate = Nodegate::start(&site, &[&format!("listen.address={address}")]);
        assert!(serves(on("::1", &gate)));
        assert!(!serves(on("127.0.0.1", &gate)));
    }
}

#[test]
fn legacy_listen_ip_is_used() {
    let site = Site::pve();
    site.legacy("LISTEN_IP=\"127.0.0.6\"\n");
    assert_eq!(Nodegate::start(&site, &[]).address().ip(), Ipv4Addr::new(127, 0, 0, 6));
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    assert_eq!(gate.address().ip(), Ipv4Addr::new(127, 0, 0, 6));
}

#[test]
fn a_host_name_is_resolved() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["listen.address=localhost"]);
    assert!(gate.address().ip().is_loopback());
    assert!(serves(gate.address()));
    let error = refused(&site, &["listen.address=no-such-host.invalid"]);
    assert!(
        error.contains("--set: listen.address: the name 'no-such-host.invalid' has no address: "),
        "{error}"
    );
}

#[test]
fn an_address_of_another_machine_is_named() {
    let site = Site::pve();
    for address in ["192.0.2.77", "2001:db8::77"] {
        let set = format!("listen.address={address}");
        let line = format!("--set: listen.address: {address} is not an address of this machine");
        let error = refused(&site, &[&set]);
        assert!(error.lines().any(|said| said == line), "{error}");
        let outcome = Outcome::check(&site, &[&set]);
        assert_eq!(outcome.code, 1);
        outcome.complains(&line);
    }
    site.legacy("LISTEN_IP=192.0.2.77\n");
    let place = site.path("/etc/default/pveproxy").display().to_string();
    let line = format!("{place}:1: listen.address: 192.0.2.77 is not an address of this machine");
    assert!(refused(&site, &[]).lines().any(|said| said == line));
}

#[test]
fn a_port_in_use_is_named() {
    let site = Site::pve();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let line = format!("--set: listen.port: port {port} on 127.0.0.1 is in use by another process");
    let error = refused(&site, &[&format!("listen.port={port}")]);
    assert!(error.lines().any(|said| said == line), "{error}");
    let error = refused(&site, &[&format!("listen.port={port}"), "listen.address=::"]);
    assert!(error.contains(&format!("port {port} on :: is in use by another process")), "{error}");
}

#[test]
fn run_and_check_reject_an_invalid_address() {
    let site = Site::pve();
    for (wrong, reason) in [
        ("127.0.0.1%lo", "'127.0.0.1%lo': only an IPv6 address takes a %zone"),
        ("fe80::1%", "'fe80::1%': the zone after % is missing"),
        ("nonsense%lo", "'nonsense%lo': no IPv6 address before %"),
        ("1.2.3.4.5", "'1.2.3.4.5' is neither an address nor a host name"),
        ("127.0.0.1:8006", "'127.0.0.1:8006' is neither an address nor a host name"),
    ] {
        let set = format!("listen.address={wrong}");
        let line = format!("--set: listen.address: {reason}");
        let error = refused(&site, &[&set]);
        assert!(error.lines().any(|said| said == line), "{error}");
        Outcome::check(&site, &[&set]).complains(&line);
    }
}

//! The PROXY protocol on incoming connections: versions 1 and 2, only from listed proxies, before anything else.

use std::time::Duration;

use super::ECHO;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const ON: &str = "listen.proxy_protocol=1";
const PROXY: &str = "127.0.0.8";
const LISTED: &str = "real_ip.allow_from=127.0.0.8";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8006\r\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, rest].concat()
}

/// The client address that the daemon gets.
fn reported(site: &Site, gate: &Nodegate, header: &[u8], more: &str) -> String {
    let mut session = Session::tls_behind(header, PROXY, gate.address()).unwrap();
    let reply = session.request("GET", ECHO, &(site.cookie("root@pam") + more), b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    site.daemon.last().header("PVEClientIP").unwrap().to_owned()
}

#[test]
fn proxy_headers_of_listed_proxies_count() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[ON, LISTED, "real_ip.header=X-Forwarded-For"]);
    let v4 = [192, 0, 2, 8, 10, 0, 0, 1, 1, 2, 3, 4];
    let with_tlvs = [&v4[..], &[4, 0, 1, 0, 3, 0, 4, 9, 9, 9, 9]].concat();
    let cases: &[(Vec<u8>, &str)] = &[
        (V1.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), PROXY),
        (v2(0x21, 0x11, &v4), "192.0.2.8"),
        (v2(0x21, 0x11, &with_tlvs), "192.0.2.8"),
        (v2(0x20, 0x00, &[]), PROXY),
        (v2(0x21, 0x00, &[]), PROXY),
    ];
    for (header, client) in cases {
        assert_eq!(reported(&site, &gate, header, ""), *client);
    }
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    assert_eq!(reported(&site, &gate, V1, forged), "192.0.2.7", "the client behind it is no proxy");
    let log = site.access_log();
    assert!(log.lines().any(|line| line.starts_with("2001:db8::7 - root@pam [")), "{log}");
}

#[test]
fn unlisted_or_headerless_peers_are_rejected() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[ON, LISTED, "timeout.first_byte=1"]);
    let refused = |from: &str, header: &[u8]| Session::tls_behind(header, from, gate.address()).is_err();
    assert!(refused("127.0.0.9", V1), "another peer");
    eventually("it is in the log", || site.access_log().contains("127.0.0.9 - - ["));
    assert!(refused(PROXY, b""), "no header, but TLS");
    assert!(refused(PROXY, b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n"), "half of one");
    assert!(refused(PROXY, &v2(0x21, 0x11, &[0; 5000])), "too long");
    eventually("that is in the log too", || site.access_log().matches("] \"-\" 400 -").count() == 3);
    let mut silent = Session::plain_from(PROXY, gate.address());
    silent.send(b"PROXY TCP4 ");
    assert!(silent.is_closed());
    eventually("and that", || site.access_log().contains("] \"-\" 408 -"));
}

#[test]
fn access_list_and_limits_use_proxied_addresses() {
    let site = Site::pve();
    let sets = [
        ON,
        LISTED,
        "real_ip.apply_acl=1",
        "acl.deny_from=198.51.100.0/24",
        "limits.connections_per_address=1",
    ];
    let gate = Nodegate::start(&site, &sets);
    let open = |client: &str| {
        let header = format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n");
        let mut session = Session::tls_behind(header.as_bytes(), PROXY, gate.address()).ok()?;
        let status = session.request("GET", "/x", "", b"").status;
        Some((session, status))
    };
    assert!(open("198.51.100.1").is_none(), "the access list");
    eventually("it is in the log", || site.access_log().contains("198.51.100.1 - - ["));
    let (kept, status) = open("192.0.2.7").unwrap();
    assert_eq!(status, 404);
    assert_eq!(open("192.0.2.7").map(|(_, status)| status), Some(429), "one connection for each");
    assert_eq!(open("192.0.2.8").map(|(_, status)| status), Some(404), "another client");
    drop(kept);
    eventually("its place is free again", || {
        std::thread::sleep(Duration::from_millis(20));
        open("192.0.2.7").is_some_and(|(_, status)| status == 404)
    });
}

#[test]
fn each_listener_has_its_proxy_protocol() {
    let site = Site::pve();
    site.write(
        "/etc/nodegate/pve.toml",
        "[[listener]]\nname = \"proxied\"\naddress = \"127.0.0.1\"\nport = 0\nproxy_protocol = true\ntls = false\n",
    );
    let gate = Nodegate::start(&site, &[LISTED]);
    let mut session = Session::plain_from(PROXY, gate.listener("proxied"));
    session.send(V1);
    let cookie = site.cookie("root@pam");
    assert_eq!(session.request("GET", ECHO, &cookie, b"").status, 200);
    assert_eq!(site.daemon.last().header("PVEClientIP"), Some("192.0.2.7"));
    assert!(Session::tls_behind(V1, PROXY, gate.address()).is_err());
    assert_eq!(gate.get(ECHO, &cookie).status, 200);
}

//! The access list as clients meet it: turned away before a byte is read.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::nodegate::{TIMEOUT, eventually};
use crate::support::{Nodegate, Site};

fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// All that comes before the end, be that a close or a reset.
fn received(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("neither an answer nor an end")
        }
        Ok(_) | Err(_) => all,
    }
}

/// Whether a client with this address is let in: it gets the redirect of plain HTTP, or nothing at all.
fn is_served(from: &str, to: SocketAddr) -> bool {
    let mut stream = connect(from, to);
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n");
    let answer = received(stream);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 301 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    !answer.is_empty()
}

fn on(address: &str, gate: &Nodegate) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), gate.port())
}

#[test]
fn a_denied_client_is_rejected_before_it_sends() {
    let site = Site::pve();
    site.legacy("DENY_FROM=127.0.0.9\n");
    let gate = Nodegate::start(&site, &["timeout.header=3600"]);
    let before = Instant::now();
    assert_eq!(received(connect("127.0.0.9", gate.address())), b"");
    assert!(before.elapsed() < Duration::from_secs(10), "it was not kept waiting for a first byte");
    let line =
        regex::Regex::new(r#"(?m)^127\.0\.0\.9 - - \[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "-" 403 -$"#);
    let line = line.unwrap();
    eventually("the line in the access log", || line.is_match(&site.access_log()));
    assert_eq!(site.access_log().lines().count(), 1);
    assert!(!is_served("127.0.0.9", gate.address()));
    assert!(is_served("127.0.0.8", gate.address()));
}

#[test]
fn the_truth_table_holds_for_real_connections() {
    let lists = ["acl.allow_from=127.0.0.1,127.0.0.3", "acl.deny_from=127.0.0.2 - 127.0.0.3"];
    let table = [
        ("127.0.0.1", true, true),
        ("127.0.0.2", false, false),
        ("127.0.0.3", true, false),
        ("127.0.0.4", true, false),
    ];
    let site = Site::pve();
    let lenient = Nodegate::start(&site, &[lists[0], lists[1], "acl.policy=allow"]);
    let strict = Nodegate::start(&site, &[lists[0], lists[1], "acl.policy=deny"]);
    let unset = Nodegate::start(&site, &lists);
    for (client, allow, deny) in table {
        assert_eq!(is_served(client, lenient.address()), allow, "{client}, policy allow");
        assert_eq!(is_served(client, unset.address()), allow, "{client}, no policy");
        assert_eq!(is_served(client, strict.address()), deny, "{client}, policy deny");
    }
}

#[test]
fn examples_of_the_manual_behave_as_described() {
    let site = Site::pve();
    site.legacy("ALLOW_FROM=\"127.0.0.1-127.0.0.5,127.0.4.0/22\"\nDENY_FROM=\"all\"\nPOLICY=\"allow\"\n");
    let gate = Nodegate::start(&site, &["acl.policy=deny"]);
    for client in ["127.0.0.1", "127.0.0.6", "127.0.4.1"] {
        assert!(!is_served(client, gate.address()), "{client}: on both lists, and the policy is deny");
    }
    let gate = Nodegate::start(&site, &[]);
    for (client, served) in
        [("127.0.0.5", true), ("127.0.7.255", true), ("127.0.0.6", false), ("127.0.8.0", false)]
    {
        assert_eq!(is_served(client, gate.address()), served, "{client}");
    }
}

/// nodegate verifies and logs an IPv4 client of a dual-stack socket as IPv4.
#[test]
fn dual_stack_ipv4_clients_count_as_ipv4() {
    let site = Site::pve();
    for (index, list) in ["127.0.0.9", "::ffff:127.0.0.9", "127.0.0.8 + 1"].into_iter().enumerate() {
        let gate = Nodegate::start(&site, &["listen.address=::", &format!("acl.deny_from={list}")]);
        assert!(gate.address().is_ipv6());
        assert!(!is_served("127.0.0.9", on("127.0.0.1", &gate)), "{list}");
        assert!(is_served("127.0.0.7", on("127.0.0.1", &gate)), "{list}");
        assert!(is_served("::1", on("::1", &gate)), "{list}");
        let lines = || site.access_log().matches("127.0.0.9 - - [").count();
        eventually("its line in the log", || lines() == index + 1);
    }
    assert!(!site.access_log().contains("::ffff:"));
}

#[test]
fn access_lists_apply_to_ipv6_clients() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["listen.address=::", "acl.deny_from=::/0"]);
    assert!(!is_served("::1", on("::1", &gate)));
    assert!(is_served("127.0.0.1", on("127.0.0.1", &gate)), "::/0 holds no IPv4 client");
    eventually("the line in the access log", || site.access_log().contains("::1 - - ["));
    let gate = Nodegate::start(&site, &["listen.address=::", "acl.allow_from=::1", "acl.policy=deny"]);
    assert!(is_served("::1", on("::1", &gate)));
    assert!(!is_served("127.0.0.1", on("127.0.0.1", &gate)));
}

#[test]
fn the_tunnel_port_rejects_denied_clients() {
    let site = Site::pve();
    site.legacy("DENY_FROM=127.0.0.9\n");
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    assert_eq!(received(connect("127.0.0.9", gate.address())), b"");
    eventually("the line in the access log", || site.access_log().contains("127.0.0.9 - - ["));
    let mut allowed = connect("127.0.0.8", gate.address());
    allowed.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(received(allowed).starts_with(b"HTTP/1.1 "));
}

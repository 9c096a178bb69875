//! Machines on other nodes: one hop more, and never two.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodegate_standin::now;
use socket2::{Domain, Socket, Type};

use super::{Viewer, echoing_machine, gate, ports, refusal_to, refused, silent_port, viewer_head};
use crate::support::nodegate::wait_for_next_poll;
use crate::support::{Deaf, Nodegate, Site};

/// node1 is here, Node2 is 127.0.0.2, node3 was never seen.
const MEMBERS: &str = r#"{"nodename":"node1","version":3,
    "cluster":{"name":"c","version":3,"nodes":3,"quorate":1},
    "nodelist":{"node1":{"id":1,"online":1,"ip":"127.0.0.1"},
    "Node2":{"id":2,"online":1,"ip":"127.0.0.2"},"node3":{"id":3,"online":0}}}"#;

/// A first hop whose peers are on that port.
fn first_hop(peer_port: u16) -> (Site, Nodegate) {
    let site = Site::pve();
    site.write("/etc/pve/.members", MEMBERS);
    let gate = gate(&site, &[&format!("tunnel.peer_port={peer_port}")]);
    (site, gate)
}

fn target_on(site: &Site, node: &str, port: u16) -> String {
    site.keys.spice_target(node, 100, port, now())
}

/// Node2 as a script: reads one head, gives this answer, and says what it read.
fn scripted_node(answer: &'static [u8]) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reading = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let head = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        stream.write_all(answer).unwrap();
        head
    });
    (port, reading)
}

#[test]
fn two_nodegates_make_one_tunnel() {
    let machine = echoing_machine();
    let second_site = Site::pve();
    second_site.write("/etc/pve/.members", MEMBERS);
    let second = gate(&second_site, &["listen.address=127.0.0.2", "node.name=node2"]);
    let (site, first) = first_hop(second.port());
    let port = machine.address().port();
    for target in [target_on(&site, "node2", port), site.keys.spice_target_old("node2", 100, port, now())] {
        let mut viewer = Viewer::connect(&first);
        viewer.send(viewer_head(&target) + "early");
        viewer.expect(b"HTTP/1.0 200 OK\r\n\r\nearly");
        viewer.send("and late");
        viewer.end();
        assert_eq!(viewer.rest(), b"and late");
    }
}

/// It gets the client's address, and learns that it is the last hop.
#[test]
fn the_next_hop_learns_client_and_limit() {
    let (port, node) = scripted_node(b"HTTP/1.0 200 OK\r\n\r\nwelcome");
    let (site, gate) = first_hop(port);
    let target = target_on(&site, "node2", 61_000);
    let mut viewer = Viewer::connect(&gate);
    // A viewer's claims about itself go no further.
    let claims = "PVEClientIP: 192.0.2.66\r\nCookie: PVEAuthCookie=x\r\n\r\n";
    viewer.send(viewer_head(&target).trim_end().to_owned() + "\r\n" + claims);
    viewer.expect(b"HTTP/1.0 200 OK\r\n\r\nwelcome");
    let head = node.join().unwrap();
    assert_eq!(head[0], format!("CONNECT {target} HTTP/1.0"));
    assert!(head.contains(&format!("Host: {target}")), "{head:?}");
    let named = |name: &str| head.iter().filter(|line| line.to_lowercase().starts_with(name)).count();
    assert!(head.contains(&"PVEDisableProxy: true".to_owned()) && named("pvedisableproxy:") == 1, "{head:?}");
    assert!(head.contains(&"PVEClientIP: 127.0.0.1".to_owned()) && named("pveclientip:") == 1, "{head:?}");
    assert_eq!(named("cookie:"), 0);
}

#[test]
fn what_the_next_hop_refuses_is_refused() {
    for (answer, status, reason, body) in [
        (&b"HTTP/1.0 401 invalid ticket\r\n\r\n"[..], 401, "invalid ticket", "status 401: invalid ticket"),
        (
            b"HTTP/1.0 401 invalid ticket\r\n\r\ninvalid ticket",
            401,
            "invalid ticket",
            "status 401: invalid ticket",
        ),
        (b"HTTP/1.0 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, "Forbidden", "status 403: Forbidden"),
        (b"HTTP/1.0 500 proxy loop detected\r\n\r\n", 500, "proxy loop detected", ": proxy loop detected"),
        (
            b"HTTP/1.0 503 n\xc3\xb6\r\nContent-Length: 4\r\n\r\nwait",
            503,
            "n\u{f6}",
            "status 503: n\u{f6}: wait",
        ),
        (b"HTTP/1.0 504 Gateway Timeout\r\n\r\nno\r\nX: y", 504, "no  X: y", "status 504: no  X: y"),
        (b"HTTP/1.0 599\r\n\r\n", 599, "Refused", "refused with status 599"),
        (b"HTTP/1.0 100 Continue\r\n\r\n", 502, "Continue", "refused with status 100: Continue"),
        (b"HTTP/1.0 302 Found\r\n\r\n", 502, "Found", "refused with status 302: Found"),
        (b"", 502, "Bad Gateway", "closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 502, "Bad Gateway", "malformed"),
    ] {
        let (port, node) = scripted_node(answer);
        let (site, gate) = first_hop(port);
        let reply = refusal_to(&gate, viewer_head(&target_on(&site, "node2", 61_000)));
        let case = String::from_utf8_lossy(answer);
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{case}");
        assert!(reply.text().contains(body), "{case}: {}", reply.text());
        assert!(reply.text().contains("Node2"), "{case}: {}", reply.text());
        node.join().unwrap();
    }
}

#[test]
fn the_second_nodegates_reason_reaches_the_viewer() {
    let second_site = Site::pve();
    second_site.write("/etc/pve/.members", MEMBERS);
    let second = gate(&second_site, &["listen.address=127.0.0.2", "node.name=node2"]);
    let (site, first) = first_hop(second.port());
    // The key of the ticket is the cluster's, the stand-in sites have one each.
    let silent = silent_port();
    let secret = std::fs::read(site.path("/etc/pve/pve-www.key")).unwrap();
    let asked = || refusal_to(&first, viewer_head(&target_on(&site, "node2", silent.port)));
    second_site.write("/etc/pve/pve-www.key", "another secret");
    let reply = asked();
    assert_eq!((reply.status, reply.reason.as_str()), (401, "invalid ticket"));
    assert_eq!(reply.text(), "node 'Node2' refused with status 401: invalid ticket");
    second_site.write("/etc/pve/pve-www.key", secret);
    wait_for_next_poll();
    let reply = asked();
    let reason = format!("cannot connect to port {}: connection refused", silent.port);
    assert_eq!((reply.status, reply.reason.as_str()), (502, reason.as_str()));
    assert_eq!(reply.text(), format!("node 'Node2' refused with status 502: {reason}"));
}

#[test]
fn a_stopped_node_is_a_named_502() {
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let port = held.local_addr().unwrap().as_socket().unwrap().port();
    let (site, gate) = first_hop(port);
    let reply = refusal_to(&gate, viewer_head(&target_on(&site, "node2", 61_000)));
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains(&format!("'Node2' at 127.0.0.2:{port}")), "{}", reply.text());
}

/// It is sent before the viewer gives up.
#[test]
fn a_hanging_node_is_an_early_504() {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let (site, gate) = first_hop(listener.local_addr().unwrap().port());
    let started = Instant::now();
    assert_eq!(refused(&gate, &target_on(&site, "node2", 61_000)).0, 504);
    let took = started.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

/// Behind another hop it comes sooner.
#[test]
fn an_unresponsive_machine_is_a_504() {
    let machine = Deaf::listen(ports());
    let (site, gate) = first_hop(1);
    let target = target_on(&site, "node1", machine.address.port());
    let looped = viewer_head(&target).replace("\r\n\r\n", "\r\nPVEDisableProxy: true\r\n\r\n");
    std::thread::scope(|scope| {
        for (head, seconds) in [(viewer_head(&target), 8), (looped, 5)] {
            let gate = &gate;
            scope.spawn(move || {
                let started = Instant::now();
                assert_eq!(refusal_to(gate, head).status, 504);
                let took = started.elapsed().as_secs_f64();
                assert!(
                    (f64::from(seconds) - 0.5..f64::from(seconds) + 2.0).contains(&took),
                    "{took} {seconds}"
                );
            });
        }
    });
}

#[test]
fn a_forwarded_tunnel_makes_no_second_hop() {
    let (site, gate) = first_hop(1);
    let head = viewer_head(&target_on(&site, "node2", 61_000));
    for line in ["PVEDisableProxy: true", "pvedisableproxy: 1"] {
        let reply = refusal_to(&gate, head.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")));
        assert_eq!((reply.status, reply.reason.as_str()), (500, "proxy loop detected"));
    }
}

#[test]
fn unknown_and_offline_nodes_are_a_502() {
    let (site, gate) = first_hop(1);
    let reply = refusal_to(&gate, viewer_head(&target_on(&site, "elsewhere", 61_000)));
    assert_eq!(reply.status, 502);
    let text = reply.text();
    for name in ["elsewhere", "node1", "Node2", "node3"] {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(refused(&gate, &target_on(&site, "node3", 61_000)).0, 502);
    site.write("/etc/pve/.members", "no JSON");
    wait_for_next_poll();
    let reply = refusal_to(&gate, viewer_head(&target_on(&site, "node2", 61_000)));
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("nodes"), "{}", reply.text());
}

/// The case of the letters does not matter.
#[test]
fn localhost_and_own_name_are_local() {
    let (site, machine) = (Site::pve(), echoing_machine());
    let gate = gate(&site, &["node.name=NodeOne"]);
    let port = machine.address().port();
    for node in ["localhost", "nodeone", "NODEONE"] {
        let mut viewer = Viewer::tunnel(&gate, &target_on(&site, node, port));
        viewer.send(node);
        viewer.expect(node.as_bytes());
    }
    let silent = silent_port();
    assert_eq!(refused(&gate, &target_on(&site, "nodeone", silent.port)).0, 502);
}

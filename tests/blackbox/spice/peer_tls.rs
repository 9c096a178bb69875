//! Machines on other nodes, by TLS between the nodes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nodegate_standin::{KeyKind, now};

use super::{Viewer, echoing_machine, refusal_to, viewer_head};
use crate::cluster::machines::{Cluster, ca};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, tls_server};

/// The tunnel-only port of node2, and how many connections have come there.
struct ClearPort {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl ClearPort {
    /// Accepts every client, and echoes the bytes behind the head.
    fn of_node2() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let (address, came) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&came);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        head.extend(byte);
                    }
                    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
                    let mut sink = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut sink);
                });
            }
        });
        Self { address, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }
}

/// node1 for viewers; what it takes from node2 in the clear is on that port.
fn first(cluster: &Cluster, clear: &ClearPort, sets: &[&str]) -> Nodegate {
    let cluster_port = format!("cluster.port={}", cluster.port);
    let peer_port = format!("tunnel.peer_port={}", clear.address.port());
    let own = ["tunnel.peer_tls=true", &cluster_port, &peer_port];
    Nodegate::start_profile(&cluster.nodes[0].site, "spice", &[&own, sets].concat())
}

fn target(cluster: &Cluster, port: u16) -> String {
    cluster.nodes[0].site.keys.spice_target("node2", 100, port, now())
}

fn refused(gate: &Nodegate, cluster: &Cluster) -> Reply {
    refusal_to(gate, viewer_head(&target(cluster, 61_000)))
}

#[test]
fn two_nodegates_tunnel_over_tls_only() {
    let (cluster, clear, machine) = (Cluster::pve(2), ClearPort::of_node2(), echoing_machine());
    let second = cluster.start(2, &["tunnel.connect_on_https=true"]);
    let first = first(&cluster, &clear, &[]);
    for _ in 0..2 {
        let mut viewer = Viewer::connect(&first);
        viewer.send(viewer_head(&target(&cluster, machine.address().port())) + "early");
        viewer.expect(b"HTTP/1.0 200 OK\r\n\r\nearly");
        viewer.send("and late");
        viewer.end();
        assert_eq!(viewer.rest(), b"and late");
    }
    assert_eq!(clear.came(), 0);
    let log = &cluster.nodes[1].site;
    eventually("the second hop is in its log", || log.access_log().matches("\"CONNECT ").count() == 2);
    eventually("the second hop has ended", || second.stderr().matches("tunnel ended").count() == 2);
    let signature = regex::Regex::new("[0-9a-f]{40}").unwrap();
    for reported in [first.stderr(), second.stderr(), log.access_log()] {
        assert!(!signature.is_match(&reported), "{reported}");
    }
}

#[test]
fn megabytes_go_both_ways_by_tls_between_nodes() {
    let (cluster, clear, machine) = (Cluster::pve(2), ClearPort::of_node2(), echoing_machine());
    let _second = cluster.start(2, &["tunnel.connect_on_https=true"]);
    let first = first(&cluster, &clear, &[]);
    let mut viewer = Viewer::tunnel(&first, &target(&cluster, machine.address().port()));
    let sent = super::bytes::pattern(8_000_001);
    let mut sender = viewer.0.try_clone().unwrap();
    let copy = sent.clone();
    let sending = std::thread::spawn(move || {
        sender.write_all(&copy).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(viewer.rest() == sent);
    sending.join().unwrap();
}

#[test]
fn an_api_port_viewer_forwards_over_tls() {
    let (cluster, clear, machine) = (Cluster::pve(2), ClearPort::of_node2(), echoing_machine());
    let _second = cluster.start(2, &["tunnel.connect_on_https=true"]);
    let peer_port = format!("tunnel.peer_port={}", clear.address.port());
    let sets = ["tunnel.connect_on_https=true", "tunnel.peer_tls=true", &peer_port];
    let first = cluster.start(1, &sets);
    let mut viewer = super::over_tls::sealed(&first, &target(&cluster, machine.address().port()));
    viewer.send("hello");
    assert_eq!(viewer.take(5), b"hello");
    assert_eq!(clear.came(), 0);
}

/// A node that does not accept CONNECT over TLS gets the request in plaintext; the next one goes there at once.
#[test]
fn plaintext_fallback_is_remembered() {
    for answer in [
        "HTTP/1.1 501 method 'CONNECT' not available\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (cluster, clear) = (Cluster::pve(2), ClearPort::of_node2());
        let original = tls_server(("127.0.0.2", cluster.port), &cluster.nodes[1].certificate, answer);
        let first = first(&cluster, &clear, &[]);
        let mut tunnel = Viewer::tunnel(&first, &target(&cluster, 61_000));
        tunnel.send("hello");
        tunnel.expect(b"hello");
        drop(original);
        Viewer::tunnel(&first, &target(&cluster, 61_000));
        assert_eq!(clear.came(), 2, "{answer}");
        eventually("it is logged", || first.stderr().contains("using plaintext"));
        assert_eq!(first.stderr().matches("using plaintext").count(), 1, "{}", first.stderr());
    }
}

#[test]
fn nodegate_without_https_tunnels_gets_plaintext() {
    let (cluster, machine) = (Cluster::pve(2), echoing_machine());
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[1].site;
    let tunnels = Nodegate::start_profile(site, "spice", &["node.name=node2", "listen.address=127.0.0.2"]);
    let clear = ClearPort { address: tunnels.address(), came: Arc::default() };
    let first = first(&cluster, &clear, &[]);
    let mut viewer = Viewer::tunnel(&first, &target(&cluster, machine.address().port()));
    viewer.send("hello");
    viewer.expect(b"hello");
}

#[test]
fn any_other_refusal_is_one() {
    for (answer, status) in [
        ("HTTP/1.0 401 invalid ticket\r\n\r\n", 401),
        ("HTTP/1.0 403 Forbidden\r\n\r\n", 403),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", 502),
        ("HTTP/1.1 404 Not Found\r\n\r\n", 404),
        ("SSH-2.0-OpenSSH_9.2\r\n", 502),
        ("", 502),
    ] {
        let (cluster, clear) = (Cluster::pve(2), ClearPort::of_node2());
        let _node = tls_server(("127.0.0.2", cluster.port), &cluster.nodes[1].certificate, answer);
        let first = first(&cluster, &clear, &[]);
        for _ in 0..2 {
            assert_eq!(refused(&first, &cluster).status, status, "{answer}");
        }
        assert_eq!(clear.came(), 0, "{answer}");
    }
}

/// An attacker between the nodes can break TLS, or answer by it with another certificate: neither gets a ticket to
/// read.
#[test]
fn an_attacker_cannot_force_plaintext() {
    let (cluster, clear) = (Cluster::pve(2), ClearPort::of_node2());
    let first = first(&cluster, &clear, &["timeout.connect=2"]);
    let reply = refused(&first, &cluster);
    assert!(reply.status == 502 && reply.text().contains("refused"), "{}", reply.text());

    let there = ("127.0.0.2", cluster.port);
    let no = "HTTP/1.1 501 method 'CONNECT' not available\r\n\r\n";
    let other = tls_server(there, &ca().issue("node2", &[], KeyKind::EcP256), no);
    let reply = refused(&first, &cluster);
    assert!(reply.status == 502 && reply.text().contains("expected fingerprint"), "{}", reply.text());
    drop(other);

    let mut free = None;
    eventually("the other server has left", || {
        free = TcpListener::bind(there).ok();
        free.is_some()
    });
    let garbage = free.unwrap();
    let talking = std::thread::spawn(move || {
        let mut stream = garbage.accept().unwrap().0;
        stream.write_all(no.as_bytes()).unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard
    });
    assert_eq!(refused(&first, &cluster).status, 502);
    let heard = String::from_utf8_lossy(&talking.join().unwrap()).into_owned();
    assert!(!heard.contains("spiceproxy"), "{heard}");
    assert_eq!(clear.came(), 0);
}

#[test]
fn a_silent_node_times_out() {
    let (mut cluster, clear) = (Cluster::pve(2), ClearPort::of_node2());
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    cluster.port = listener.local_addr().unwrap().port();
    let first = first(&cluster, &clear, &["timeout.connect=2"]);
    let began = Instant::now();
    assert_eq!(refused(&first, &cluster).status, 504);
    let took = began.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(clear.came(), 0);
}

#[test]
fn a_node_without_certificate_gets_no_request() {
    let (cluster, clear) = (Cluster::pve(2), ClearPort::of_node2());
    std::fs::remove_file(cluster.nodes[0].site.path("/etc/pve/nodes/node2/pve-ssl.pem")).unwrap();
    let first = first(&cluster, &clear, &[]);
    let reply = refused(&first, &cluster);
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("no certificate of node 'node2'"), "{}", reply.text());
    eventually("the log tells where", || first.stderr().contains("/etc/pve/nodes/node2/pve-ssl.pem"));
    assert_eq!(clear.came(), 0);
}

//! Several nodes on one machine: each a nodegate with a stand-in daemon, on 127.0.0.1, .2 and .3.

mod browser;
mod clients;
pub mod machines;
mod originals;

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nodegate_standin::KeyKind;

use crate::status::report;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Site};
use machines::{Cluster, ca};

/// nodegate forwards a call to another node with the headers that it verified, and no others.
#[test]
fn another_node_gets_only_verified_headers() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let headers = site.cookie("root@pam") + "X-Mine: 1\r\nPVEClientIP: 9.9.9.9\r\n" + &site.csrf("root@pam");
    let reply = first.request("PUT", "/api2/json/nodes/node2/standin/echo?a=1", &headers, b"b=2");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let received = cluster.nodes[1].site.daemon.last();
    assert_eq!(
        (received.target.as_str(), received.body.as_slice()),
        ("/api2/json/nodes/node2/standin/echo?a=1", &b"b=2"[..])
    );
    assert_eq!(received.header("PVEClientIP"), Some("127.0.0.1"));
    assert_eq!(received.header("X-Mine"), None);
    assert!(cluster.nodes[0].site.daemon.requests().is_empty());
}

/// The own name and localhost stay here; the error for an unknown name lists the known ones.
#[test]
fn own_names_stay_local() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let site = &cluster.nodes[0].site;
    let cookie = site.cookie("root@pam");
    for name in ["node1", "localhost"] {
        assert_eq!(first.get(&format!("/api2/json/nodes/{name}/status"), &cookie).status, 200, "{name}");
    }
    for (name, hint) in [
        ("NODE2", " (did you mean 'node2'?)"),
        ("node2.example.com", " (did you mean 'node2'?)"),
        ("Node1.Example.COM", " (did you mean 'node1'?)"),
        ("nosuch", ""),
    ] {
        let reply = first.get(&format!("/api2/json/nodes/{name}/status"), &cookie);
        let expected = format!("no such node '{name}'{hint}; nodes are: node1, node2, unseen");
        assert_eq!((reply.status, reply.json()["message"].as_str()), (500, Some(expected.as_str())));
        assert_eq!(reply.reason, expected);
    }
    let reply = first.get("/api2/json/nodes/unseen/status", &cookie);
    assert_eq!(reply.status, 595);
    assert!(reply.text().contains("node 'unseen' has no address yet"), "{}", reply.text());
}

#[test]
fn without_cluster_file_there_is_one_node() {
    for site in [Site::pve(), Site::pmg()] {
        let _ = fs::remove_file(site.path("/etc/pve/.members"));
        let gate = Nodegate::start(&site, &[]);
        for (name, hint) in [("node2", ""), ("NODE1", " (did you mean 'node1'?)")] {
            let reply = gate.get(&format!("/api2/json/nodes/{name}/journal"), &site.cookie("root@pam"));
            let expected = format!("no such node '{name}'{hint}; nodes are: node1");
            assert_eq!((reply.status, reply.reason), (500, expected), "{}", site.profile());
        }
    }
}

/// The error has the node's name and address; calls for other nodes succeed.
#[test]
fn a_failed_node_is_named() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &[]);
    let _third = cluster.start(3, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    let reply = first.get("/api2/json/nodes/node2/status", &cookie);
    assert_eq!(reply.status, 595);
    let text = reply.text();
    let address = format!("node 'node2' at 127.0.0.2:{}", cluster.port);
    assert!(text.contains("Connection refused") && text.contains(&address), "{text}");
    assert!(reply.reason.starts_with("Connection refused"), "{}", reply.reason);
    assert_eq!(first.get("/api2/json/nodes/node3/status", &cookie).status, 200);
    assert_eq!(first.get("/api2/json/nodes/node1/status", &cookie).status, 200);
}

/// The message has both fingerprints.
#[test]
fn a_foreign_node_certificate_is_rejected() {
    let cluster = Cluster::pve(2);
    let stranger = ca().issue("node2", &[], KeyKind::EcP256);
    let second = &cluster.nodes[1];
    second.site.write("/etc/pve/local/pve-ssl.pem", stranger.chain_pem());
    second.site.write("/etc/pve/local/pve-ssl.key", stranger.key_pem());
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    let reply = first.get("/api2/json/nodes/node2/status", &cookie);
    assert_eq!(reply.status, 596);
    let text = reply.text();
    for part in [&stranger.fingerprint(), &second.certificate.fingerprint()] {
        assert!(text.contains(part.as_str()), "{text}");
    }
    assert!(second.site.daemon.requests().is_empty());
}

/// A new certificate is accepted before and after the node serves it.
#[test]
fn custom_node_certificates_come_first() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let cookie = site.cookie("root@pam");
    let status = |gate: &Nodegate| gate.get("/api2/json/nodes/node2/status", &cookie).status;
    assert_eq!(status(&first), 200);
    // Published, not yet served: the old one is still good.
    let renewed = ca().issue("node2", &[], KeyKind::EcP256);
    site.write("/etc/pve/nodes/node2/pveproxy-ssl.pem", renewed.certificate_pem());
    assert_eq!(status(&first), 200);
    drop(second);
    let other = &cluster.nodes[1].site;
    other.write("/etc/pve/local/pveproxy-ssl.pem", renewed.chain_pem());
    other.write("/etc/pve/local/pveproxy-ssl.key", renewed.key_pem());
    let _second = cluster.start(2, &[]);
    assert_eq!(status(&first), 200);
}

/// The connection closes after its last reader.
#[test]
fn reads_share_a_connection_to_another_node() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &["workers=1"]);
    let second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let cookie = site.cookie("root@pam");
    let mut session = first.connect();
    for user in ["root@pam", "other@pve", "root@pam"] {
        let reply = session.request("GET", "/api2/json/nodes/node2/status", &site.cookie(user), b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let connections = || report(&cluster.nodes[1].site, &second, "pve")["connections"].clone();
    assert_eq!(connections()["total"], 1);
    // A write is sent once, on a connection that the node cannot have closed since.
    let headers = cookie + &site.csrf("root@pam");
    let path = "/api2/json/nodes/node2/standin/echo";
    assert_eq!(session.request("PUT", path, &headers, b"a=1").status, 200);
    assert_eq!(connections()["total"], 2);
    eventually("nothing is kept for ever", || connections()["open"] == 0);
}

#[test]
fn a_forwarded_request_is_not_forwarded_again() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    let reply = first.get("/api2/json/nodes/node2/status", &(cookie.clone() + "PVEDisableProxy: true\r\n"));
    assert_eq!((reply.status, reply.json()["message"].as_str()), (500, Some("proxy loop detected")));
    let reply = first.get("/api2/json/nodes/node1/status", &(cookie + "PVEDisableProxy: true\r\n"));
    assert_eq!(reply.status, 200);
}

/// Only its own calls time out.
#[test]
fn a_slow_node_delays_no_other() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &["timeout.answer=2"]);
    let _second = cluster.start(2, &[]);
    let _third = cluster.start(3, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| first.get("/api2/json/nodes/node2/standin/hang", &cookie));
        let before = Instant::now();
        for _ in 0..20 {
            assert_eq!(first.get("/api2/json/nodes/node3/status", &cookie).status, 200);
        }
        assert!(before.elapsed() < Duration::from_secs(20));
        let reply = slow.join().unwrap();
        assert_eq!(reply.status, 596);
        assert!(reply.text().contains("Connection timed out"), "{}", reply.text());
    });
}

#[test]
fn another_node_cannot_name_a_local_file() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    // A node that is no nodegate: its daemon's header comes through.
    let certificate = &cluster.nodes[1].certificate;
    let answer =
        "HTTP/1.1 200 OK\r\npvestreamfile: /etc/passwd\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    let _other = crate::support::tls_server(("127.0.0.2", cluster.port), certificate, answer);
    let reply = first.get("/api2/json/nodes/node2/status", &cookie);
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.header("pvestreamfile").is_none());
}

#[test]
fn members_that_change_are_seen_at_once() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let cookie = site.cookie("root@pam");
    site.write("/etc/pve/.members", r#"{"nodename":"node1","version":0}"#);
    assert_eq!(first.get("/api2/json/nodes/node2/status", &cookie).status, 500);
    site.write("/etc/pve/.members", Cluster::members(3));
    // Its time of change is no guide on a cluster file system.
    let file = fs::File::open(site.path("/etc/pve/.members")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(first.get("/api2/json/nodes/node2/status", &cookie).status, 200);
}

#[test]
fn a_node_with_an_ipv6_address_is_reached() {
    let cluster = Cluster::pve(2);
    let site = &cluster.nodes[0].site;
    site.write("/etc/pve/.members", Cluster::members(2).replace("127.0.0.2", "::1"));
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &["listen.address=::1"]);
    assert_eq!(first.get("/api2/json/nodes/node2/status", &site.cookie("root@pam")).status, 200);
}

#[test]
fn calls_for_the_master_go_there() {
    let cluster = Cluster::pmg(2);
    let master = cluster.start(1, &[]);
    let second = cluster.start(2, &[]);
    let cookie = cluster.nodes[1].site.cookie("root@pam");
    let master_only = "/api2/json/config/domains";
    let anywhere = "/api2/json/version";
    assert_eq!(second.get(anywhere, &cookie).status, 200);
    assert_eq!(cluster.nodes[1].site.daemon.last().target, anywhere);
    second.get(master_only, &cookie);
    assert_eq!(cluster.nodes[0].site.daemon.last().target, master_only);
    master.get(master_only, &cookie);
    assert_eq!(cluster.nodes[0].site.daemon.requests().len(), 2);
    drop(master);
    let reply = second.get(master_only, &cookie);
    assert_eq!(reply.status, 595);
    assert!(reply.text().contains("node 'node1' at 127.0.0.1:"), "{}", reply.text());
}

#[test]
fn unprivileged_calls_go_to_the_unprivileged_daemon() {
    let site = Site::pve();
    let unprivileged = Site::pve();
    let set = format!("backend.unprivileged={}", unprivileged.daemon.address());
    let gate = Nodegate::start(&site, &[&set]);
    let cookie = site.cookie("root@pam");
    for (path, needs_root) in [
        ("/api2/json/cluster/resources", false),
        ("/api2/json/version", false),
        ("/api2/json/nodes/node1/report", true),
        ("/api2/json/newer/than/the/table", false),
    ] {
        gate.get(path, &cookie);
        let (asked, idle) = if needs_root { (&site, &unprivileged) } else { (&unprivileged, &site) };
        assert_eq!(asked.daemon.last().target, path);
        assert!(idle.daemon.requests().iter().all(|request| request.target != path), "{path}");
    }
}

/// If the unprivileged daemon cannot be reached, the one with root answers.
#[test]
fn the_privileged_daemon_answers_as_fallback() {
    let site = Site::pve();
    let gone = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gate = Nodegate::start(&site, &[&format!("backend.unprivileged={gone}")]);
    let path = "/api2/json/cluster/resources";
    assert_eq!(gate.get(path, &site.cookie("root@pam")).status, 200);
    assert_eq!(site.daemon.last().target, path);
}

#[test]
fn only_the_path_chooses_the_node() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let site = &cluster.nodes[0].site;
    for path in
        ["/nodes/node1/status?node=node2", "/nodes/localhost/status?check-node=node2", "/version?node=node2"]
    {
        let path = format!("/api2/json{path}");
        assert_eq!(first.get(&path, &site.cookie("root@pam")).status, 200, "{path}");
        assert_eq!(site.daemon.last().target, path, "the daemon sees what it may refuse");
    }
}

/// A node may refuse the client of another one before it verifies anything.
#[test]
fn another_nodes_403_proves_no_token() {
    let cluster = Cluster::pve(2);
    let proxied = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1", "limits.login_failures=2"];
    let first = cluster.start(1, &proxied);
    let denies = [
        "real_ip.header=PVEClientIP",
        "real_ip.allow_from=127.0.0.1",
        "real_ip.apply_acl=true",
        "acl.deny_from=192.0.2.7",
        "acl.policy=allow",
    ];
    let _second = cluster.start(2, &denies);
    let statuses: Vec<_> = (0..3)
        .map(|secret| {
            let token = format!("Authorization: PVEAPIToken=root@pam!t={secret:08x}-0000\r\n");
            let headers = format!("X-Real-IP: 192.0.2.7\r\n{token}");
            ["/nodes/node2/status", "/version"]
                .map(|path| first.get(&format!("/api2/json{path}"), &headers).status)
        })
        .collect();
    assert_eq!(statuses, [[403, 401], [403, 429], [429, 429]]);
}

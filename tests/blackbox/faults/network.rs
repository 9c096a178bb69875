//! Nodes whose packets are lost: in a network namespace, so that no other test loses any.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::machines::Cluster;
use crate::listening::namespace::Namespace;
use crate::support::nodegate::eventually;

const HERE: &str = "/api2/json/nodes/node1/status";
const THERE: &str = "/api2/json/nodes/node2/status";
const SETS: [&str; 2] = ["timeout.connect=1", "timeout.answer=2"];

/// Runs `nft` in the namespace of the calling thread.
fn nft(commands: &str) {
    let status = Command::new("nft").arg(commands).status().expect("nftables is missing");
    assert!(status.success(), "{commands}");
}

/// Everything for node 2 is dropped on its way in, and its answers with it.
fn cut_off() {
    nft("add table inet cut; add chain inet cut in { type filter hook input priority 0; }; \
        add rule inet cut in ip daddr 127.0.0.2 drop; add rule inet cut in ip saddr 127.0.0.2 drop");
}

fn heal() {
    nft("delete table inet cut");
}

/// They end with a timeout.
#[test]
fn an_unreachable_node_delays_only_its_calls() {
    let Some(space) = Namespace::new() else { return };
    space.inside(|| {
        let cluster = Cluster::pve(2);
        let (gate, _second) = (cluster.start(1, &SETS), cluster.start(2, &[]));
        let cookie = cluster.nodes[0].site.cookie("root@pam");
        assert_eq!(gate.get(THERE, &cookie).status, 200);
        cut_off();
        let before = Instant::now();
        let reply = gate.get(THERE, &cookie);
        assert!(matches!(reply.status, 595 | 596), "{} {}", reply.status, reply.text());
        assert!(reply.text().contains("node 'node2'"), "{}", reply.text());
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        assert_eq!(gate.get(HERE, &cookie).status, 200);
        heal();
        eventually("node 2 is back", || gate.get(THERE, &cookie).status == 200);
    });
}

#[test]
fn a_node_lost_mid_response_ends_only_it() {
    let Some(space) = Namespace::new() else { return };
    space.inside(|| {
        let cluster = Cluster::pve(2);
        let (gate, _second) = (cluster.start(1, &SETS), cluster.start(2, &[]));
        let cookie = cluster.nodes[0].site.cookie("root@pam");
        let mut waiting = gate.connect();
        let slow = "/api2/json/nodes/node2/standin/slow?ms=1500";
        waiting.send(format!("GET {slow} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        eventually("node 2 has it", || !cluster.nodes[1].site.daemon.requests().is_empty());
        let mut reading = gate.connect();
        let big = "/api2/json/nodes/node2/standin/big?size=300000000";
        reading.send(format!("GET {big} HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        assert!(reading.take(100_000).starts_with(b"HTTP/1.1 200 "));
        cut_off();
        let before = Instant::now();
        let reply = waiting.reply(false);
        assert_eq!(reply.status, 596, "{}", reply.text());
        assert!(reading.rest().len() < 300_000_000, "the rest never came");
        assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        assert_eq!(waiting.request("GET", HERE, &cookie, b"").status, 200);
        heal();
        eventually("node 2 is back", || gate.get(THERE, &cookie).status == 200);
    });
}

//! The other nodes of a cluster connect to a listener as well: one with separate rules must not cut this node off.

use nodegate_standin::Certificate;

use super::PVE;
use crate::cluster::machines::Cluster;
use crate::reload::reload;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

const NODES: &str = "the other nodes of the cluster connect to 127.0.0.1 port 8006, where the listener";

/// Node 1 of three, with a CA for certificates of clients.
fn site() -> Site {
    let site = Site::pve();
    site.write("/etc/pve/.members", Cluster::members(3));
    site.write("/etc/nodegate/clients.pem", Certificate::ca().certificate_pem());
    site
}

fn listener(address: &str, port: u16, rules: &str) -> String {
    format!("[[listener]]\nname = \"inside\"\naddress = \"{address}\"\nport = {port}\n{rules}\n")
}

const ASKS: &str = "client_certificates = \"required\"\nclient_ca = \"/etc/nodegate/clients.pem\"";

#[test]
fn check_names_each_rule_that_cuts_off_nodes() {
    let site = site();
    let file = site.path(PVE).display().to_string();
    let at = |rules: &str| listener("127.0.0.1", 8006, rules);
    let nodes = "rejects them: node2, node3: ";
    let with_addresses = "rejects them: node2 (127.0.0.2), node3 (127.0.0.3): the access list denies";
    let cases = [
        (at(ASKS), "5: listener[1].client_certificates", format!("{nodes}they send no certificate")),
        (
            at("allow_from = \"127.0.0.9\"\npolicy = \"deny\""),
            "6: listener[1].policy",
            with_addresses.to_owned(),
        ),
        (at("deny_from = \"127.0.0.0/8\""), "5: listener[1].deny_from", with_addresses.to_owned()),
        (at("tls = false"), "5: listener[1].tls", format!("{nodes}they connect with TLS only")),
        (
            format!("[real_ip]\nallow_from = \"127.0.0.2\"\n{}", at("proxy_protocol = true")),
            "7: listener[1].proxy_protocol",
            format!("{nodes}they send no PROXY header"),
        ),
        (
            format!(
                "cluster.proxy_protocol = true\n[real_ip]\nallow_from = \"127.0.0.2\"\n{}",
                at("proxy_protocol = true")
            ),
            "8: listener[1].proxy_protocol",
            "rejects them: node3: real_ip.allow_from does not list them".to_owned(),
        ),
        ("[acl]\ndeny_from = \"127.0.0.0/8\"\n".to_owned(), "2: acl.deny_from", with_addresses.to_owned()),
        (
            "[tls]\nclient_certificates = \"required\"\nclient_ca = \"/etc/nodegate/clients.pem\"\n"
                .to_owned(),
            "2: tls.client_certificates",
            format!("{nodes}they send no certificate"),
        ),
    ];
    for (settings, place, reason) in cases {
        site.write(PVE, &settings);
        let outcome = Outcome::check(&site, &["node.name=node1"]);
        assert_eq!(outcome.code, 1, "{settings}: {outcome:?}");
        let start = format!("{file}:{place}: {NODES} '");
        let said = |line: &str| line.starts_with(&start) && line.contains(&reason);
        assert!(outcome.stderr.lines().any(said), "{start} {reason}\n{}", outcome.stderr);
    }
}

#[test]
fn rules_of_other_listeners_harm_no_node() {
    let site = site();
    let closed = format!("{ASKS}\nallow_from = \"10.0.0.0/8\"\npolicy = \"deny\"");
    let fine = [
        listener("127.0.0.1", 8443, &closed),
        listener("127.0.0.7", 8006, &closed),
        // The most exact address counts, and takes every node.
        format!("[acl]\ndeny_from = \"127.0.0.0/8\"\n{}", listener("127.0.0.1", 8006, "deny_from = []")),
        "[acl]\nallow_from = [\"127.0.0.2\", \"127.0.0.3\"]\npolicy = \"deny\"\n".to_owned(),
        format!("cluster.port = 9006\n{}", listener("127.0.0.1", 8006, &closed)),
    ];
    for settings in fine {
        site.write(PVE, &settings);
        let outcome = Outcome::check(&site, &["node.name=node1"]);
        assert_eq!(outcome.code, 0, "{settings}: {outcome:?}");
    }
    site.write(PVE, listener("127.0.0.1", 8006, &closed));
    site.write("/etc/pve/.members", r#"{"nodename":"node1","version":0}"#);
    assert_eq!(Outcome::check(&site, &["node.name=node1"]).code, 0, "a node alone");
}

#[test]
fn a_class_and_tunnels_are_checked_as_well() {
    let pmg = Cluster::pmg(2);
    let site = &pmg.nodes[0].site;
    let class = listener("127.0.0.1", 8006, "route_scope = \"quarantine\"");
    site.write("/etc/nodegate/pmg.toml", class);
    let outcome = Outcome::check(site, &["node.name=node1"]);
    let reason = "rejects them: node2: the route scope 'quarantine' has none of the calls that they pass on";
    assert_eq!((outcome.code, outcome.stderr.contains(reason)), (1, true), "{outcome:?}");

    let site = self::site();
    site.write("/etc/nodegate/spice.toml", "[acl]\ndeny_from = \"127.0.0.2\"\n");
    let outcome = Outcome::ask(&site, &["check", "spice", "--set", "node.name=node1"]);
    let reason =
        "connect to 127.0.0.1 port 3128, where the listener 'listen' rejects them: node2 (127.0.0.2): ";
    assert_eq!((outcome.code, outcome.stderr.contains(reason)), (1, true), "{outcome:?}");
}

#[test]
fn a_start_and_a_reload_name_it_too() {
    let cluster = Cluster::pve(2);
    let site = &cluster.nodes[0].site;
    let gate = cluster.start(1, &[]);
    assert!(!gate.stderr().contains("rejects them"));
    site.write(PVE, "[acl]\ndeny_from = \"127.0.0.2\"\n");
    reload(&gate, "rejects them: node2 (127.0.0.2)");
    // It is logged and not rejected.
    eventually("the reload is over", || gate.stderr().contains(" reloaded "));
    drop(gate);
    let gate = cluster.start(1, &[]);
    assert!(gate.stderr().lines().any(|line| line.contains("ERROR") && line.contains("rejects them: node2")));
}

/// The lines that node 2 logs for a request of node 1.
fn refused(cluster: &Cluster, second: &Nodegate, reason: &str) {
    let first = cluster.start(1, &[]);
    let cookie = cluster.nodes[0].site.cookie("root@pam");
    for _ in 0..3 {
        let reply = first.get("/api2/json/nodes/node2/status", &cookie);
        assert!((400..600).contains(&reply.status), "{}", reply.status);
    }
    let reported = format!("another node of the cluster is rejected: {reason}");
    let lines = || second.stderr().lines().filter(|line| line.contains(&reported)).count();
    eventually(&reported, || lines() > 0);
    assert_eq!(lines(), 1, "once an hour: {}", second.stderr());
    let line = second.stderr().lines().find(|line| line.contains(&reported)).unwrap().to_owned();
    assert!(line.contains("WARN") && line.contains("node=\"node1\""), "{line}");
}

#[test]
fn the_node_that_refuses_another_logs_it() {
    let cluster = Cluster::pve(2);
    cluster.nodes[1].site.write("/etc/nodegate/clients.pem", Certificate::ca().certificate_pem());
    let cases = [
        (&["acl.deny_from=127.0.0.1"][..], "the access list denies its address"),
        (
            &["tls.client_certificates=required", "tls.client_ca=/etc/nodegate/clients.pem"],
            "it has to show a certificate",
        ),
        (&["listen.proxy_protocol=true", "real_ip.allow_from=127.0.0.9"], "it is not a listed proxy"),
        (&["listen.proxy_protocol=true", "real_ip.allow_from=127.0.0.1"], "it sends no PROXY header"),
    ];
    for (sets, reason) in cases {
        let second = cluster.start(2, sets);
        refused(&cluster, &second, reason);
    }
}

#[test]
fn other_rejected_clients_are_logged_as_no_node() {
    let cluster = Cluster::pmg(2);
    let elsewhere = format!("listen.port={}", free_port());
    let second = |rules: &str| {
        cluster.nodes[1].site.write("/etc/nodegate/pmg.toml", listener("127.0.0.2", cluster.port, rules));
        cluster.start(2, &[&elsewhere])
    };
    let gate = second("route_scope = \"quarantine\"");
    let reply = Session::tls(gate.listener("inside")).request("GET", "/api2/json/nodes", "", b"");
    assert_eq!(reply.status, 403);
    assert!(!gate.stderr().contains("another node"), "a browser on that node: {}", gate.stderr());
    refused(&cluster, &gate, "the listener serves a route scope only");
    drop(gate);
    refused(&cluster, &second("tls = false"), "this listener has no TLS");
}

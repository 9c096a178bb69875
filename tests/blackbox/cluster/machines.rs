//! The nodes of a cluster, their files and how they start.

use std::sync::OnceLock;

use nodegate_standin::{Certificate, KeyKind};

use crate::support::nodegate::free_port;
use crate::support::{Nodegate, Site};

/// One node: its files, its name and its address.
pub struct Node {
    pub site: Site,
    pub number: u8,
    pub certificate: Certificate,
}

/// Nodes 1 to `count`; every node has the certificates of all.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub port: u16,
}

/// One for all tests: RSA keys take their time to make.
pub fn ca() -> &'static Certificate {
    static CA: OnceLock<Certificate> = OnceLock::new();
    CA.get_or_init(Certificate::ca)
}

impl Cluster {
    pub fn pve(count: u8) -> Self {
        Self::of(count, Site::pve)
    }

    pub fn pmg(count: u8) -> Self {
        let cluster = Self::of(count, Site::pmg);
        let sections: Vec<_> = cluster.nodes.iter().map(Node::section).collect();
        for node in &cluster.nodes {
            node.site.write("/etc/pmg/cluster.conf", sections.join("\n"));
            node.site.write("/etc/pmg/pmg-api.pem", node.certificate.combined_pem());
        }
        cluster
    }

    fn of(count: u8, site: impl Fn() -> Site) -> Self {
        let ca = ca();
        let nodes: Vec<_> = (1..=count)
            .map(|number| {
                let certificate = ca.issue(&format!("node{number}"), &[], KeyKind::EcP256);
                Node { site: site(), number, certificate }
            })
            .collect();
        let port = free_port();
        let cluster = Self { nodes, port };
        for node in &cluster.nodes {
            node.site.write("/etc/pve/local/pve-ssl.pem", node.certificate.chain_pem());
            node.site.write("/etc/pve/local/pve-ssl.key", node.certificate.key_pem());
            node.site.write("/etc/pve/.members", Cluster::members(count));
            for other in &cluster.nodes {
                let path = format!("/etc/pve/nodes/node{}/pve-ssl.pem", other.number);
                node.site.write(&path, other.certificate.certificate_pem());
            }
        }
        cluster
    }

    /// Nodes with addresses, and one that has none yet.
    pub fn members(count: u8) -> String {
        let entries: Vec<_> = (1..=count)
            .map(|number| format!(r#""node{number}":{{"id":{number},"online":1,"ip":"127.0.0.{number}"}}"#))
            .collect();
        format!(
            r#"{{"nodename":"node1","version":6,"cluster":{{"name":"c","version":3,"nodes":{count},"quorate":1}},"nodelist":{{{},"unseen":{{"id":9,"online":0}}}}}}"#,
            entries.join(",")
        )
    }

    pub fn start(&self, number: usize, sets: &[&str]) -> Nodegate {
        let node = &self.nodes[number - 1];
        let (port, cluster_port) =
            (format!("listen.port={}", self.port), format!("cluster.port={}", self.port));
        let name = format!("node.name=node{number}");
        let address = format!("listen.address=127.0.0.{number}");
        let own = [port.as_str(), cluster_port.as_str(), name.as_str(), address.as_str()];
        Nodegate::start(&node.site, &[&own, sets].concat())
    }
}

impl Node {
    fn section(&self) -> String {
        let Self { number, certificate, .. } = self;
        let kind = if *number == 1 { "master" } else { "node" };
        format!(
            "{kind}: {number}\n\tfingerprint {}\n\tip 127.0.0.{number}\n\tmaxcid 3\n\tname node{number}\n",
            certificate.fingerprint()
        )
    }
}

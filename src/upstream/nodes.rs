//! The other nodes of the cluster: names and addresses, from `.members` or `cluster.conf`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::config::product::{NodeListRules, NodesFormat};
use crate::config::root::RootDirectory;
use crate::config::section_file;
use crate::fs::cached_file::{CachedFile, FileError, POLL_INTERVAL};
use crate::upstream::certificate_pins::Fingerprint;

/// The contents of the cluster file.
#[derive(Clone, Default)]
pub struct NodeTable {
    /// node name → address; `None` for a node that has not been seen yet
    pub nodes: BTreeMap<String, Option<IpAddr>>,
    /// certificates that the list itself names
    pub fingerprints: BTreeMap<String, Fingerprint>,
    /// the node that serves the whole cluster, if there is one
    pub master: Option<String>,
    /// whether this machine is in a cluster at all
    pub clustered: bool,
    /// also set on a machine without a cluster
    pub quorate: bool,
}

impl NodeTable {
    /// The name as the cluster spells it; tickets bring it in lower case.
    pub fn find(&self, name: &str) -> Option<(&str, Option<IpAddr>)> {
        self.nodes
            .get_key_value(name)
            .or_else(|| self.nodes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))
            .map(|(known, address)| (known.as_str(), *address))
    }

    /// The node that has the address.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.nodes.iter().find(|(_, known)| **known == Some(address)).map(|(name, _)| name.as_str())
    }

    /// Whether the address is a node's.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.nodes.values().any(|known| *known == Some(address))
    }

    /// The error for a node that does not exist.
    pub fn unknown(&self, name: &str) -> UnknownNode {
        let known = self.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        UnknownNode { node: name.to_owned(), meant: self.probably_meant(name).map(str::to_owned), known }
    }

    /// The only node of that name without regard to case and domain.
    fn probably_meant(&self, name: &str) -> Option<&str> {
        let host = name.split('.').next().unwrap_or(name);
        let is_like = |known: &&String| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        let mut alike = self.nodes.keys().filter(is_like);
        match (alike.next(), alike.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// No node has this name.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such node '{node}'{}; nodes are: {known}", hint(meant.as_deref()))]
pub struct UnknownNode {
    node: String,
    meant: Option<String>,
    known: String,
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |node| format!(" (did you mean '{node}'?)"))
}

#[derive(Deserialize)]
struct MemberList {
    nodename: Option<String>,
    cluster: Option<ClusterFile>,
    #[serde(default)]
    nodelist: BTreeMap<String, MemberEntry>,
}

#[derive(Deserialize)]
struct ClusterFile {
    #[serde(default)]
    quorate: u8,
}

#[derive(Deserialize)]
struct MemberEntry {
    ip: Option<IpAddr>,
}

/// Reads the JSON of `.members`.
pub fn parse_members(bytes: &[u8]) -> Result<NodeTable, String> {
    let members: MemberList = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut nodes: BTreeMap<_, _> =
        members.nodelist.into_iter().map(|(name, member)| (name, member.ip)).collect();
    if let Some(own) = members.nodename {
        nodes.entry(own).or_default();
    }
    let quorate = members.cluster.as_ref().is_none_or(|cluster| cluster.quorate != 0);
    Ok(NodeTable { nodes, clustered: members.cluster.is_some(), quorate, ..NodeTable::default() })
}

/// Reads the sections of `cluster.conf`.
pub fn parse_sections(bytes: &[u8]) -> Result<NodeTable, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut table = NodeTable { quorate: true, ..NodeTable::default() };
    for section in section_file::parse(text) {
        if let ("master" | "node", Some(name)) = (section.kind.as_str(), section.value("name")) {
            let address = section.value("ip").and_then(|ip| ip.parse().ok());
            table.nodes.insert(name.to_owned(), address);
            let fingerprint = section.value("fingerprint").and_then(Fingerprint::parse);
            table.fingerprints.extend(fingerprint.map(|pin| (name.to_owned(), pin)));
            if section.kind == "master" {
                table.master = Some(name.to_owned());
            }
            table.clustered = true;
        }
    }
    Ok(table)
}

/// The cluster file.
pub struct NodeFile {
    file: Option<CachedFile<NodeTable>>,
    /// without the file this machine is the only node
    alone: Arc<NodeTable>,
}

impl NodeFile {
    /// Reads no file yet. `own_name` is the name of this node.
    pub fn new(nodes: Option<&NodeListRules>, root: &RootDirectory, own_name: &str) -> Self {
        let own = BTreeMap::from([(own_name.to_owned(), None)]);
        let alone = Arc::new(NodeTable { nodes: own, quorate: true, ..NodeTable::default() });
        let file = nodes.map(|nodes| {
            let parse = match nodes.format {
                NodesFormat::Members => parse_members,
                NodesFormat::Sections => parse_sections,
            };
            // The file's time of change is no guide on a cluster file system.
            CachedFile::by_content(root.path(&nodes.file), parse).with_ttl(POLL_INTERVAL)
        });
        Self { file, alone }
    }

    /// See `CachedFile::preload`.
    pub fn preload(&self) {
        self.file.iter().for_each(CachedFile::preload);
    }

    /// Polls the file. Returns whether the nodes have changed since the last poll.
    pub fn refresh(&self) -> bool {
        self.file.as_ref().is_some_and(CachedFile::refresh)
    }

    /// A machine without the file has no other nodes.
    pub fn get(&self) -> Result<Arc<NodeTable>, FileError> {
        let alone = || Arc::clone(&self.alone);
        let Some(file) = &self.file else { return Ok(alone()) };
        match file.get() {
            Ok(snapshot) => Ok(snapshot.value),
            Err(error) if error.is_missing() => Ok(alone()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: &[u8] =
        br#"{"nodename":"n1","version":6,"cluster":{"name":"c","version":3,"nodes":3,"quorate":1},
        "nodelist":{"n1":{"id":1,"online":1,"ip":"192.0.2.1"},"n2":{"id":2,"online":0,"ip":"2001:db8::2"},
        "N3":{"id":3,"online":0}}}"#;

    #[test]
    fn members_give_names_and_addresses() {
        let table = parse_members(MEMBERS).unwrap();
        assert!(table.clustered && table.quorate);
        assert_eq!(table.find("n2"), Some(("n2", Some("2001:db8::2".parse().unwrap()))));
        assert_eq!(table.find("n3"), Some(("N3", None)));
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion() {
        let table = parse_members(MEMBERS).unwrap();
        for (name, hint) in [
            ("N1", " (did you mean 'n1'?)"),
            ("n2.example.com", " (did you mean 'n2'?)"),
            ("N2.EXAMPLE.COM", " (did you mean 'n2'?)"),
            ("n3", " (did you mean 'N3'?)"),
            ("n4", ""),
            ("", ""),
            (".n1", ""),
        ] {
            let message = table.unknown(name).to_string();
            assert_eq!(message, format!("no such node '{name}'{hint}; nodes are: N3, n1, n2"));
        }
        let twice = NodeTable {
            nodes: ["a", "A"].map(|name| (name.to_owned(), None)).into(),
            ..NodeTable::default()
        };
        assert_eq!(twice.unknown("a.b").to_string(), "no such node 'a.b'; nodes are: A, a");
    }

    #[test]
    fn a_machine_without_cluster_is_quorate() {
        let table = parse_members(br#"{"nodename":"n1","version":0}"#).unwrap();
        assert!(!table.clustered && table.quorate);
        assert_eq!(table.find("n1"), Some(("n1", None)));
    }

    #[test]
    fn sections_give_names_and_addresses() {
        let text = b"master: 1\n\tip 192.0.2.11\n\tname mg1\n\nnode: 2\n\tip 192.0.2.12\n\tname mg2\n";
        let table = parse_sections(text).unwrap();
        assert_eq!(table.master.as_deref(), Some("mg1"));
        assert_eq!(table.find("mg2"), Some(("mg2", Some("192.0.2.12".parse().unwrap()))));
        assert!(table.clustered);
    }
}

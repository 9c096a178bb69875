//! Names and addresses: what the resolver says of this node and of the others, against the cluster's own list.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;

use super::deadline;
use super::finding::Finding;
use super::subject::Subject;
use crate::upstream::nodes::{NodeFile, NodeTable};

/// A name server that does not answer costs more than that.
const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
const MAX_NAMES: usize = 64;

/// The addresses of a name; the error is that of the resolver.
type Resolved = Result<Vec<IpAddr>, String>;

/// The inputs of the evaluation besides the cluster's list.
struct Facts {
    /// the name of this node in the settings
    own: String,
    /// `None` for a name that was not resolved in time
    resolved: BTreeMap<String, Option<Resolved>>,
    /// the addresses of this machine's interfaces
    here: Vec<IpAddr>,
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let config = &subject.config;
    let own = config.settings.node_name.clone();
    let table = NodeFile::new(config.product.nodes.as_ref(), &config.root, &own).get().unwrap_or_default();
    let mut names: Vec<_> = table.nodes.keys().filter(|name| **name != own).cloned().collect();
    names.insert(0, own.clone());
    names.truncate(MAX_NAMES);
    let resolved = deadline::run_all(names, PROBE_TIMEOUT, |name| resolve(name));
    let facts = Facts { own, resolved: resolved.into_iter().collect(), here: own_addresses() };
    evaluate(subject, &table, &facts)
}

fn resolve(name: &str) -> Resolved {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut addresses: Vec<_> = found.map(|address| address.ip().to_canonical()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(|interface| address(interface.address?)).collect()
}

fn evaluate(subject: &Subject, table: &NodeTable, facts: &Facts) -> Vec<Finding> {
    let mut findings = own_name(subject, table, facts);
    for (name, address) in table.nodes.iter().filter(|(name, _)| **name != facts.own) {
        let (Some(address), Some(resolved)) = (address, facts.resolved.get(name)) else { continue };
        findings.push(other_name(name, *address, resolved.as_ref()));
    }
    findings
}

/// The product publishes the address that its own name resolves to.
fn own_name(subject: &Subject, table: &NodeTable, facts: &Facts) -> Vec<Finding> {
    let own = &facts.own;
    let published = table.find(own).and_then(|(_, address)| address);
    let restart = subject.config.product.doctor.restart_cluster.as_deref();
    let restart = restart.map(|restart| format!(", then: {restart}")).unwrap_or_default();
    let mut findings = Vec::new();
    if let Some(published) = published.filter(|published| !facts.here.contains(published)) {
        findings.push(
            Finding::error(format!(
                "the cluster has {published} for this node '{own}', which is no address of this machine"
            ))
            .because("the other nodes send the calls for this node to another machine")
            .mend(format!("correct the line of {own} in /etc/hosts{restart}")),
        );
    }
    let hosts = format!("add a line to /etc/hosts: {} {own}{restart}", example(published, facts));
    findings.push(match facts.resolved.get(own).and_then(Option::as_ref) {
        None => slow(own),
        Some(Err(error)) => Finding::warning(format!("this node's own name '{own}' has no address: {error}"))
            .because("the product's services find their own address by this name")
            .mend(hosts),
        Some(Ok(addresses)) => own_addresses_finding(own, published, addresses, facts, &hosts),
    });
    findings
}

fn own_addresses_finding(
    own: &str,
    published: Option<IpAddr>,
    addresses: &[IpAddr],
    facts: &Facts,
    hosts: &str,
) -> Finding {
    let shown = list(addresses);
    let foreign = addresses.iter().find(|address| !address.is_loopback() && !facts.here.contains(address));
    if let Some(foreign) = foreign {
        return Finding::warning(format!(
            "'{own}' resolves to {foreign}, which is no address of this machine"
        ))
        .because("the product publishes this address at its next start, and other nodes lose this one")
        .mend(hosts);
    }
    match published {
        Some(published) if !addresses.contains(&published) => {
            Finding::warning(format!("'{own}' resolves to {shown}, and the cluster has {published}"))
                .because("the product publishes the resolved address at its next start")
                .mend(hosts)
        }
        None if addresses.iter().all(IpAddr::is_loopback) => {
            Finding::note(format!("'{own}' resolves to {shown} only"))
                .because("a node that joins a cluster needs an address that others reach")
                .mend(hosts)
        }
        Some(_) | None => Finding::ok(format!("'{own}' is {shown}")),
    }
}

/// An address for the line in the file of hosts.
fn example(published: Option<IpAddr>, facts: &Facts) -> String {
    let is_usable = |address: &&IpAddr| !address.is_loopback() && address.is_ipv4();
    let here = facts.here.iter().find(is_usable).copied();
    published.or(here).map_or_else(|| "ADDRESS".to_owned(), |address| address.to_string())
}

/// nodegate itself uses the address of the list.
fn other_name(name: &str, published: IpAddr, resolved: Option<&Resolved>) -> Finding {
    let why =
        "nodegate connects to the cluster's address; browsers, ssh and the product's tools use the name";
    let hosts = format!("a line in /etc/hosts of each node: {published} {name}");
    match resolved {
        None => slow(name),
        Some(Ok(addresses)) if addresses.contains(&published) => {
            Finding::ok(format!("'{name}' is {published}"))
        }
        Some(Ok(addresses)) => Finding::warning(format!(
            "'{name}' resolves to {}, and the cluster has {published}",
            list(addresses)
        ))
        .because(why)
        .mend(hosts),
        Some(Err(error)) => {
            Finding::note(format!("'{name}' has no address ({error}); the cluster has {published}"))
                .because(why)
                .mend(hosts)
        }
    }
}

fn slow(name: &str) -> Finding {
    Finding::warning(format!("'{name}' was not resolved within {} s", PROBE_TIMEOUT.as_secs()))
        .because("logins at directory services and mail wait for the same name servers")
        .mend(format!("getent hosts {name}; cat /etc/resolv.conf"))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The level and the text of each finding.
    fn found(published: Option<&str>, own: Resolved, other: Option<Resolved>) -> Vec<(Level, String)> {
        let subject = Subject::of_test("pve");
        let nodes = [("n1".to_owned(), published.map(ip)), ("n2".to_owned(), Some(ip("192.0.2.2")))].into();
        let table = NodeTable { nodes, clustered: true, quorate: true, ..NodeTable::default() };
        let resolved = [("n1".to_owned(), Some(own)), ("n2".to_owned(), other)].into();
        let facts = Facts { own: "n1".to_owned(), resolved, here: vec![ip("127.0.0.1"), ip("192.0.2.1")] };
        evaluate(&subject, &table, &facts).into_iter().map(|finding| (finding.level, finding.what)).collect()
    }

    #[test]
    fn names_that_agree_with_the_cluster_are_good() {
        let all = found(Some("192.0.2.1"), Ok(vec![ip("192.0.2.1")]), Some(Ok(vec![ip("192.0.2.2")])));
        assert!(all.len() == 2 && all.iter().all(|(level, _)| *level == Level::Ok), "{all:?}");
    }

    #[test]
    fn each_disagreement_is_named() {
        let good = || Some(Ok(vec![ip("192.0.2.2")]));
        let cases = [
            (
                found(Some("192.0.2.1"), Ok(vec![ip("127.0.1.1")]), good()),
                0,
                Level::Warning,
                "127.0.1.1, and the cluster has 192.0.2.1",
            ),
            (
                found(Some("192.0.2.7"), Ok(vec![ip("192.0.2.1")]), good()),
                0,
                Level::Error,
                "192.0.2.7 for this node",
            ),
            (
                found(Some("192.0.2.1"), Ok(vec![ip("192.0.2.9")]), good()),
                0,
                Level::Warning,
                "192.0.2.9, which is no address",
            ),
            (
                found(Some("192.0.2.1"), Err("no such name".to_owned()), good()),
                0,
                Level::Warning,
                "no such name",
            ),
            (found(None, Ok(vec![ip("127.0.1.1")]), good()), 0, Level::Note, "127.0.1.1 only"),
            (
                found(None, Ok(vec![ip("192.0.2.1")]), Some(Ok(vec![ip("192.0.2.3")]))),
                1,
                Level::Warning,
                "192.0.2.3, and the cluster has 192.0.2.2",
            ),
            (
                found(None, Ok(vec![ip("192.0.2.1")]), Some(Err("no".to_owned()))),
                1,
                Level::Note,
                "'n2' has no address",
            ),
            (found(None, Ok(vec![ip("192.0.2.1")]), None), 1, Level::Warning, "not resolved within"),
        ];
        for (findings, number, level, text) in cases {
            assert!(findings[number].0 == level && findings[number].1.contains(text), "{text}: {findings:?}");
        }
    }
}

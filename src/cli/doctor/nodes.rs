//! The other nodes: whether each accepts a connection, and whether its certificate is the one that the cluster's files
//! name.

mod remote_clock;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use openssl::ssl::SslContext;
use tokio::time::timeout;

use super::daemons::milliseconds;
use super::deadline;
use super::finding::Finding;
use super::subject::Subject;
use crate::config::product::Protocol;
use crate::config::settings::BackendAddress;
use crate::upstream::certificate_pins::CertificatePins;
use crate::upstream::client::FailurePhase;
use crate::upstream::loopback::check_reachable;
use crate::upstream::nodes::{NodeFile, NodeTable};
use crate::upstream::peer::{self, CERTIFICATE_FAULT, PeerError, PeerNode};

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the answer that has the other clock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const TCP_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Further nodes are not asked.
const MAX_NODES: usize = 64;
/// Requests of users wait so long for each handshake.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct OtherNode {
    name: String,
    address: Option<SocketAddr>,
}

#[derive(Debug)]
enum Outcome {
    /// `mtu` is that of the path; `ahead` is how many seconds its clock is ahead of this one
    Verified {
        took: Duration,
        mtu: Option<i32>,
        ahead: Option<i64>,
    },
    /// a connection without TLS, whose certificate is not compared
    Reached {
        took: Duration,
    },
    NoPin(String),
    NoAddress,
    Unreachable(String),
    WrongCertificate(String),
    /// TCP connects, TLS fails
    Handshake(String),
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let config = &subject.config;
    let table =
        match NodeFile::new(config.product.nodes.as_ref(), &config.root, &config.settings.node_name).get() {
            Ok(table) => table,
            Err(error) => return vec![unreadable(subject, &error.to_string())],
        };
    let is_tls = config.product.protocol == Protocol::Https;
    let port = if is_tls { config.settings.cluster_port } else { config.settings.tunnel.peer_port };
    let mut others = others(&table, &config.settings.node_name, port);
    let mut findings = of_table(subject, &table, others.len());
    others.truncate(MAX_NODES);
    let context = match peer::client_context() {
        Ok(context) => context,
        Err(error) => return vec![Finding::note(format!("no TLS context: {error}"))],
    };
    let pins = CertificatePins::new(config.product.nodes.as_ref(), &config.root);
    let own = config.settings.cluster_proxy_protocol.then(|| own_address(&table, &config.settings.node_name));
    let looks = deadline::run_all(others, PROBE_TIMEOUT, move |node| {
        if is_tls {
            let peer = PeerNode::find(&node.name, port, &table, &pins, &context);
            look(node, peer, own)
        } else {
            reach(node)
        }
    });
    for (node, outcome) in looks {
        let outcome = outcome.unwrap_or_else(|| Outcome::Unreachable("no answer in time".to_owned()));
        findings.push(evaluate(subject, &node, &outcome));
        if let Outcome::Verified { ahead: Some(ahead), .. } = outcome {
            findings.extend(remote_clock::evaluate(&node, ahead));
        }
    }
    findings
}

fn others(table: &NodeTable, own: &str, port: u16) -> Vec<OtherNode> {
    let others = table.nodes.iter().filter(|(name, _)| *name != own);
    let node = |(name, address): (&String, &Option<IpAddr>)| OtherNode {
        name: name.clone(),
        address: address.map(|address| SocketAddr::new(address, port)),
    };
    others.map(node).collect()
}

fn own_address(table: &NodeTable, own: &str) -> IpAddr {
    let known = table.find(own).and_then(|(_, address)| address);
    known.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

fn unreadable(subject: &Subject, error: &str) -> Finding {
    let restart = subject.config.product.doctor.restart_cluster.as_deref();
    Finding::error(format!("the list of nodes cannot be read: {error}"))
        .because("requests for other nodes fail, and so do logins that need the cluster's keys")
        .mend(restart.map_or_else(|| "make the file readable for the serving user".to_owned(), str::to_owned))
}

/// Findings about the list itself.
fn of_table(subject: &Subject, table: &NodeTable, others: usize) -> Vec<Finding> {
    let own = &subject.config.settings.node_name;
    let mut findings = Vec::new();
    if table.clustered && table.find(own).is_none() {
        let known: Vec<_> = table.nodes.keys().map(String::as_str).collect();
        findings.push(
            Finding::error(format!("node.name is '{own}', and the cluster has: {}", known.join(", ")))
                .because("nodegate takes its own node for an unknown one, and answers paths with its name with 500")
                .mend("set node.name to this node's name in the cluster"),
        );
    }
    if !table.quorate {
        findings.push(
            Finding::error("the cluster has no quorum")
                .because(
                    "the cluster's files are read-only: no login key is renewed, and no setting can be saved",
                )
                .mend(restart_or(subject, "start the missing nodes")),
        );
    }
    if others == 0 {
        findings.push(Finding::ok("this machine has no other nodes"));
    } else if others > MAX_NODES {
        findings.push(Finding::note(format!("only {MAX_NODES} of {others} other nodes were asked")));
    }
    findings
}

fn restart_or(subject: &Subject, advice: &str) -> String {
    match &subject.config.product.doctor.restart_cluster {
        Some(restart) => format!("{restart} # {advice}"),
        None => advice.to_owned(),
    }
}

fn look(node: &OtherNode, peer: Result<PeerNode, PeerError>, own: Option<IpAddr>) -> Outcome {
    let peer = match peer {
        Ok(peer) => own.map_or(peer.clone(), |own| peer.with_proxy_header(own)),
        Err(PeerError::NoAddress(_)) => return Outcome::NoAddress,
        Err(error @ PeerError::Pin { .. }) => return Outcome::NoPin(error.to_string()),
    };
    match block_on(verify(&peer)) {
        Ok(Ok(verified)) => verified,
        Ok(Err(Some((FailurePhase::Handshake, cause)))) if cause.starts_with(CERTIFICATE_FAULT) => {
            Outcome::WrongCertificate(cause)
        }
        Ok(Err(Some((FailurePhase::Handshake, cause)))) => Outcome::Handshake(cause),
        Ok(Err(Some((_, cause)))) | Err(cause) => Outcome::Unreachable(cause),
        Ok(Err(None)) => {
            let reached = reach(node);
            let is_reached = matches!(reached, Outcome::Reached { .. });
            let hangs = || Outcome::Handshake(format!("no end within {} s", CONNECT_TIMEOUT.as_secs()));
            if is_reached { hangs() } else { reached }
        }
    }
}

/// The error is `None` if the time was not enough.
async fn verify(peer: &PeerNode) -> Result<Outcome, Option<(FailurePhase, String)>> {
    let started = Instant::now();
    let mut stream = timeout(CONNECT_TIMEOUT, peer.connect()).await.map_err(|_| None)?.map_err(Some)?;
    let (took, mtu) = (started.elapsed(), getsockopt(stream.get_ref(), sockopt::IpMtu).ok());
    let ahead = timeout(ANSWER_TIMEOUT, remote_clock::difference(&mut stream)).await.ok().flatten();
    Ok(Outcome::Verified { took, mtu, ahead })
}

/// Connects without TLS.
fn reach(node: &OtherNode) -> Outcome {
    let Some(address) = node.address else { return Outcome::NoAddress };
    let address = BackendAddress::Tcp(address.to_string());
    let started = Instant::now();
    match block_on(check_reachable(&address, TCP_TIMEOUT)) {
        Ok(Ok(())) => Outcome::Reached { took: started.elapsed() },
        Ok(Err(cause)) | Err(cause) => Outcome::Unreachable(cause),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(work))
}

fn evaluate(subject: &Subject, node: &OtherNode, outcome: &Outcome) -> Finding {
    let OtherNode { name, address } = node;
    let address = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
    let place = format!("node '{name}' at {address}");
    let renew = subject.config.product.doctor.renew_certificate.as_deref();
    let renew = renew
        .map_or_else(|| "publish its certificate again".to_owned(), |renew| format!("ssh {name} {renew}"));
    let calls = format!("calls for {name} from this node fail with 595 or 596");
    match outcome {
        Outcome::Verified { took, .. } if *took >= SLOW_HANDSHAKE => {
            Finding::warning(format!("{place} needs {} for TCP and TLS", milliseconds(*took)))
                .because(format!("the first call for {name} of each worker waits so long"))
                .mend(format!("ping -c 5 {name}; ssh {name} uptime"))
        }
        Outcome::Verified { took, mtu, .. } => {
            let mtu = mtu.map(|mtu| format!(", path MTU {mtu}")).unwrap_or_default();
            Finding::ok(format!("{place}: certificate verified within {}{mtu}", milliseconds(*took)))
        }
        Outcome::Reached { took } => {
            Finding::ok(format!("{place}: connects within {} (no certificate is compared)", milliseconds(*took)))
        }
        Outcome::NoAddress => Finding::note(format!("node '{name}' has no address: the cluster has not seen it yet"))
            .because(calls)
            .mend(restart_or(subject, &format!("start {name}"))),
        Outcome::NoPin(cause) => Finding::error(cause.clone()).because(calls).mend(renew),
        Outcome::Unreachable(cause) => Finding::error(format!("{place} cannot be reached: {cause}"))
            .because(calls)
            .mend(format!("ssh {name} systemctl status {} # or a firewall is between", subject.unit())),
        Outcome::WrongCertificate(cause) => Finding::error(format!("{place}: {cause}"))
            .because(format!("{calls}, because another machine could answer in its place"))
            .mend(format!("ssh {name} systemctl reload-or-restart {} # if it stays: {renew}", subject.unit())),
        Outcome::Handshake(cause) => Finding::error(format!("{place} connects, but TLS fails: {cause}"))
            .because(format!(
                "{calls}; if it hangs, large packets may get lost: compare the MTU of the nodes and of the switches"
            ))
            .mend(format!("ping -c 3 -M do -s 1472 {name}; ssh {name} systemctl status {}", subject.unit())),
    }
}

/// The context is used by all threads.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<SslContext>();
};

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::config::{Config, ConfigSources};

    #[test]
    fn each_outcome_has_its_command() {
        let subject = Subject::of_test("pve");
        let node = OtherNode { name: "n2".to_owned(), address: Some("192.0.2.2:8006".parse().unwrap()) };
        let took = Duration::from_millis(4);
        let cases = [
            (
                Outcome::Verified { took, mtu: Some(1500), ahead: None },
                Level::Ok,
                "within 4 ms, path MTU 1500",
            ),
            (Outcome::Verified { took: SLOW_HANDSHAKE, mtu: None, ahead: None }, Level::Warning, "1000 ms"),
            (Outcome::Reached { took }, Level::Ok, "no certificate is compared"),
            (Outcome::NoAddress, Level::Note, "has not seen it"),
            (Outcome::NoPin("no pin".to_owned()), Level::Error, "no pin"),
            (
                Outcome::Unreachable("No route to host".to_owned()),
                Level::Error,
                "192.0.2.2:8006 cannot be reached",
            ),
            (Outcome::WrongCertificate(format!("{CERTIFICATE_FAULT}: x")), Level::Error, CERTIFICATE_FAULT),
            (Outcome::Handshake("no end within 3 s".to_owned()), Level::Error, "TLS fails"),
        ];
        for (outcome, level, text) in cases {
            let finding = evaluate(&subject, &node, &outcome);
            assert!(finding.level == level && finding.what.contains(text), "{finding:?}");
            assert!(level == Level::Ok || finding.why.is_some() && finding.mend.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn the_list_itself_is_looked_at() {
        let mut config = Config::load("pve", &ConfigSources::default()).unwrap();
        config.settings.node_name = "n9".to_owned();
        let subject = Subject::new(config, "pve", &ConfigSources::default());
        let nodes = ["n1", "n2"].map(|name| (name.to_owned(), None)).into();
        let table = NodeTable { nodes, clustered: true, quorate: false, ..NodeTable::default() };
        let findings = of_table(&subject, &table, 2);
        assert!(findings[0].what.contains("node.name is 'n9', and the cluster has: n1, n2"), "{findings:?}");
        assert!(findings[1].what.contains("no quorum"), "{findings:?}");
    }
}

//! The interfaces' MTU, and whether a proxy is in front that the settings do not know.

use std::collections::BTreeMap;
use std::fs;

use super::finding::Finding;
use super::subject::{StatusAnswer, Subject};

/// IPv6 needs this much (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;
const USUAL_MTU: u32 = 1500;

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let mut findings = evaluate_mtu(&interfaces());
    // Only nodegate counts forwarded headers.
    if subject.original().is_none() {
        findings.push(evaluate_proxy(subject, subject.status()));
    }
    findings
}

/// Interfaces that are up, with their MTU.
fn interfaces() -> BTreeMap<String, u32> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mtu = |entry: fs::DirEntry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).ok();
        let name = entry.file_name().into_string().ok()?;
        let is_up = read("operstate").is_some_and(|state| state.trim() == "up");
        let mtu = read("mtu")?.trim().parse().ok()?;
        is_up.then_some((name, mtu))
    };
    entries.filter_map(mtu).collect()
}

fn evaluate_mtu(interfaces: &BTreeMap<String, u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, mtu) in interfaces {
        if *mtu < LEAST_MTU {
            findings.push(
                Finding::warning(format!("the MTU of {name} is {mtu}"))
                    .because("IPv6 needs 1280, and TLS handshakes through it may hang")
                    .mend(format!("ip link set dev {name} mtu {USUAL_MTU} # and in /etc/network/interfaces")),
            );
        } else if *mtu > USUAL_MTU {
            findings.push(
                Finding::note(format!("the MTU of {name} is {mtu}"))
                    .because("if a switch or another node on that network has less, large answers hang")
                    .mend(format!("ping -c 3 -M do -s {} NODE # for each other node", mtu - 28)),
            );
        }
    }
    if findings.is_empty() && !interfaces.is_empty() {
        let all: Vec<_> = interfaces.iter().map(|(name, mtu)| format!("{name} {mtu}")).collect();
        findings.push(Finding::ok(format!("MTU: {}", all.join(", "))));
    }
    findings
}

fn evaluate_proxy(subject: &Subject, status: &StatusAnswer) -> Finding {
    let real_ip = &subject.config.settings.real_ip;
    let seen = status.report().and_then(|report| report.forwarded_ignored);
    match (seen, &real_ip.header) {
        (None, Some(header)) => Finding::ok(format!("client addresses come from {header}")),
        (None, None) => Finding::note("whether a proxy is in front is not known: no running nodegate reports it"),
        (Some(0), Some(header)) => Finding::ok(format!("client addresses come from {header}, and no other peer sends it")),
        (Some(0), None) => Finding::ok("no client came with a forwarded header, so no proxy is in front"),
        (Some(count), Some(header)) => {
            Finding::note(format!("{count} connections brought a forwarded header and are not from real_ip.allow_from"))
                .because(format!("their {header} counts for nothing: any client can send it, or a proxy is not listed"))
                .mend("add your proxy's address to real_ip.allow_from if it is missing")
        }
        (Some(count), None) => {
            Finding::warning(format!("{count} connections brought a forwarded header, and real_ip.header is not set"))
                .because(
                    "with a proxy in front, all its users share one address: access lists, limits and fail2ban act on \
                     the proxy",
                )
                .mend("set real_ip.header and real_ip.allow_from, if the proxy is yours (docs/operate/reverse-proxies.md)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn unusual_mtus_are_named() {
        let levels = |mtus: &[u32]| {
            let interfaces = mtus.iter().map(|mtu| (format!("e{mtu}"), *mtu)).collect();
            evaluate_mtu(&interfaces).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&[1500, 1400]), [Level::Ok]);
        assert_eq!(levels(&[1500, 9000, 1200]), [Level::Warning, Level::Note]);
        assert_eq!(levels(&[]), []);
    }
}

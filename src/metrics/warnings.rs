//! Warnings that an admin has to act on, from the values of a report.

use super::process::LastReload;
use super::report::StatusReport;
use super::units;
use super::upstreams::{PinState, UpstreamReport};

/// The warnings of a report, each with its subject. The most urgent are first.
pub fn warnings(report: &StatusReport) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if report.draining {
        all.push("this process drains: it accepts no more connections and ends with the last one".to_owned());
    }
    all.extend(report.upstreams.iter().filter_map(upstream));
    let now = report.time;
    let certificates = report.certificates.iter();
    all.extend(
        certificates.filter_map(|served| Some(format!("{}: {}", served.file, served.expiry_notice(now)?))),
    );
    all.extend(report.last_reload.iter().filter_map(|last| reload(last, now)));
    if !report.reverted.is_empty() {
        let places = report.reverted.join(", ");
        all.push(format!("reverted, and still in the files unless corrected since: {places}"));
    }
    for problem in report.certificate_problems.iter().chain(&report.problems) {
        if !all.contains(problem) {
            all.push(problem.clone());
        }
    }
    all
}

fn upstream(upstream: &UpstreamReport) -> Option<String> {
    let UpstreamReport { name, address, .. } = upstream;
    match (&upstream.unreachable, upstream.pin) {
        (Some(cause), _) => Some(match address {
            Some(address) => format!("{name} is not reachable at {address}: {cause}"),
            None => format!("{name}: {cause}"),
        }),
        (None, Some(PinState::Unknown)) => {
            Some(format!("{name}: no certificate of it is known, so nodegate sends it no requests"))
        }
        (None, _) => None,
    }
}

fn reload(last: &LastReload, now: u64) -> Option<String> {
    if let Some(first) = last.problems.first() {
        return Some(format!("the last reload was refused: {first}"));
    }
    let left = units::span(last.unconfirmed_until?.saturating_sub(now));
    Some(format!("nodegate reverts the last reload in {left}, unless you confirm it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::Metrics;
    use crate::metrics::report::ServedCertificate;
    use crate::metrics::upstreams::HealthReport;

    #[test]
    fn a_healthy_process_has_no_warning() {
        let report = StatusReport::now(&Metrics::default());
        assert_eq!(report.warnings, Vec::<String>::new());
    }

    #[test]
    fn each_cause_is_named_once() {
        let metrics = Metrics::default();
        metrics.start_draining();
        metrics.process.change(|known| {
            let expires = 1;
            known.certificates =
                vec![ServedCertificate { file: "/a.pem".to_owned(), names: Vec::new(), expires }];
            known.certificate_problems = vec!["b".to_owned()];
            known.problems = vec!["b".to_owned(), "c".to_owned()];
            known.last_reload =
                Some(LastReload { at: 1, problems: vec!["d".to_owned()], unconfirmed_until: None });
            known.reverted = vec!["acl.policy (e:1)".to_owned()];
        });
        let mut report = StatusReport::now(&metrics);
        let node = |name: &str, unreachable: Option<&str>, pin| UpstreamReport {
            name: name.to_owned(),
            address: Some("192.0.2.1:1".to_owned()),
            unreachable: unreachable.map(str::to_owned),
            health: HealthReport::default(),
            queue: None,
            pin,
            answer_ms: None,
        };
        report.upstreams = vec![
            node("node a", Some("Connection refused"), None),
            node("node b", None, Some(PinState::Unknown)),
            node("node c", None, Some(PinState::Verified)),
        ];
        let found = warnings(&report);
        let starts = [
            "this process drains",
            "node a is not reachable at 192.0.2.1:1: Connection refused",
            "node b: no certificate",
            "/a.pem: this certificate has expired",
            "the last reload was refused: d",
            "reverted, and still in the files unless corrected since: acl.policy (e:1)",
            "b",
            "c",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (warning, start) in found.iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
    }
}

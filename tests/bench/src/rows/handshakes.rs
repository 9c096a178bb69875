//! Handshakes, full and resumed, with both kinds of keys; each connection asks for 1 kB.

use std::time::Duration;

use anyhow::{Result, ensure};
use nodegate_standin::KeyKind;

use super::api::{all_with_caddy, get};
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::Lab;
use crate::load::{handshake, process};
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{Job, Proxy, Upstream};

const CLIENTS: usize = 16;
/// Seconds.
const WARM_UP: f64 = 0.5;

fn one(proxy: &Proxy, request: &str, resume: bool, seconds: f64) -> Result<Sample> {
    let before = process::cpu_seconds(proxy.pid())?;
    let rate = handshake::run(&handshake::Plan {
        address: proxy.address,
        request,
        parallel: CLIENTS,
        duration: Duration::from_secs_f64(seconds),
        resume,
    })?;
    ensure!(rate.failed == 0, "{} of {} handshakes failed", rate.failed, rate.connections);
    let spent = process::cpu_seconds(proxy.pid())? - before;
    let connections = f64::from(rate.connections);
    Ok(Sample::from([
        ("rate", rate.per_second),
        ("resumed", rate.resumed * 100.0),
        ("cpu", spent * 1e6 / connections),
    ]))
}

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (key, name, ids) in [
        (KeyKind::Rsa2048, "RSA-2048", ["rsa-full", "rsa-resumed"]),
        (KeyKind::EcP256, "ECDSA P-256", ["ecdsa-full", "ecdsa-resumed"]),
    ] {
        let backend = Backend::start(0)?;
        let proxies = all_with_caddy(lab, Job { key, ..Job::new(backend.address, Upstream::Kept) });
        let request = get("/api2/json/cluster/status", &lab.tickets(0, 1).concat());
        for (resume, id) in [false, true].into_iter().zip(ids) {
            let contenders = proxies.iter().map(|(name, start)| {
                let request = &request;
                Contender::new(name, move || {
                    let proxy = start()?;
                    one(&proxy, request, resume, WARM_UP)?;
                    one(&proxy, request, resume, plan.seconds)
                })
            });
            let mut goals =
                vec![Goal::at_least(1.0, "rate", Against::Best), Goal::at_most(1.0, "cpu", Against::Best)];
            if resume {
                goals.push(Goal::at_least(100.0, "resumed", Against::Nothing));
            }
            rows.push(Row {
                id,
                job: format!(
                    "TLS 1.3 handshake, {}, {name}, and 1 kB",
                    if resume { "resumed" } else { "full" }
                ),
                figures: vec![
                    figure("rate", "connections/s", 0),
                    figure("resumed", "% resumed", 0),
                    figure("cpu", "µs CPU a connection", 0),
                ],
                series: interleave(plan.repeats, contenders.collect())?,
                goals,
            });
        }
    }
    Ok(rows)
}

//! Files of the GUI: 100 kB of script, as it is and compressed.

use anyhow::Result;

use super::api::loaded;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE, SCRIPT_URL};
use crate::measure::{Contender, interleave};
use crate::proxy::{self, Job, Proxy, Upstream, caddy, nginx};
use crate::wrk::Load;

/// A GET of the script.
pub(crate) fn request(url: &str, encoding: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n{encoding}\r\n")
}

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job::new(backend.address, Upstream::Kept);
    let nodegate = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let beforehand = nginx::start(lab, job, "gzip_static on; gzip off;")?;
    let default = nginx::start(lab, job, "gzip on;")?;
    let caddy = caddy::start(lab, job)?;
    let others: Vec<_> = proxy::other_builds(lab, job, PROXY_CORE)
        .map(|(name, start)| Ok((name, start()?)))
        .collect::<Result<_>>()?;
    let identity = Load::new(&lab.path(""), "identity", &[request(SCRIPT_URL, "")])?;
    let gzip = Load::new(&lab.path(""), "gzip", &[request(SCRIPT_URL, "Accept-Encoding: gzip\r\n")])?;
    let row = |id, job: &str, load: &Load, proxies: &[(&'static str, &Proxy)], goals| -> Result<Row> {
        let others = others.iter().map(|(name, proxy)| (*name, proxy));
        let contenders = proxies
            .iter()
            .copied()
            .chain(others)
            .map(|(name, proxy)| Contender::new(name, move || loaded(proxy, load, 64, plan.seconds)));
        Ok(Row {
            id,
            job: job.into(),
            figures: vec![
                figure("rate", "requests/s", 0),
                figure("p50", "p50 ms", 2),
                figure("p999", "p99.9 ms", 2),
                figure("cpu", "µs CPU a request", 1),
            ],
            series: interleave(plan.repeats, contenders.collect())?,
            goals,
        })
    };
    Ok(vec![
        row(
            "static-identity",
            "static, 100 kB of script, identity",
            &identity,
            &[("nodegate", &nodegate), ("nginx", &beforehand), ("Caddy", &caddy)],
            vec![Goal::at_least(1.0, "rate", Against::Best), Goal::at_most(1.0, "cpu", Against::Best)],
        )?,
        row(
            "static-gzip",
            "static, 100 kB of script, gzip",
            &gzip,
            &[
                ("nodegate", &nodegate),
                ("nginx gzip_static", &beforehand),
                ("Caddy precompressed", &caddy),
                ("nginx gzip", &default),
            ],
            vec![
                Goal::at_least(1.0, "rate", Against::Best),
                Goal::at_least(10.0, "rate", Against::One("nginx gzip")),
            ],
        )?,
    ])
}

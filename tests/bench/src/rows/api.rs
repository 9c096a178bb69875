//! API calls: through kept upstream connections and through fresh ones, small and big answers.

use anyhow::Result;
use nodegate_standin::KeyKind;

use super::{Against, Goal, Row};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE};
use crate::load::process;
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Upstream};
use crate::wrk::Load;

const TICKETS: usize = 1000;

/// As a browser asks: a ticket in the cookie.
pub fn get(path: &str, ticket: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         X-Requested-With: XMLHttpRequest\r\nCookie: PVEAuthCookie={}\r\n\r\n",
        ticket.replace(':', "%3A")
    )
}

/// A run of wrk, with the CPU time that the proxy spent on each request.
pub fn loaded(proxy: &Proxy, load: &Load, connections: usize, seconds: f64) -> Result<Sample> {
    let before = process::cpu_seconds(proxy.pid())?;
    let mut sample = load.run(proxy.address, connections, seconds, false)?;
    let spent = process::cpu_seconds(proxy.pid())? - before;
    let requests = sample.get("requests").copied().unwrap_or(f64::NAN);
    sample.insert("cpu", spent * 1e6 / requests);
    Ok(sample)
}

/// A thousand users, a tenth of them new in every run.
fn tickets(lab: &Lab, path: &str, run: usize) -> Vec<String> {
    let known = lab.tickets(0, TICKETS * 9 / 10);
    let new = lab.tickets(TICKETS * (run + 1), TICKETS / 10);
    known.iter().chain(&new).map(|ticket| get(path, ticket)).collect()
}

pub fn row(lab: &Lab, plan: &Plan, upstream: Upstream) -> Result<Row> {
    let backend = Backend::start()?;
    let job = Job { backend: backend.address, upstream, key: KeyKind::Rsa2048 };
    let proxies = [
        ("nodegate", proxy::nodegate(lab, job, PROXY_CORE, &[])?),
        ("nginx", proxy::nginx(lab, job, "")?),
        ("HAProxy", proxy::haproxy(lab, job)?),
    ];
    let path = "/api2/json/cluster/status";
    let loads: Vec<_> = (0..plan.repeats)
        .map(|run| Load::new(&lab.path(""), &format!("api{run}"), &tickets(lab, path, run)))
        .collect::<Result<_>>()?;
    let contenders = proxies.iter().map(|(name, proxy)| {
        let mut turns = loads.iter().cycle();
        Contender::new(name, move || match turns.next() {
            Some(load) => loaded(proxy, load, 64, plan.seconds),
            None => Ok(Sample::new()),
        })
    });
    let series = interleave(plan.repeats, contenders.collect())?;
    let kept = upstream == Upstream::Kept;
    let mut goals =
        vec![Goal::at_least(1.0, "rate", if kept { Against::Best } else { Against::One("nginx") })];
    if kept {
        goals.push(Goal::at_most(1.0, "p99", Against::Best));
    }
    Ok(Row {
        id: if kept { "api-kept" } else { "api-fresh" },
        job: format!("API GET of 1 kB, {} upstream connections", if kept { "kept" } else { "fresh" }),
        figures: vec![
            ("rate", "/s", 0),
            ("p50", "ms", 2),
            ("p99", "ms", 2),
            ("p999", "ms", 2),
            ("cpu", "µs CPU", 1),
        ],
        series,
        goals,
    })
}

//! API calls: through kept upstream connections and through fresh ones, small and big answers, and a GUI's polling.

use std::time::Duration;

use anyhow::Result;
use nodegate_standin::KeyKind;

use super::{Against, Figure, Goal, Row, figure};
use crate::Plan;
use crate::backend::{Backend, three_workers};
use crate::lab::{Lab, PROXY_CORE};
use crate::load::{latency, process};
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Start, Upstream};
use crate::wrk::Load;

const TICKETS: usize = 1000;
/// Seconds.
const WARM_UP: f64 = 1.0;
const SMALL: &str = "/api2/json/cluster/status";
const BIG: &str = "/api2/json/cluster/resources";
const RATES: [Figure; 6] = [
    figure("rate", "requests/s", 0),
    figure("p50", "p50 ms", 2),
    figure("p99", "p99 ms", 2),
    figure("p999", "p99.9 ms", 2),
    figure("cpu", "µs CPU a request", 1),
    figure("system", "of it in the kernel", 1),
];

/// As a browser asks: a ticket in the cookie.
pub(crate) fn get(path: &str, ticket: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         X-Requested-With: XMLHttpRequest\r\nCookie: PVEAuthCookie={}\r\n\r\n",
        ticket.replace(':', "%3A")
    )
}

/// A run of wrk, with the CPU time that the proxy spent on each request.
pub(crate) fn loaded(proxy: &Proxy, load: &Load, connections: usize, seconds: f64) -> Result<Sample> {
    let before = process::cpu(proxy.pid())?;
    let mut sample = load.run(proxy.address, connections, seconds)?;
    let spent = process::cpu(proxy.pid())? - before;
    let requests = sample.get("requests").copied().unwrap_or(f64::NAN);
    sample.insert("cpu", spent.all() * 1e6 / requests);
    sample.insert("system", spent.system * 1e6 / requests);
    Ok(sample)
}

/// The three proxies, set up alike, and other builds of nodegate that are to be measured beside them.
pub(crate) fn all(lab: &Lab, job: Job) -> Vec<(&'static str, Start<'_>)> {
    let mut proxies: Vec<(&'static str, Start<'_>)> = vec![
        ("nodegate", Box::new(move || proxy::nodegate(lab, job, PROXY_CORE, &[]))),
        ("nginx", Box::new(move || proxy::nginx(lab, job, ""))),
        ("HAProxy", Box::new(move || proxy::haproxy(lab, job))),
    ];
    proxies.extend(proxy::other_builds(lab, job));
    proxies
}

/// A thousand users, a tenth of them new to the proxy: the requests to warm up with, and those to measure.
fn loads(lab: &Lab, path: &str) -> Result<[Load; 2]> {
    let [known, new] = [lab.tickets(0, TICKETS * 9 / 10), lab.tickets(TICKETS, TICKETS / 10)];
    let requests = |tickets: &mut dyn Iterator<Item = &String>| -> Vec<_> {
        tickets.map(|ticket| get(path, ticket)).collect()
    };
    let directory = lab.path("");
    Ok([
        Load::new(&directory, "warm-up", &requests(&mut known.iter()))?,
        Load::new(&directory, "api", &requests(&mut known.iter().chain(&new)))?,
    ])
}

fn compare(
    lab: &Lab,
    plan: &Plan,
    upstream: Upstream,
    path: &str,
    connections: usize,
) -> Result<Vec<crate::measure::Series>> {
    // The handshakes at the beginning are to be less than the hundredth of a run that p99 leaves out.
    let seconds = if connections > 1 { plan.seconds * 2.0 } else { plan.seconds };
    let backend = Backend::start(0)?;
    let proxies = all(lab, Job { backend: backend.address, upstream, key: KeyKind::Rsa2048 });
    let [warm_up, load] = loads(lab, path)?;
    let contenders = proxies.iter().map(|(name, start)| {
        let (warm_up, load) = (&warm_up, &load);
        Contender::new(name, move || {
            let proxy = start()?;
            if !plan.is_quick() {
                loaded(&proxy, warm_up, connections, WARM_UP)?;
            }
            loaded(&proxy, load, connections, seconds)
        })
    });
    interleave(plan.repeats, contenders.collect())
}

pub(crate) fn kept(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    Ok(vec![Row {
        id: "api-kept",
        job: "API GET of 1 kB, kept upstream connections".into(),
        figures: RATES.to_vec(),
        series: compare(lab, plan, Upstream::Kept, SMALL, 64)?,
        goals: vec![
            Goal::at_least(1.0, "rate", Against::Best),
            Goal::at_most(1.0, "p99", Against::Best),
            Goal::at_most(1.0, "cpu", Against::Best),
        ],
    }])
}

pub(crate) fn fresh(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    Ok(vec![Row {
        id: "api-fresh",
        job: "API GET of 1 kB, a fresh upstream connection each (shipped default)".into(),
        figures: RATES.to_vec(),
        series: compare(lab, plan, Upstream::Fresh, SMALL, 64)?,
        goals: vec![
            Goal::at_least(1.0, "rate", Against::One("nginx")),
            Goal::at_most(1.0, "cpu", Against::One("nginx")),
        ],
    }])
}

pub(crate) fn one(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    Ok(vec![Row {
        id: "api-one",
        job: "API GET of 1 kB, one connection at a time, kept upstream connections".into(),
        figures: RATES.to_vec(),
        series: compare(lab, plan, Upstream::Kept, SMALL, 1)?,
        goals: vec![Goal::at_most(1.0, "p50", Against::Best)],
    }])
}

pub(crate) fn big(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    Ok(vec![Row {
        id: "api-big",
        job: "API GET of 1.08 MB, kept upstream connections".into(),
        figures: RATES.to_vec(),
        series: compare(lab, plan, Upstream::Kept, BIG, 64)?,
        goals: vec![Goal::at_least(1.0, "rate", Against::Best), Goal::at_most(1.0, "cpu", Against::Best)],
    }])
}

/// Eight browsers that poll, three workers that take one call at a time, each of 5 ms; every hundredth takes a second.
pub(crate) fn polling(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let slow = three_workers(Duration::from_millis(5), Duration::from_secs(1), 100)?;
    let started = all(lab, Job { backend: slow.address, upstream: Upstream::Fresh, key: KeyKind::Rsa2048 });
    let started = started.into_iter().map(|(name, start)| Ok((name, start()?)));
    let proxies = started.collect::<Result<Vec<_>>>()?;
    let even = three_workers(Duration::from_millis(5), Duration::ZERO, 0)?;
    let direct = proxy::nodegate(
        lab,
        Job { backend: even.address, upstream: Upstream::Fresh, key: KeyKind::Rsa2048 },
        PROXY_CORE,
        &[],
    )?;
    let request = get(SMALL, &lab.tickets(0, 1).concat());
    let names = proxies.iter().map(|(name, proxy)| (*name, proxy));
    let contenders = names.chain([("nodegate, no slow call", &direct)]).map(|(name, proxy)| {
        let request = &request;
        Contender::new(name, move || {
            let pause = Duration::from_millis(50);
            let duration = Duration::from_secs_f64(plan.seconds * 2.0);
            let seen = latency::sample(proxy.address, request, 8, pause, duration)?;
            Ok(Sample::from([("p50", seen.p50), ("p99", seen.p99), ("p999", seen.p999)]))
        })
    });
    let series = interleave(plan.repeats, contenders.collect())?;
    Ok(vec![Row {
        id: "polling",
        job: "GUI-like polling, three single-threaded workers behind, 5 ms a call, now and then one of 1 s"
            .into(),
        figures: vec![figure("p50", "p50 ms", 2), figure("p99", "p99 ms", 2), figure("p999", "p99.9 ms", 2)],
        series,
        // pveproxy's own, recorded: 7.8 ms for its part, and the call.
        goals: vec![Goal::at_most(12.8, "p50", Against::Nothing)],
    }])
}

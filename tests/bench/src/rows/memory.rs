//! Memory at rest and with idle connections; the time from the start to the first answer.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::api::{all_with_caddy, get};
use super::files::request;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE, SCRIPT_URL};
use crate::load::{idle, process, start as starting};
use crate::measure::{Contender, Sample, Series, interleave};
use crate::proxy::{self, Job, Proxy, Upstream, haproxy, nginx};

/// Until buffers that are given back have been.
const SETTLED: Duration = Duration::from_secs(4);
/// The same of a bench that is to be quick: nodegate waits for two seconds, the peers give back at once or not at all.
const SETTLED_SOON: [Duration; 2] = [Duration::from_millis(2500), Duration::from_millis(300)];

fn megabytes(bytes: u64) -> f64 {
    crate::load::tunnel::as_float(bytes) / 1e6
}

pub(crate) fn pss(proxy: &Proxy) -> Result<f64> {
    process::memory(proxy.pid()).map(|memory| megabytes(memory.pss))
}

/// Connections that show what being in use costs by itself.
const FEW: usize = 8;

/// Each time a fresh process: with a few connections that have asked once, at rest, with many, and when they have gone.
fn at_rest(proxy: &Proxy, connections: usize, settled: Duration) -> Result<Sample> {
    let asked = request(SCRIPT_URL, "");
    let few = idle::open(proxy.address, FEW, Some(&asked))?;
    std::thread::sleep(settled);
    let with_few = pss(proxy)?;
    drop(few);
    std::thread::sleep(settled);
    let idle_process = pss(proxy)?;
    let many = idle::open(proxy.address, FEW + connections, Some(&asked))?;
    std::thread::sleep(settled);
    let with_many = pss(proxy)?;
    let more = crate::load::tunnel::as_float(u64::try_from(many.count() - FEW)?);
    drop(many);
    std::thread::sleep(settled);
    Ok(Sample::from([
        ("idle", idle_process),
        ("few", with_few),
        ("connection", (with_many - with_few) * 1e3 / more),
        ("after", pss(proxy)?),
    ]))
}

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job { workers: WORKERS, ..Job::new(backend.address, Upstream::Fresh) };
    let count = plan.connections;
    let [ours, theirs] = if plan.is_quick() { SETTLED_SOON } else { [SETTLED; 2] };
    let contenders = vec![
        Contender::new("nodegate", || at_rest(&proxy::nodegate(lab, job, PROXY_CORE, &[])?, count, ours)),
        Contender::new("nginx", || at_rest(&nginx::start(lab, job, "")?, count, theirs)),
        Contender::new("HAProxy", || at_rest(&haproxy::files(lab, WORKERS)?, count, theirs)),
    ];
    Ok(vec![Row {
        id: "memory",
        job: format!("memory (PSS): at rest, for each of {count} idle TLS connections, after they have gone"),
        figures: vec![
            figure("idle", "MB at rest", 1),
            figure("few", "MB with 8 of them", 1),
            figure("connection", "kB a connection", 1),
            figure("after", "MB afterwards", 1),
        ],
        series: interleave(plan.repeats.min(3), contenders)?,
        goals: vec![
            Goal::at_most(6.0, "idle", Against::Nothing),
            Goal::at_most(15.0, "connection", Against::Nothing),
            Goal::at_most(1.0, "connection", Against::Best),
        ],
    }])
}

/// As many workers as nodegate has by itself, at each of the proxies.
const WORKERS: usize = 3;
/// As in Debian's configuration of nginx.
const DEFAULT: u64 = 768;
/// A thousand requests, and the time after the last of them.
const ASKING: [usize; 2] = [20, 50];
const REST: Duration = Duration::from_mins(1);
const SHORT_REST: Duration = Duration::from_secs(5);

/// The proxies rest at the same time, so the minute passes once for all of them.
pub(crate) fn after_requests(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job { workers: WORKERS, connections: DEFAULT, ..Job::new(backend.address, Upstream::Fresh) };
    let request = get("/api2/json/cluster/status", &lab.tickets(0, 1).concat());
    let rest = if plan.is_quick() { SHORT_REST } else { REST };
    let proxies = all_with_caddy(lab, job);
    let mut series: Vec<_> = proxies.iter().map(|(name, _)| Series { name, samples: Vec::new() }).collect();
    for _ in 0..plan.repeats.min(3) {
        let started = proxies.iter().map(|(_, start)| start()).collect::<Result<Vec<_>>>()?;
        for proxy in &started {
            let [connections, times] = ASKING;
            idle::ask(proxy.address, connections, times, &request)?;
        }
        std::thread::sleep(rest);
        let nginx = proxies.iter().position(|(name, _)| *name == "nginx");
        let nginx = nginx.and_then(|place| started.get(place)).context("nginx is a peer")?;
        let nginx = process::private(nginx.pid())?.rss;
        for (proxy, series) in started.iter().zip(&mut series) {
            let used = process::private(proxy.pid())?;
            series.samples.push(Sample::from([
                ("private", megabytes(used.anonymous)),
                ("copied", megabytes(used.copied)),
                ("rss", megabytes(used.rss)),
                ("more", megabytes(used.rss) - megabytes(nginx)),
            ]));
        }
    }
    Ok(vec![Row {
        id: "memory-rest",
        job: format!("memory {} s after the last of 1,000 requests, {WORKERS} workers each", rest.as_secs()),
        figures: vec![
            figure("private", "private MB", 1),
            figure("copied", "MB of written pages of programs and libraries", 1),
            figure("rss", "RSS, MB", 1),
            figure("more", "MB of RSS more than nginx", 1),
        ],
        series,
        goals: vec![
            Goal::at_most(3.0, "private", Against::Nothing),
            Goal::at_most(4.0, "more", Against::Nothing),
        ],
    }])
}

pub(crate) fn start(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let asked = request(SCRIPT_URL, "");
    let took = |prepared: (Command, std::net::SocketAddr)| -> Result<Sample> {
        let (mut command, address) = prepared;
        let started = starting::first_answer(&mut command, address, &asked)?;
        Ok(Sample::from([("start", started.took.as_secs_f64() * 1e3)]))
    };
    let backend = Backend::start(0)?;
    let job = Job::new(backend.address, Upstream::Fresh);
    let contenders = vec![
        Contender::new("nodegate", || took(proxy::nodegate_prepared(lab, job, PROXY_CORE, &["workers=3"])?)),
        Contender::new("nginx", || took(nginx::prepared(lab, job, "", PROXY_CORE)?)),
        Contender::new("HAProxy", || took(haproxy::files_prepared(lab, 1)?)),
    ];
    Ok(vec![Row {
        id: "start",
        job: "start to the first whole answer over TLS".into(),
        figures: vec![figure("start", "ms", 0)],
        series: interleave(plan.repeats * 2, contenders)?,
        goals: vec![Goal::at_most(30.0, "start", Against::Nothing)],
    }])
}

//! Reloads under load: the slowest request, and what clients notice of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::api::get;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE};
use crate::load::steady;
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Upstream, haproxy, nginx};

const CLIENTS: usize = 16;
/// Between an answer and the next request of a client.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two reloads.
const INTERVAL: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(10);

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job { workers: 3, ..Job::new(backend.address, Upstream::Kept) };
    let request = get("/api2/json/cluster/status", &lab.tickets(0, 1).concat());
    let request = request.as_str();
    let nodegate = move || proxy::nodegate(lab, job, PROXY_CORE, &[]);
    let contenders = vec![
        Contender::new("nodegate", move || run(&nodegate()?, request, plan, Some(Signal::SIGHUP))),
        Contender::new("nginx", move || {
            run(&nginx::start(lab, job, "")?, request, plan, Some(Signal::SIGHUP))
        }),
        Contender::new("HAProxy", move || {
            run(&haproxy::reloadable(lab, job)?, request, plan, Some(Signal::SIGUSR2))
        }),
        Contender::new("nodegate, no reload", move || run(&nodegate()?, request, plan, None)),
    ];
    Ok(vec![Row {
        id: "reload",
        job: format!("{CLIENTS} clients while the proxy reloads every {} ms", INTERVAL.as_millis()),
        figures: vec![
            figure("slowest", "slowest ms", 1),
            figure("p50", "p50 ms", 2),
            figure("failed", "failed requests", 0),
            figure("reconnected", "new connections", 0),
            figure("requests", "requests", 0),
        ],
        series: interleave(plan.repeats, contenders)?,
        goals: vec![
            Goal::at_most(1.0, "slowest", Against::Best),
            Goal::at_most(0.0, "failed", Against::Nothing),
            Goal::at_most(0.0, "reconnected", Against::Nothing),
        ],
    }])
}

fn run(proxy: &Proxy, request: &str, plan: &Plan, reload: Option<Signal>) -> Result<Sample> {
    let duration = Duration::from_secs_f64(plan.seconds * 2.0);
    let ended = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let ended = &ended;
        let reloading = scope.spawn(move || match reload {
            Some(signal) => reload_again_and_again(proxy, signal, ended),
            None => Ok(()),
        });
        let seen = steady::run(proxy.address, request, CLIENTS, PAUSE, duration);
        ended.store(true, Ordering::Relaxed);
        reloading.join().ok().context("the thread that reloads has panicked")??;
        seen
    })?;
    let count = |number: usize| anyhow::Ok(f64::from(u32::try_from(number)?));
    Ok(Sample::from([
        ("slowest", seen.slowest),
        ("p50", seen.p50),
        ("failed", count(seen.failed)?),
        ("reconnected", count(seen.reconnected)?),
        ("requests", count(seen.requests)?),
    ]))
}

fn reload_again_and_again(proxy: &Proxy, signal: Signal, ended: &AtomicBool) -> Result<()> {
    let mut next = Instant::now() + INTERVAL;
    while !ended.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            proxy.signal(signal)?;
            next += INTERVAL;
        }
        thread::sleep(TICK);
    }
    Ok(())
}

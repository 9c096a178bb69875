//! Memory at rest and with idle connections; the time from the start to the first answer.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nodegate_standin::KeyKind;

use super::files::request;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE, SCRIPT_URL};
use crate::load::{idle, process, start as starting};
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Upstream};

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
    let job = Job { backend: backend.address, upstream: Upstream::Fresh, key: KeyKind::Rsa2048 };
    let count = plan.connections;
    let [ours, theirs] = if plan.is_quick() { SETTLED_SOON } else { [SETTLED; 2] };
    let contenders = vec![
        Contender::new("nodegate", || {
            at_rest(&proxy::nodegate(lab, job, PROXY_CORE, &["workers=3"])?, count, ours)
        }),
        Contender::new("nginx", || at_rest(&proxy::nginx(lab, job, "")?, count, theirs)),
        Contender::new("HAProxy", || at_rest(&proxy::haproxy_files(lab)?, count, theirs)),
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

pub(crate) fn start(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let asked = request(SCRIPT_URL, "");
    let took = |prepared: (Command, std::net::SocketAddr)| -> Result<Sample> {
        let (mut command, address) = prepared;
        let started = starting::first_answer(&mut command, address, &asked)?;
        Ok(Sample::from([("start", started.took.as_secs_f64() * 1e3)]))
    };
    let backend = Backend::start(0)?;
    let job = Job { backend: backend.address, upstream: Upstream::Fresh, key: KeyKind::Rsa2048 };
    let contenders = vec![
        Contender::new("nodegate", || took(proxy::nodegate_prepared(lab, job, PROXY_CORE, &["workers=3"])?)),
        Contender::new("nginx", || took(proxy::nginx_prepared(lab, job, "")?)),
        Contender::new("HAProxy", || took(proxy::haproxy_files_prepared(lab)?)),
    ];
    Ok(vec![Row {
        id: "start",
        job: "start to the first whole answer over TLS".into(),
        figures: vec![figure("start", "ms", 0)],
        series: interleave(plan.repeats * 2, contenders)?,
        goals: vec![Goal::at_most(30.0, "start", Against::Nothing)],
    }])
}

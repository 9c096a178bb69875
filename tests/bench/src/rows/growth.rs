//! How costs grow with cores, connections, ACL entries and nodes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::api::{get, loaded};
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{LOAD_CORE, Lab, PROXY_CORE};
use crate::load::{idle, latency};
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Upstream, nginx};
use crate::wrk::Load;

const PATH: &str = "/api2/json/cluster/status";
/// How the line of the same begins in a table of routes.
const OWN: &str = "/cluster/status ";
const PVE_ROUTES: &str = include_str!("../../../../profiles/pve.routes");
const PMG_ROUTES: &str = include_str!("../../../../profiles/pmg.routes");
/// One worker on the core of the generator.
const BESIDE: &str = "1 worker, on the generator's core";

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job::new(backend.address, Upstream::Kept);
    Ok(vec![
        cores(lab, plan, job)?,
        connections(lab, plan, job)?,
        idle_neighbours(lab, plan, job)?,
        forwarding(lab, plan, job)?,
    ])
}

fn load(lab: &Lab, path: &str) -> Result<Load> {
    let requests: Vec<_> = lab.tickets(0, 100).iter().map(|ticket| get(path, ticket)).collect();
    Load::new(&lab.path(""), "growth", &requests)
}

/// The generator needs one of the two cores, so the row compares the CPU time of a request. One of two workers has to
/// share that core and its caches. One worker there shows the cost of sharing.
fn cores(lab: &Lab, plan: &Plan, job: Job) -> Result<Row> {
    let load = load(lab, PATH)?;
    let two = proxy::nodegate(lab, job, "0,1", &["workers=2"])?;
    let one = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let sharing = proxy::nodegate(lab, job, &LOAD_CORE.to_string(), &[])?;
    let run = |proxy, cores: f64| {
        let mut sample = loaded(proxy, &load, 64, plan.seconds)?;
        let cpu = sample.get("cpu").copied().unwrap_or(f64::NAN);
        sample.insert("capacity", cores * 1e6 / cpu);
        Ok::<Sample, anyhow::Error>(sample)
    };
    let contenders = vec![
        Contender::new("2 workers", || run(&two, 2.0)),
        Contender::new("1 worker", || run(&one, 1.0)),
        Contender::new(BESIDE, || run(&sharing, 1.0)),
    ];
    Ok(Row {
        id: "cores",
        job: "API GET of 1 kB on two cores against one (requests that the CPU time of a request allows)"
            .into(),
        figures: vec![
            figure("capacity", "requests/s possible", 0),
            figure("cpu", "µs CPU a request", 1),
            figure("rate", "requests/s beside the generator", 0),
        ],
        series: interleave(plan.repeats, contenders)?,
        goals: vec![
            Goal::at_least(1.8, "capacity", Against::One("1 worker")),
            Goal::at_least(1.8, "capacity", Against::One(BESIDE)),
        ],
    })
}

fn connections(lab: &Lab, plan: &Plan, job: Job) -> Result<Row> {
    let load = load(lab, PATH)?;
    let nodegate = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let nginx = nginx::start(lab, job, "")?;
    let one = |name, proxy, count: u16| {
        let load = &load;
        // The handshakes come first, and are not to be a tenth of what is measured.
        let seconds = plan.seconds + f64::from(count) / if plan.is_quick() { 1000.0 } else { 100.0 };
        Contender::new(name, move || loaded(proxy, load, count.into(), seconds))
    };
    Ok(Row {
        id: "connections",
        job: "API GET of 1 kB on more and more connections".into(),
        figures: vec![
            figure("rate", "requests/s", 0),
            figure("cpu", "µs CPU a request", 1),
            figure("p50", "p50 ms", 2),
            figure("p99", "p99 ms", 2),
        ],
        series: interleave(
            plan.repeats,
            vec![
                one("1000 connections", &nodegate, 1000),
                one("300 connections", &nodegate, 300),
                one("100 connections", &nodegate, 100),
                one("30 connections", &nodegate, 30),
                one("10 connections", &nodegate, 10),
                one("nginx, 1000 connections", &nginx, 1000),
                one("nginx, 10 connections", &nginx, 10),
            ],
        )?,
        goals: vec![Goal::at_most(1.0, "cpu", Against::One("nginx, 1000 connections"))],
    })
}

/// Each request of this row has its own connection, because the list is read once a connection. One process gets its
/// list by a reload: two processes would differ by more than the list costs.
pub(crate) fn acl(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job::new(backend.address, Upstream::Kept);
    let mut ranges = String::from("DENY_FROM=");
    for number in 0..10_000_u32 {
        // No two are neighbours, so none can be merged.
        let [_, _, a, b] = (number * 2).to_be_bytes();
        let _ = write!(ranges, "10.9.{a}.{b},");
    }
    let request = get(PATH, &lab.tickets(0, 1).concat()).replace("Accept:", "Connection: close\r\nAccept:");
    let load = Load::new(&lab.path(""), "acl", &[request])?;
    let settings = lab.root().join("etc/default/pveproxy");
    let before = std::fs::read_to_string(&settings)?;
    let proxy = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let run = |more: &str| {
        std::fs::write(&settings, format!("{before}{more}\n"))?;
        proxy.reload()?;
        loaded(&proxy, &load, 16, plan.seconds)
    };
    let contenders = vec![
        Contender::new("10,000 entries", || run(ranges.trim_end_matches(','))),
        Contender::new("no ACL", || run("")),
    ];
    let series = interleave(plan.many(), contenders)?;
    std::fs::write(&settings, &before)?;
    Ok(vec![Row {
        id: "acl",
        job: "a connection for each request, with an ACL of 10,000 entries".into(),
        figures: vec![figure("cpu", "µs CPU a connection", 1), figure("rate", "connections/s", 0)],
        series,
        goals: vec![Goal::at_most(1.01, "cpu", Against::One("no ACL"))],
    }])
}

/// The methods of both products in one table against only the requested method: two profiles that differ in nothing
/// else.
pub(crate) fn routes(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job::new(backend.address, Upstream::Kept);
    let load = load(lab, PATH)?;
    let profile = |name: &str, table: &str| -> Result<PathBuf> {
        let directory = lab.path(name);
        std::fs::create_dir_all(&directory)?;
        let printed = Command::new(&lab.nodegate).args(["profiles", "pve"]).output()?;
        ensure!(printed.status.success(), "nodegate profiles pve: {}", printed.status);
        let path = directory.join("pve.toml");
        std::fs::write(&path, printed.stdout)?;
        std::fs::write(directory.join("pve.routes"), table)?;
        Ok(path)
    };
    // The root of the API would end in a slash.
    let below_root = PMG_ROUTES.lines().filter(|line| !line.starts_with("/ "));
    let more: Vec<_> = below_root.map(|line| format!("/pmg{line}")).collect();
    let own: String = PVE_ROUTES.lines().filter(|line| line.starts_with(OWN)).collect();
    let [all, one] = [profile("all", &[PVE_ROUTES, &more.join("\n")].concat())?, profile("one", &own)?];
    let run = |profile: &Path| loaded(&proxy::nodegate_profile(lab, job, profile)?, &load, 64, plan.seconds);
    let contenders =
        vec![Contender::new("1,104 methods", || run(&all)), Contender::new("1 method", || run(&one))];
    Ok(vec![Row {
        id: "routes",
        job: "API GET of 1 kB with a route table of 1,104 methods".into(),
        figures: vec![figure("cpu", "µs CPU a request", 1), figure("rate", "requests/s", 0)],
        series: interleave(plan.many(), contenders)?,
        goals: vec![Goal::at_most(1.01, "cpu", Against::One("1 method"))],
    }])
}

fn idle_neighbours(lab: &Lab, plan: &Plan, job: Job) -> Result<Row> {
    let request = get(PATH, &lab.tickets(0, 1).concat());
    let crowded = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let quiet = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let neighbours = idle::open(crowded.address, plan.connections, Some(&request))?;
    std::thread::sleep(Duration::from_secs(if plan.is_quick() { 1 } else { 3 }));
    let one = |name, proxy: &crate::proxy::Proxy| {
        let (address, request) = (proxy.address, &request);
        Contender::new(name, move || {
            let seen =
                latency::sample(address, request, 4, Duration::ZERO, Duration::from_secs_f64(plan.seconds))?;
            Ok(Sample::from([("p50", seen.p50), ("p99", seen.p99)]))
        })
    };
    let series = interleave(plan.repeats, vec![one("idle neighbours", &crowded), one("alone", &quiet)])?;
    drop(neighbours);
    Ok(Row {
        id: "idle",
        job: format!("4 clients beside {} idle connections", plan.connections),
        figures: vec![figure("p50", "p50 ms", 3), figure("p99", "p99 ms", 3)],
        series,
        goals: vec![Goal::at_most(1.1, "p50", Against::One("alone"))],
    })
}

/// A cluster of 32 nodes, of which one other is there: what goes to it goes through two doors.
fn forwarding(lab: &Lab, plan: &Plan, job: Job) -> Result<Row> {
    let far = proxy::nodegate(lab, job, "1", &["node.name=far"])?;
    let members = lab.members(32)?;
    let near = proxy::nodegate(lab, job, PROXY_CORE, &[&format!("cluster.port={}", far.address.port())])?;
    let there = load(lab, "/api2/json/nodes/far/status")?;
    let there = |proxy| loaded(proxy, &there, 16, plan.seconds);
    let here = Load::new(
        &lab.path(""),
        "here",
        &[get(
            &format!("/api2/json/nodes/{}/status", nodegate_standin::demo::node_name()),
            &lab.tickets(0, 1).concat(),
        )],
    )?;
    let contenders = vec![
        Contender::new("to another node", || there(&near)),
        Contender::new("to this node", || loaded(&near, &here, 16, plan.seconds)),
    ];
    let series = interleave(plan.repeats, contenders)?;
    std::fs::remove_file(members)?;
    Ok(Row {
        id: "forwarding",
        job: "API GET of 1 kB to another of 32 nodes".into(),
        figures: vec![
            figure("rate", "requests/s", 0),
            figure("p50", "p50 ms", 2),
            figure("cpu", "µs CPU a request, first node", 1),
        ],
        series,
        goals: vec![],
    })
}

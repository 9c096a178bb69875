//! A GUI that polls a daemon of three workers: alone, beside a script, a dead storage, both, and ten scripts.

use std::time::{Duration, Instant};

use anyhow::Result;
use nodegate_standin::demo;

use super::api::get;
use super::{Against, Figure, Goal, Row, figure};
use crate::Plan;
use crate::backend::Workers;
use crate::lab::{Lab, PROXY_CORE};
use crate::load::background::Background;
use crate::load::latency;
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Upstream, haproxy, nginx};

const WORKERS: usize = 3;
/// The time of a call: of the GUI, of a script.
const CALL: Duration = Duration::from_millis(5);
const SCRIPT_CALL: Duration = Duration::from_millis(50);
/// Windows of the GUI, each of a user of its own, and the time from an answer to the next request: together they use
/// 2 % of the workers' time.
const WINDOWS: usize = 6;
const PAUSE: Duration = Duration::from_millis(400);
/// Calls of one client to a storage that does not answer.
const DEAD_CALLS: usize = 4;
/// Until a script's calls wait for each other as they will all the time.
const SETTLED: Duration = Duration::from_secs(1);
const MOST_REPEATS: usize = 3;
const UNLIMITED: &str = "nodegate, backend.workers=0";
const FIGURES: [Figure; 4] = [
    figure("p50", "p50 ms", 1),
    figure("p99", "p99 ms", 1),
    figure("max", "max ms", 1),
    figure("scripts", "script calls/s", 1),
];

/// The load beside the GUI.
struct Scene {
    id: &'static str,
    job: &'static str,
    scripts: usize,
    /// calls at once of each script
    parallel: usize,
    dead_calls: usize,
    goals: Vec<Goal>,
}

fn scenes() -> [Scene; 5] {
    let at_most = |bound, figure| Goal::at_most(bound, figure, Against::Nothing);
    let throughput = || Goal::at_least(0.95, "scripts", Against::One(UNLIMITED));
    let scene = |id, job, [scripts, parallel, dead_calls]: [usize; 3], goals| Scene {
        id,
        job,
        scripts,
        parallel,
        dead_calls,
        goals,
    };
    [
        scene("workers-alone", "GUI: six windows, three workers, 5 ms a call", [0, 0, 0], vec![]),
        scene(
            "workers-script",
            "GUI beside a script of 64 parallel calls of 50 ms",
            [1, 64, 0],
            vec![at_most(40.0, "p50"), at_most(150.0, "p99"), throughput()],
        ),
        scene(
            "workers-storage",
            "GUI beside a dead storage (four calls of one client, 8 s each), after 10 s",
            [0, 0, DEAD_CALLS],
            vec![at_most(12.0, "p50"), at_most(60.0, "p99")],
        ),
        scene(
            "workers-both",
            "GUI beside the script and the dead storage, after 10 s",
            [1, 64, DEAD_CALLS],
            vec![at_most(60.0, "p50")],
        ),
        scene(
            "workers-scripts",
            "GUI beside ten scripts of different users, 16 parallel calls of 50 ms each",
            [10, 16, 0],
            vec![at_most(60.0, "p50"), throughput()],
        ),
    ]
}

/// The contenders, by the way to start them.
type Started = (&'static str, fn(&Lab, Job) -> Result<Proxy>);
const CONTENDERS: [Started; 5] = [
    ("nodegate", |lab, job| proxy::nodegate(lab, job, PROXY_CORE, &[])),
    (UNLIMITED, |lab, job| proxy::nodegate(lab, job, PROXY_CORE, &["backend.workers=0"])),
    ("nginx", |lab, job| nginx::start(lab, job, "")),
    ("HAProxy", haproxy::start),
    ("HAProxy, maxconn 3", |lab, job| haproxy::with_queue(lab, job, WORKERS)),
];

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    scenes().into_iter().map(|scene| row(lab, plan, scene)).collect()
}

fn row(lab: &Lab, plan: &Plan, scene: Scene) -> Result<Row> {
    let beside = &scene;
    let contenders = CONTENDERS
        .into_iter()
        .map(|(name, start)| Contender::new(name, move || run(lab, plan, beside, start)));
    let series = interleave(plan.repeats.min(MOST_REPEATS), contenders.collect())?;
    let figures = if scene.scripts > 0 { &FIGURES[..] } else { &FIGURES[..3] };
    Ok(Row { id: scene.id, job: scene.job.into(), figures: figures.to_vec(), series, goals: scene.goals })
}

/// One run with a daemon of its own: the calls of the run before may still hold another's workers.
fn run(lab: &Lab, plan: &Plan, scene: &Scene, start: fn(&Lab, Job) -> Result<Proxy>) -> Result<Sample> {
    // A quick run learns of a storage that is dead for a shorter time.
    let (dead, learning) = if plan.is_quick() { (2, 3) } else { (8, 10) };
    let (dead, learning) = (Duration::from_secs(dead), Duration::from_secs(learning));
    let daemon = Workers::start(WORKERS, move |line| duration(line, dead))?;
    let job = Job::new(daemon.address, Upstream::Fresh);
    let proxy = start(lab, job)?;
    let scripts = Background::start(proxy.address, script_calls(lab, scene))?;
    let stuck = Background::start(proxy.address, dead_calls(lab, scene))?;
    if scene.dead_calls > 0 {
        std::thread::sleep(learning);
    } else if scene.scripts > 0 {
        std::thread::sleep(SETTLED);
    }
    let (before, begun) = (scripts.answered(), Instant::now());
    let seconds = Duration::from_secs_f64(plan.seconds * 4.0);
    let seen = latency::windows(proxy.address, &windows(lab), PAUSE, seconds)?;
    let answered = f64::from(u32::try_from(scripts.answered() - before)?);
    let rate = answered / begun.elapsed().as_secs_f64();
    scripts.stop()?;
    stuck.stop()?;
    Ok(Sample::from([("p50", seen.p50), ("p99", seen.p99), ("max", seen.max), ("scripts", rate)]))
}

/// By the paths of `windows`, `script_calls` and `dead_calls`.
fn duration(line: &str, dead: Duration) -> Duration {
    if line.contains("/storage/dead/") {
        dead
    } else if line.contains("/config") {
        SCRIPT_CALL
    } else {
        CALL
    }
}

fn path(rest: &str) -> String {
    format!("/api2/json/nodes/{}/{rest}", demo::node_name())
}

/// The calls that a window repeats: lists, tasks, a guest's and the node's state.
fn windows(lab: &Lab) -> Vec<Vec<String>> {
    let paths = [
        "/api2/json/cluster/resources".to_owned(),
        path("qemu/100/status/current"),
        "/api2/json/cluster/tasks".to_owned(),
        path("status"),
        path("storage/local/status"),
    ];
    let tickets = lab.tickets(0, WINDOWS);
    tickets.iter().map(|ticket| paths.iter().map(|path| get(path, ticket)).collect()).collect()
}

/// Reads of many guests' configurations, as Terraform does it.
fn script_calls(lab: &Lab, scene: &Scene) -> Vec<String> {
    let tickets = lab.tickets(100, scene.scripts);
    let guests = 100..100 + scene.parallel;
    let calls = |ticket: &String| {
        let guests = guests.clone();
        guests.map(|guest| get(&path(&format!("qemu/{guest}/config")), ticket)).collect::<Vec<_>>()
    };
    tickets.iter().flat_map(calls).collect()
}

fn dead_calls(lab: &Lab, scene: &Scene) -> Vec<String> {
    let ticket = lab.tickets(200, 1).concat();
    vec![get(&path("storage/dead/content"), &ticket); scene.dead_calls]
}

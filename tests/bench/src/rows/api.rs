//! API calls: through kept upstream connections and through fresh ones, small and big answers, and a GUI's polling.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{Against, Figure, Goal, Row, figure};
use crate::backend::{self, Backend, three_workers};
use crate::lab::{Lab, PROXY_CORE};
use crate::load::{latency, process};
use crate::measure::{Contender, Sample, Series, interleave};
use crate::proxy::{self, Job, Proxy, Start, Upstream, caddy, haproxy, nginx};
use crate::wrk::Load;
use crate::{Plan, h2load};

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
/// h2load writes no percentiles.
const H2LOAD_RATES: [Figure; 4] = [
    figure("h2load rate", "requests/s", 0),
    figure("h2load mean", "mean ms", 2),
    figure("h2load cpu", "µs CPU a request", 1),
    figure("h2load system", "of it in the kernel", 1),
];
/// The names of h2load's figures beside those of wrk in one sample.
const RENAMED: [(&str, &str); 4] =
    [("rate", "h2load rate"), ("mean", "h2load mean"), ("cpu", "h2load cpu"), ("system", "h2load system")];

/// As a browser asks: a ticket in the cookie.
pub(crate) fn get(path: &str, ticket: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         X-Requested-With: XMLHttpRequest\r\n{}\r\n\r\n",
        cookie(ticket)
    )
}

fn cookie(ticket: &str) -> String {
    format!("Cookie: PVEAuthCookie={}", ticket.replace(':', "%3A"))
}

/// A run of wrk, with the CPU time that the proxy spent on each request.
pub(crate) fn loaded(proxy: &Proxy, load: &Load, connections: usize, seconds: f64) -> Result<Sample> {
    with_cpu(proxy, || load.run(proxy.address, connections, seconds))
}

/// Adds the proxy's CPU time for each of the `requests` of a run.
fn with_cpu(proxy: &Proxy, run: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let before = process::cpu(proxy.pid())?;
    let mut sample = run()?;
    let spent = process::cpu(proxy.pid())? - before;
    let requests = sample.get("requests").copied().unwrap_or(f64::NAN);
    sample.insert("cpu", spent.all() * 1e6 / requests);
    sample.insert("system", spent.system * 1e6 / requests);
    Ok(sample)
}

/// The proxies, set up alike, and other builds of nodegate that are to be measured beside them.
pub(crate) fn all(lab: &Lab, job: Job) -> Vec<(&'static str, Start<'_>)> {
    let mut proxies: Vec<(&'static str, Start<'_>)> = vec![
        ("nodegate", Box::new(move || proxy::nodegate(lab, job, PROXY_CORE, &[]))),
        ("nginx", Box::new(move || nginx::start(lab, job, ""))),
        ("HAProxy", Box::new(move || haproxy::start(lab, job))),
    ];
    proxies.extend(proxy::other_builds(lab, job, PROXY_CORE));
    proxies
}

/// The same with Caddy.
pub(crate) fn all_with_caddy(lab: &Lab, job: Job) -> Vec<(&'static str, Start<'_>)> {
    let mut proxies = all(lab, job);
    proxies.insert(3, ("Caddy", Box::new(move || caddy::start(lab, job))));
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

/// The calls of some rows: each of two daemons behind the proxies, and each of two generators before them.
struct Calls {
    /// The rows by their daemon and generator: the fixed one and wrk, with h2load, nginx and wrk, with h2load.
    ids: [&'static str; 4],
    job: &'static str,
    upstream: Upstream,
    path: &'static str,
    connections: usize,
    with_caddy: bool,
    /// Of the first row, and of those by wrk and by h2load.
    goals: [fn() -> Vec<Goal>; 3],
}

/// The files that nginx serves as the daemon: bodies as long as those of the fixed one.
fn daemon_files(lab: &Lab) -> Result<PathBuf> {
    let directory = lab.path("daemon");
    for (path, length) in [(SMALL, backend::SMALL), (BIG, backend::BIG)] {
        let file = directory.join(path.trim_start_matches('/'));
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, backend::body(length))?;
    }
    Ok(directory)
}

impl Calls {
    fn measure(&self, lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
        let [fixed_wrk, fixed_h2load, nginx_wrk, nginx_h2load] = self.ids;
        let [first, by_wrk, by_h2load] = self.goals;
        let fixed = Backend::start(0)?;
        // The handshakes at the beginning are to be less than the hundredth of a run that p99 leaves out.
        let seconds = if self.connections > 1 { plan.seconds * 2.0 } else { plan.seconds };
        let series = self.compare(lab, plan, Job::new(fixed.address, self.upstream), seconds)?;
        let mut rows = self.rows([fixed_wrk, fixed_h2load], ["", ", h2load"], &series, [first, by_h2load]);
        let files = nginx::daemon(lab, &daemon_files(lab)?)?;
        let series = self.compare(lab, plan, Job::new(files.address, self.upstream), plan.seconds)?;
        let titles = [", nginx as the daemon", ", nginx as the daemon, h2load"];
        rows.extend(self.rows([nginx_wrk, nginx_h2load], titles, &series, [by_wrk, by_h2load]));
        Ok(rows)
    }

    fn rows(
        &self,
        ids: [&'static str; 2],
        titles: [&str; 2],
        series: &[Series],
        goals: [fn() -> Vec<Goal>; 2],
    ) -> Vec<Row> {
        let figures = [&RATES[..], &H2LOAD_RATES[..]];
        let rows = ids.into_iter().zip(titles).zip(figures).zip(goals);
        rows.map(|(((id, title), figures), goals)| Row {
            id,
            job: format!("{}{title}", self.job),
            figures: figures.to_vec(),
            series: series.to_vec(),
            goals: goals(),
        })
        .collect()
    }

    /// Each run starts a proxy, and loads it with wrk for `seconds` and then with h2load.
    fn compare(&self, lab: &Lab, plan: &Plan, job: Job, seconds: f64) -> Result<Vec<Series>> {
        let proxies = if self.with_caddy { all_with_caddy(lab, job) } else { all(lab, job) };
        let [warm_up, load] = loads(lab, self.path)?;
        let header = cookie(&lab.tickets(0, 1).concat());
        let h2load = h2load::Load {
            path: self.path,
            header: &header,
            connections: self.connections,
            streams: None,
            seconds: plan.seconds,
        };
        let contenders = proxies.iter().map(|(name, start)| {
            let (warm_up, load, h2load) = (&warm_up, &load, &h2load);
            Contender::new(name, move || {
                let proxy = start()?;
                if !plan.is_quick() {
                    loaded(&proxy, warm_up, self.connections, WARM_UP)?;
                }
                let mut sample = loaded(&proxy, load, self.connections, seconds)?;
                let second = with_cpu(&proxy, || h2load.run(proxy.address))?;
                let renamed = RENAMED.iter().filter_map(|(from, to)| Some((*to, *second.get(from)?)));
                sample.extend(renamed);
                Ok(sample)
            })
        });
        interleave(plan.repeats, contenders.collect())
    }
}

fn fast() -> Vec<Goal> {
    vec![Goal::at_least(1.0, "rate", Against::Best), Goal::at_most(1.0, "cpu", Against::Best)]
}

fn fast_by_h2load() -> Vec<Goal> {
    vec![Goal::at_least(1.0, "h2load rate", Against::Best), Goal::at_most(1.0, "h2load cpu", Against::Best)]
}

pub(crate) fn kept(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let first = || {
        let mut goals = fast();
        goals.push(Goal::at_most(1.0, "p99", Against::Best));
        goals
    };
    let calls = Calls {
        ids: ["api-kept", "api-kept-h2load", "api-kept-nginx", "api-kept-nginx-h2load"],
        job: "API GET of 1 kB, kept upstream connections",
        upstream: Upstream::Kept,
        path: SMALL,
        connections: 64,
        with_caddy: true,
        goals: [first, fast, fast_by_h2load],
    };
    calls.measure(lab, plan)
}

pub(crate) fn fresh(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let calls = Calls {
        ids: ["api-fresh", "api-fresh-h2load", "api-fresh-nginx", "api-fresh-nginx-h2load"],
        job: "API GET of 1 kB, a fresh upstream connection each (shipped default)",
        upstream: Upstream::Fresh,
        path: SMALL,
        connections: 64,
        with_caddy: true,
        goals: [fast, fast, fast_by_h2load],
    };
    calls.measure(lab, plan)
}

pub(crate) fn one(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let quick = || vec![Goal::at_most(1.0, "p50", Against::Best)];
    let calls = Calls {
        ids: ["api-one", "api-one-h2load", "api-one-nginx", "api-one-nginx-h2load"],
        job: "API GET of 1 kB, one connection at a time, kept upstream connections",
        upstream: Upstream::Kept,
        path: SMALL,
        connections: 1,
        with_caddy: false,
        goals: [quick, quick, || vec![Goal::at_most(1.0, "h2load mean", Against::Best)]],
    };
    calls.measure(lab, plan)
}

pub(crate) fn big(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let calls = Calls {
        ids: ["api-big", "api-big-h2load", "api-big-nginx", "api-big-nginx-h2load"],
        job: "API GET of 1.08 MB, kept upstream connections",
        upstream: Upstream::Kept,
        path: BIG,
        connections: 64,
        with_caddy: false,
        goals: [fast, fast, fast_by_h2load],
    };
    calls.measure(lab, plan)
}

/// Requests over HTTP/2, four at once on each of 16 connections.
pub(crate) fn http2(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let backend = Backend::start(0)?;
    let job = Job { http2: true, ..Job::new(backend.address, Upstream::Kept) };
    let proxies = all_with_caddy(lab, job);
    let header = cookie(&lab.tickets(0, 1).concat());
    let load =
        |seconds| h2load::Load { path: SMALL, header: &header, connections: 16, streams: Some(4), seconds };
    let (warm_up, load) = (load(WARM_UP), load(plan.seconds));
    let contenders = proxies.iter().map(|(name, start)| {
        let (warm_up, load) = (&warm_up, &load);
        Contender::new(name, move || {
            let proxy = start()?;
            if !plan.is_quick() {
                warm_up.run(proxy.address)?;
            }
            with_cpu(&proxy, || load.run(proxy.address))
        })
    });
    let [_, p50, .., cpu, system] = RATES;
    let mean = Figure { name: "mean", title: "mean ms", ..p50 };
    Ok(vec![Row {
        id: "http2",
        job: "API GET of 1 kB over HTTP/2, 16 connections with 4 streams, kept upstream connections".into(),
        figures: vec![RATES[0], mean, cpu, system],
        series: interleave(plan.repeats, contenders.collect())?,
        goals: fast(),
    }])
}

/// Eight browsers that poll, three workers that take one call at a time, each of 5 ms; every hundredth takes a second.
pub(crate) fn polling(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let slow = three_workers(Duration::from_millis(5), Duration::from_secs(1), 100)?;
    let started = all(lab, Job::new(slow.address, Upstream::Fresh));
    let started = started.into_iter().map(|(name, start)| Ok((name, start()?)));
    let proxies = started.collect::<Result<Vec<_>>>()?;
    let even = three_workers(Duration::from_millis(5), Duration::ZERO, 0)?;
    let direct = proxy::nodegate(lab, Job::new(even.address, Upstream::Fresh), PROXY_CORE, &[])?;
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

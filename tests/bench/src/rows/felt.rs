//! Times that people feel on a long line: the start of the GUI, and a key pressed in a console.

use std::time::Duration;

use anyhow::Result;
use nodegate_standin::now;

use super::bytes::{cookie, drain, listen, url};
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::{Backend, Paths};
use crate::first_view;
use crate::lab::{Lab, PROXY_CORE};
use crate::line::{HERE, Line};
use crate::load::browser::{Browser, Protocol, Started};
use crate::load::console;
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::haproxy::Tcp;
use crate::proxy::{self, Job, Proxy, Start, Upstream, nginx};

/// A packet there and its answer back.
const LINES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
/// Files compressed beforehand, as nginx serves them fastest.
const GZIP: &str = "gzip_static on; gzip on;";

/// Each line with each protocol.
pub(crate) fn gui(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    first_view::write_files(lab)?;
    let ticket = lab.keys.ticket("PVE", "root@pam", now());
    let backend = Backend::with_paths(0, first_view::answers(&ticket)?)?;
    let mut rows = Vec::new();
    for (protocol, name, ids) in [
        (Protocol::Http1, "HTTP/1.1, 6 connections", ["gui-20-h1", "gui-100-h1"]),
        (Protocol::Http2, "HTTP/2", ["gui-20-h2", "gui-100-h2"]),
    ] {
        for (round_trip, id) in LINES.into_iter().zip(ids) {
            let line = Line::start(round_trip)?;
            let http2 = protocol == Protocol::Http2;
            let job = Job { host: HERE, http2, ..Job::new(backend.address, Upstream::Fresh) };
            let mut proxies: Vec<(&'static str, Start<'_>)> = vec![
                ("nodegate", Box::new(move || proxy::nodegate(lab, job, PROXY_CORE, &[]))),
                ("nginx", Box::new(move || nginx::start(lab, job, GZIP))),
            ];
            proxies.extend(proxy::other_builds(lab, job, PROXY_CORE));
            let contenders = proxies.iter().map(|(name, start)| {
                let (line, ticket) = (&line, ticket.as_str());
                Contender::new(name, move || starts(&start()?, line, protocol, ticket))
            });
            rows.push(Row {
                id,
                job: format!("start of the GUI, {name}, {} ms there and back", round_trip.as_millis()),
                figures: vec![
                    figure("cold", "ms, nothing in the cache", 0),
                    figure("warm", "ms, files in the cache", 0),
                    figure("requests", "requests with them", 0),
                    figure("size", "kB without them", 0),
                    figure("first", "ms, first user of the proxy", 0),
                ],
                series: interleave(plan.repeats, contenders.collect())?,
                goals: vec![
                    Goal::at_most(1.0, "cold", Against::One("nginx")),
                    Goal::at_most(1.0, "warm", Against::One("nginx")),
                ],
            });
        }
    }
    Ok(rows)
}

/// The first user, whose files the proxy has not compressed yet; one with an empty cache; the same one again.
fn starts(proxy: &Proxy, line: &Line, protocol: Protocol, ticket: &str) -> Result<Sample> {
    let [first, cold, warm] = line.at_the_far_end(|| {
        let start = |browser: &mut Browser| browser.start(proxy.address, protocol, ticket);
        let first = start(&mut Browser::default())?;
        let mut browser = Browser::default();
        Ok([first, start(&mut browser)?, start(&mut browser)?])
    })?;
    let millis = |started: Started| started.took.as_secs_f64() * 1e3;
    Ok(Sample::from([
        ("first", millis(first)),
        ("cold", millis(cold)),
        ("warm", millis(warm)),
        ("requests", f64::from(u32::try_from(warm.requests)?)),
        ("size", f64::from(u32::try_from(cold.bytes)?) / 1e3),
    ]))
}

/// A terminal's message with one key.
const KEY: usize = 5;
/// Messages of a run, by the seconds of the plan.
const KEYS_PER_SECOND: f64 = 20.0;

pub(crate) fn keystroke(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    LINES
        .into_iter()
        .zip(["keystroke-20", "keystroke-100"])
        .map(|(round_trip, id)| keystroke_row(lab, plan, round_trip, id))
        .collect()
}

fn keystroke_row(lab: &Lab, plan: &Plan, round_trip: Duration, id: &'static str) -> Result<Row> {
    let line = Line::start(round_trip)?;
    let machine = listen(5900..5999)?;
    let there = machine.local_addr()?;
    let backend = Backend::with_paths(there.port(), Paths::new())?;
    let job = Job { host: HERE, ..Job::new(backend.address, Upstream::Fresh) };
    // nginx passes the websocket on to the console itself.
    let passing = Job { backend: there, ..job };
    let rounds = (plan.seconds * KEYS_PER_SECOND).ceil();
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "few"
    )]
    let rounds = rounds as usize;
    let (own, headers) = (url(there.port()), cookie(lab));
    let mut contenders: Vec<(&'static str, Start<'_>, Option<&str>, bool)> = vec![
        ("nodegate", Box::new(|| proxy::nodegate(lab, job, PROXY_CORE, &[])), Some(&own), false),
        ("nginx", Box::new(|| nginx::start(lab, passing, "")), Some("/console/"), true),
        ("HAProxy TLS", Box::new(|| Tcp { host: HERE, ..Tcp::new(there, true) }.start(lab)), None, false),
    ];
    contenders.extend(
        proxy::other_builds(lab, job, PROXY_CORE).map(|(name, start)| (name, start, Some(&*own), false)),
    );
    let contenders = contenders.iter().map(|(name, start, url, ends_websocket)| {
        let (line, machine, headers) = (&line, &machine, headers.as_str());
        Contender::new(name, move || {
            let proxy = start()?;
            drain(machine)?;
            let path = console::Path {
                proxy: proxy.address,
                websocket: url.map(|url| (url, headers)),
                console: machine,
                ends_websocket: *ends_websocket,
                pid: None,
            };
            let seen = line.at_the_far_end(|| console::echo(&path, KEY, rounds))?;
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            Ok(Sample::from([("p50", millis(seen.p50)), ("p99", millis(seen.p99))]))
        })
    });
    Ok(Row {
        id,
        job: format!("echo of a key in a console, {} ms there and back", round_trip.as_millis()),
        figures: vec![figure("p50", "p50 ms", 2), figure("p99", "p99 ms", 2)],
        series: interleave(plan.repeats, contenders.collect())?,
        goals: vec![Goal::at_most(1.01, "p50", Against::Best)],
    })
}

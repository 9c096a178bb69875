//! Clients that begin and do not end, or ask and do not read: what others notice, and what they cost.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::api::get;
use super::bytes::{cookie, listen, url};
use super::files::request;
use super::memory::pss;
use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::backend::Backend;
use crate::lab::{BIG_URL, Lab, PROXY_CORE};
use crate::load::latency;
use crate::load::stall::{self, Stalled};
use crate::measure::{Sample, Series};
use crate::proxy::{self, Job, Proxy, Upstream};

/// Until the stalled clients have taken all that they take.
const SETTLED: Duration = Duration::from_secs(3);
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Starts an attack on a proxy.
type Attack<'a> = &'a dyn Fn(&Proxy) -> Result<Stalled>;

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let machine = listen(5900..5999)?;
    let port = machine.local_addr()?.port();
    std::thread::spawn(move || flood(&machine));
    let backend = Backend::start(port)?;
    let job = Job::new(backend.address, Upstream::Fresh);
    let console = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{}{WEBSOCKET}\r\n", url(port), cookie(lab));
    let big = request(BIG_URL, "");
    let attacks: [(&'static str, &str, usize, Attack<'_>); 3] = [
        ("slowloris", "2,000 slowloris connections", 2000, &|proxy| stall::slowloris(proxy.address, 2000)),
        ("stalled-downloads", "500 stalled downloads", 500, &|proxy| {
            stall::unread(proxy.address, 500, &big, 200)
        }),
        ("stalled-consoles", "200 stalled consoles", 200, &|proxy| {
            stall::unread(proxy.address, 200, &console, 101)
        }),
    ];
    let settled = if plan.is_quick() { SETTLED / 3 } else { SETTLED };
    let mut rows = Vec::new();
    for (id, job_title, count, attack) in attacks {
        let mut during = Series { name: "under attack", samples: Vec::new() };
        let mut before = Series { name: "before", samples: Vec::new() };
        for _ in 0..plan.repeats.min(3) {
            let proxy = proxy::nodegate(lab, job, PROXY_CORE, &["workers=3", "listen.address=0.0.0.0"])?;
            let asked = get("/api2/json/cluster/status", &lab.tickets(0, 1).concat());
            before.samples.push(others(&proxy, &asked, plan.seconds)?);
            let at_rest = pss(&proxy)?;
            let stalled = attack(&proxy)?;
            std::thread::sleep(settled);
            let mut sample = others(&proxy, &asked, plan.seconds)?;
            // A limit may have turned out a part of them.
            let open = stalled.open();
            ensure!(open > count / 4, "{open} of {count} are there");
            sample.insert("each", (pss(&proxy)? - at_rest) * 1e3 / f64::from(u32::try_from(open)?));
            sample.insert("opened", f64::from(u32::try_from(stalled.opened())?));
            drop(stalled);
            std::thread::sleep(settled);
            sample.insert("memory", pss(&proxy)?);
            during.samples.push(sample);
        }
        rows.push(Row {
            id,
            job: format!("4 other clients while there are {job_title}"),
            figures: vec![
                figure("p50", "p50 ms", 2),
                figure("p99", "p99 ms", 2),
                figure("p999", "p99.9 ms", 2),
                figure("max", "max ms", 1),
                figure("each", "kB each", 0),
                figure("memory", "MB before, or afterwards", 1),
                figure("opened", "opened, those that came again included", 0),
            ],
            series: vec![during, before],
            goals: vec![
                Goal::at_most(2.0, "p999", Against::One("before")),
                Goal::at_most(256.0, "each", Against::Nothing),
            ],
        });
    }
    Ok(rows)
}

fn others(proxy: &Proxy, asked: &str, seconds: f64) -> Result<Sample> {
    let pause = Duration::from_millis(2);
    let seen = latency::sample(proxy.address, asked, 4, pause, Duration::from_secs_f64(seconds))?;
    ensure!(seen.requests > 0, "no request was answered");
    Ok(Sample::from([
        ("p50", seen.p50),
        ("p99", seen.p99),
        ("p999", seen.p999),
        ("max", seen.max),
        ("memory", pss(proxy)?),
    ]))
}

/// A machine whose console never stops talking.
fn flood(machine: &std::net::TcpListener) {
    while let Ok((mut console, _)) = machine.accept() {
        std::thread::spawn(move || {
            let piece = vec![b'x'; 64 << 10];
            while console.write_all(&piece).is_ok() {}
        });
    }
}

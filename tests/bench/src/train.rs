//! One of everything that is done a thousand times a second, for a build that a profile guides: `make train`. Nothing
//! is measured. Code that does not run here is compiled as without a profile.
//!
//! The rows of calls have wrk and h2load before the proxies, and the bench's own daemon or nginx behind them. Training
//! uses none of these, so no build is tuned to one of them: the clients are the bench's own, and the daemon is the
//! stand-in of the tests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use nodegate_standin::{Config, Daemon, Product, demo, now};

use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE, SCRIPT_URL};
use crate::load::browser;
use crate::load::tunnel::Direction;
use crate::load::{console, handshake, latency, tunnel};
use crate::proxy::{self, Job, Proxy, Upstream};
use crate::rows::api::get;
use crate::rows::bytes::{self, listen};
use crate::rows::files::request;

/// Of each kind of work.
const DURATION: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 2000;
const SMALL: &str = "/api2/json/cluster/standin/big?size=1024&type=application/json";
const BIG: &str = "/api2/json/cluster/standin/big?size=1080000&type=application/json";
const REBOOT: &str = "/api2/json/nodes/localhost/qemu/100/status/reboot";

/// All of it, by the program that the lab has.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let daemon = Daemon::start(Config {
        keys: Arc::new(lab.keys.clone()),
        record: false,
        root: lab.root(),
        ..Config::new(Product::Pve)
    });
    let address = daemon.address().parse()?;
    let job = |upstream| Job::new(address, upstream);
    let http2 = Job { http2: true, ..job(Upstream::Kept) };
    calls_and_files(lab, &proxy::nodegate(lab, http2, PROXY_CORE, &[])?)?;
    calls(lab, &proxy::nodegate(lab, job(Upstream::Fresh), PROXY_CORE, &[])?)?;
    other_node(lab, job(Upstream::Kept))?;
    consoles(lab)?;
    tunnels(lab)
}

fn calls_and_files(lab: &Lab, proxy: &Proxy) -> Result<()> {
    calls(lab, proxy)?;
    let ticket = lab.tickets(0, 1).concat();
    for request in [
        get(BIG, &ticket),
        post(lab),
        request(SCRIPT_URL, ""),
        request(SCRIPT_URL, "Accept-Encoding: gzip\r\n"),
    ] {
        latency::sample(proxy.address, &request, CONNECTIONS, Duration::ZERO, DURATION)?;
    }
    let request = get(SMALL, &ticket);
    latency::sample(proxy.address, &request, 1, Duration::ZERO, DURATION)?;
    let close = request.replace("Accept:", "Connection: close\r\nAccept:");
    for (request, resume) in [(&request, false), (&request, true), (&close, true)] {
        let address = proxy.address;
        let plan = handshake::Plan { address, request, parallel: 16, duration: DURATION, resume };
        handshake::run(&plan)?;
    }
    browser::repeat_over_http2(proxy.address, SMALL, &ticket, DURATION)
}

/// A thousand users, as in the rows of calls.
fn calls(lab: &Lab, proxy: &Proxy) -> Result<()> {
    let tickets = lab.tickets(0, 1000);
    let clients: Vec<Vec<_>> = tickets
        .chunks(tickets.len().div_ceil(CONNECTIONS))
        .map(|tickets| tickets.iter().map(|ticket| get(SMALL, ticket)).collect())
        .collect();
    latency::windows(proxy.address, &clients, Duration::ZERO, DURATION * 2).map(drop)
}

fn post(lab: &Lab) -> String {
    let ticket = lab.keys.ticket("PVE", "root@pam", now());
    let token = lab.keys.csrf("root@pam", now());
    let headers = format!("CSRFPreventionToken: {token}\r\nContent-Length: 0\r\nAccept:");
    get(REBOOT, &ticket).replacen("GET", "POST", 1).replace("Accept:", &headers)
}

fn other_node(lab: &Lab, job: Job) -> Result<()> {
    let far = proxy::nodegate(lab, job, "1", &["node.name=far"])?;
    let members = lab.members(32)?;
    let near = proxy::nodegate(lab, job, PROXY_CORE, &[&format!("cluster.port={}", far.address.port())])?;
    let request =
        get("/api2/json/nodes/far/standin/big?size=1024&type=application/json", &lab.tickets(0, 1).concat());
    latency::sample(near.address, &request, CONNECTIONS, Duration::ZERO, DURATION)?;
    std::fs::remove_file(members)?;
    Ok(())
}

fn consoles(lab: &Lab) -> Result<()> {
    let machine = listen(5900..5999)?;
    let port = machine.local_addr()?.port();
    let backend = Backend::start(port)?;
    let job = Job::new(backend.address, Upstream::Fresh);
    let proxy = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let (url, headers) = (bytes::url(port), bytes::cookie(lab));
    let websocket = Some((url.as_str(), headers.as_str()));
    let path = console::Path {
        proxy: proxy.address,
        websocket,
        console: &machine,
        ends_websocket: false,
        pid: None,
    };
    for direction in [Direction::ToViewer, Direction::ToMachine] {
        console::bulk(&path, direction, DURATION)?;
    }
    console::echo(&path, bytes::MESSAGE, ROUNDS).map(drop)
}

fn tunnels(lab: &Lab) -> Result<()> {
    let machine = listen(61_000..61_999)?;
    let proxy = proxy::nodegate_spice(lab, &lab.nodegate)?;
    let target = lab.keys.spice_target(&demo::node_name(), 100, machine.local_addr()?.port(), now());
    let path = tunnel::Path { proxy: proxy.address, connect: Some(&target), machine: &machine, pid: None };
    for direction in [Direction::ToViewer, Direction::ToMachine] {
        tunnel::bulk(&path, direction, DURATION)?;
    }
    tunnel::echo(&path, ROUNDS).map(drop)
}

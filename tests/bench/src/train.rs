//! One of everything that is done a thousand times a second, for a build that a profile guides: `make train`. Nothing
//! is measured. Code that does not run here is compiled as without a profile.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nodegate_standin::{KeyKind, demo, now};

use crate::backend::Backend;
use crate::lab::{Lab, PROXY_CORE, SCRIPT_URL};
use crate::load::tunnel::Direction;
use crate::load::{console, handshake, latency, tunnel};
use crate::proxy::{self, Job, Proxy, Upstream};
use crate::rows::api::get;
use crate::rows::bytes::{self, listen};
use crate::rows::files::request;
use crate::wrk::Load;

/// Of each kind of work.
const SECONDS: f64 = 2.0;
const DURATION: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 2000;
const SMALL: &str = "/api2/json/cluster/status";
const BIG: &str = "/api2/json/cluster/resources";

/// All of it, by the program that the lab has.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let backend = Backend::start(0)?;
    let job = |upstream| Job { backend: backend.address, upstream, key: KeyKind::Rsa2048 };
    calls_and_files(lab, &proxy::nodegate(lab, job(Upstream::Kept), PROXY_CORE, &["http2=true"])?)?;
    calls(lab, "fresh", &proxy::nodegate(lab, job(Upstream::Fresh), PROXY_CORE, &[])?)?;
    other_node(lab, job(Upstream::Kept))?;
    consoles(lab)?;
    tunnels(lab)
}

fn calls_and_files(lab: &Lab, proxy: &Proxy) -> Result<()> {
    calls(lab, "kept", proxy)?;
    let ticket = lab.tickets(0, 1).concat();
    let close = get(SMALL, &ticket).replace("Accept:", "Connection: close\r\nAccept:");
    for (name, request) in [
        ("big", get(BIG, &ticket)),
        ("post", post(lab, &ticket)),
        ("close", close),
        ("identity", request(SCRIPT_URL, "")),
        ("gzip", request(SCRIPT_URL, "Accept-Encoding: gzip\r\n")),
    ] {
        Load::new(&lab.path(""), name, &[request])?.run(proxy.address, CONNECTIONS, SECONDS)?;
    }
    let request = get(SMALL, &ticket);
    latency::sample(proxy.address, &request, 1, Duration::ZERO, DURATION)?;
    for resume in [false, true] {
        let address = proxy.address;
        let plan = handshake::Plan { address, request: &request, parallel: 16, duration: DURATION, resume };
        handshake::run(&plan)?;
    }
    http2(proxy, &ticket)
}

/// A thousand users, as in the rows of calls.
fn calls(lab: &Lab, name: &str, proxy: &Proxy) -> Result<()> {
    let requests: Vec<_> = lab.tickets(0, 1000).iter().map(|ticket| get(SMALL, ticket)).collect();
    Load::new(&lab.path(""), name, &requests)?.run(proxy.address, CONNECTIONS, SECONDS).map(drop)
}

fn post(lab: &Lab, ticket: &str) -> String {
    let token = lab.keys.csrf("user0@pve", now());
    let headers = format!("CSRFPreventionToken: {token}\r\nContent-Length: 0\r\nAccept:");
    get(SMALL, ticket).replacen("GET", "POST", 1).replace("Accept:", &headers)
}

fn http2(proxy: &Proxy, ticket: &str) -> Result<()> {
    let cookie = format!("cookie: PVEAuthCookie={}", ticket.replace(':', "%3A"));
    let status = Command::new("h2load")
        .args(["-c", "16", "-m", "4", "-n", "20000", "-H", &cookie])
        .arg(format!("https://{}{SMALL}", proxy.address))
        .stdout(Stdio::null())
        .status()
        .context("h2load (apt-get install nghttp2-client)")?;
    ensure!(status.success(), "h2load: {status}");
    Ok(())
}

fn other_node(lab: &Lab, job: Job) -> Result<()> {
    let far = proxy::nodegate(lab, job, "1", &["node.name=far"])?;
    let members = lab.members(32)?;
    let near = proxy::nodegate(lab, job, PROXY_CORE, &[&format!("cluster.port={}", far.address.port())])?;
    let request = get("/api2/json/nodes/far/status", &lab.tickets(0, 1).concat());
    Load::new(&lab.path(""), "far", &[request])?.run(near.address, CONNECTIONS, SECONDS)?;
    std::fs::remove_file(members)?;
    Ok(())
}

fn consoles(lab: &Lab) -> Result<()> {
    let machine = listen(5900..5999)?;
    let port = machine.local_addr()?.port();
    let backend = Backend::start(port)?;
    let job = Job { backend: backend.address, upstream: Upstream::Fresh, key: KeyKind::Rsa2048 };
    let proxy = proxy::nodegate(lab, job, PROXY_CORE, &[])?;
    let (url, headers) = (bytes::url(port), bytes::cookie(lab));
    let websocket = Some((url.as_str(), headers.as_str()));
    let path = console::Path { proxy: proxy.address, websocket, console: &machine, pid: None };
    for direction in [Direction::ToViewer, Direction::ToMachine] {
        console::bulk(&path, direction, DURATION)?;
    }
    console::echo(&path, ROUNDS).map(drop)
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

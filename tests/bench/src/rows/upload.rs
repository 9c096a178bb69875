//! A large upload: how long it takes, and its CPU time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nodegate_standin::{Config, Daemon, Product, demo, now};

use super::{Against, Goal, Row, figure};
use crate::Plan;
use crate::lab::Lab;
use crate::load::{process, upload};
use crate::measure::{Contender, Sample, interleave};
use crate::proxy::{self, Job, Proxy, Upstream, nginx};

const BYTES: u64 = 1_000_000_000;
const FEW_BYTES: u64 = 50_000_000;
/// Client, proxy and the writer of the file share two cores, as the system deals them out.
const CORES: &str = "0,1";

pub(crate) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Row>> {
    let bytes = if plan.is_quick() { FEW_BYTES } else { BYTES };
    let daemon = Daemon::start(Config {
        keys: Arc::new(lab.keys.clone()),
        root: lab.root(),
        record: false,
        idle: Duration::from_mins(5),
        ..Config::new(Product::Pve)
    });
    let sink = Sink::start(lab)?;
    let own = Job::new(daemon.address().parse()?, Upstream::Fresh);
    let passing = Job::new(sink.address, Upstream::Fresh);
    // The stand-in reads the files of other storages, as a test wants them.
    let target = format!("/api2/json/nodes/{}/storage/kept/upload", demo::node_name());
    let ticket = lab.keys.ticket("PVE", "root@pam", now());
    let headers = format!(
        "Cookie: PVEAuthCookie={}\r\nCSRFPreventionToken: {}\r\n",
        ticket.replace(':', "%3A"),
        lab.keys.csrf("root@pam", now())
    );
    let run = |proxy: &Proxy, target: &str, written: &dyn Fn() -> f64| -> Result<Sample> {
        let (cpu, before) = (process::cpu_seconds(proxy.pid())?, written());
        let took =
            upload::send(&upload::Upload { address: proxy.address, target, headers: &headers, bytes })?;
        let cpu = process::cpu_seconds(proxy.pid())? - cpu;
        Ok(Sample::from([("time", took.as_secs_f64()), ("cpu", cpu), ("all", cpu + written() - before)]))
    };
    let (run, target, sink) = (&run, target.as_str(), &sink);
    let nodegate = move |start: &dyn Fn() -> Result<Proxy>| {
        let sample = run(&start()?, target, &|| 0.0);
        remove_spooled(lab)?;
        sample
    };
    let mut contenders = vec![
        Contender::new("nodegate", move || nodegate(&|| proxy::nodegate(lab, own, CORES, &[]))),
        Contender::new("nginx, proxy_request_buffering off", move || {
            run(&nginx::start_on(lab, passing, "", CORES)?, "/upload/", &|| sink.cpu())
        }),
    ];
    let builds = proxy::other_builds(lab, own, CORES);
    contenders.extend(builds.map(|(name, start)| Contender::new(name, move || nodegate(&*start))));
    Ok(vec![Row {
        id: "upload",
        job: format!("upload of {} MB until its file is written, on both cores", bytes / 1_000_000),
        figures: vec![
            figure("time", "s", 2),
            figure("cpu", "CPU s of the proxy", 2),
            figure("all", "CPU s with what writes the file", 2),
        ],
        series: interleave(plan.repeats.min(3), contenders)?,
        goals: vec![Goal::at_most(1.0, "time", Against::Best), Goal::at_most(1.0, "all", Against::Best)],
    }])
}

/// The daemon would take it.
fn remove_spooled(lab: &Lab) -> Result<()> {
    for entry in std::fs::read_dir(lab.root().join("var/tmp"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pveupload-")) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A daemon that writes the bodies of requests to a file, one at a time. It runs as long as the process.
struct Sink {
    address: SocketAddr,
    /// CPU seconds of its thread.
    used: Arc<Mutex<f64>>,
}

impl Sink {
    fn start(lab: &Lab) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let used = Arc::new(Mutex::new(0.0));
        let sink = Self { address: listener.local_addr()?, used: Arc::clone(&used) };
        let file = lab.path("uploaded");
        std::thread::Builder::new().name("sink".into()).spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A proxy that gives up is the uploader's error.
                let _ = store(stream, &file, &used);
            }
        })?;
        Ok(sink)
    }

    fn cpu(&self) -> f64 {
        self.used.lock().map_or(f64::NAN, |used| *used)
    }
}

/// Multipart is written as it comes: nginx leaves it to the daemon.
fn store(mut stream: TcpStream, path: &std::path::Path, used: &Mutex<f64>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let end = loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        ensure!(read > 0, "no request");
        filled += read;
        let head = buffer.get(..filled).unwrap_or_default();
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("no length")?.trim().parse()?;
    let mut file = std::fs::File::create(path)?;
    file.write_all(buffer.get(end..filled).unwrap_or_default())?;
    let mut written = filled - end;
    while written < length {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            bail!("the upload ends early");
        }
        file.write_all(buffer.get(..read).unwrap_or_default())?;
        written += read;
    }
    drop(file);
    std::fs::remove_file(path)?;
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    if let Ok(mut used) = used.lock() {
        *used = Duration::from_micros(u64::try_from(micros)?).as_secs_f64();
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(())
}

//! The proxies under test, each as one process (nginx: with its workers) on the proxies' core.

pub(crate) mod caddy;
pub(crate) mod haproxy;
pub(crate) mod nginx;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodegate_standin::KeyKind;

use crate::lab::{Lab, PROXY_CORE, on_cores};

const START: Duration = Duration::from_secs(20);
/// Until new settings hold.
const RELOAD: Duration = Duration::from_secs(1);
const STOP: Duration = Duration::from_secs(15);

/// A started proxy; ended when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub address: SocketAddr,
}

impl Proxy {
    fn start(mut command: Command, address: SocketAddr) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("taskset")?;
        let mut proxy = Self { child, address };
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = proxy.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            if Instant::now() > until {
                bail!("{command:?} does not listen on {address}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(proxy)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reloads nodegate's settings from their files.
    pub(crate) fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)?;
        std::thread::sleep(RELOAD);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid())?), signal)?)
    }
}

/// Starts a proxy, again for each run: where a process's memory happens to lie makes it faster or slower by some
/// percent for as long as it lives.
pub(crate) type Start<'a> = Box<dyn Fn() -> Result<Proxy> + 'a>;

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks it to end, so that what it has started ends as well; kills it when it does not.
pub(crate) fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let until = Instant::now() + STOP;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > until {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address with a port that is free at the moment.
pub(crate) fn free_address(host: Ipv4Addr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?)
}

/// How connections to the daemon are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Fresh,
    Kept,
}

/// The configuration that all proxies share.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub backend: SocketAddr,
    pub upstream: Upstream,
    pub key: KeyKind,
    /// The address to listen on.
    pub host: Ipv4Addr,
    pub http2: bool,
    /// Workers, threads or loops.
    pub workers: usize,
    /// Connections that nginx's workers and HAProxy are configured for. They allocate memory for them.
    pub connections: u64,
}

impl Job {
    /// One worker on loopback, an RSA key, HTTP/1.1.
    pub(crate) fn new(backend: SocketAddr, upstream: Upstream) -> Self {
        let (key, host) = (KeyKind::Rsa2048, Ipv4Addr::LOCALHOST);
        Self { backend, upstream, key, host, http2: false, workers: 1, connections: 32_768 }
    }
}

/// A command, and where it will listen.
pub(crate) type Prepared = (Command, SocketAddr);

/// nodegate with its shipped settings: one worker as the peers have one, unless `more` says otherwise.
pub(crate) fn nodegate(lab: &Lab, job: Job, cores: &str, more: &[&str]) -> Result<Proxy> {
    let (command, address) = nodegate_prepared(lab, job, cores, more)?;
    Proxy::start(command, address)
}

/// The same with a profile of one's own.
pub(crate) fn nodegate_profile(lab: &Lab, job: Job, profile: &Path) -> Result<Proxy> {
    let (command, address) = prepared(lab, &lab.nodegate, job, profile, PROXY_CORE, &[])?;
    Proxy::start(command, address)
}

/// The same of the other builds that are to be measured beside it.
pub(crate) fn other_builds<'l>(
    lab: &'l Lab,
    job: Job,
    cores: &'static str,
) -> impl Iterator<Item = (&'static str, Start<'l>)> {
    lab.builds.iter().map(move |(name, binary)| {
        let start: Start<'_> = Box::new(move || {
            let (command, address) = prepared(lab, binary, job, Path::new("pve"), cores, &[])?;
            Proxy::start(command, address)
        });
        (*name, start)
    })
}

pub(crate) fn nodegate_prepared(lab: &Lab, job: Job, cores: &str, more: &[&str]) -> Result<Prepared> {
    prepared(lab, &lab.nodegate, job, Path::new("pve"), cores, more)
}

fn prepared(
    lab: &Lab,
    binary: &Path,
    job: Job,
    profile: &Path,
    cores: &str,
    more: &[&str],
) -> Result<Prepared> {
    let address = free_address(job.host)?;
    let [chain, key, _] = lab.certificate(job.key);
    let root = lab.root();
    std::fs::copy(chain, root.join("etc/pve/local/pveproxy-ssl.pem"))?;
    std::fs::copy(key, root.join("etc/pve/local/pveproxy-ssl.key"))?;
    let mut command = nodegate_command(lab, binary, profile, address, cores);
    let keepalive = u8::from(job.upstream == Upstream::Kept);
    for setting in [
        format!("workers={}", job.workers),
        format!("backend.address={}", job.backend),
        format!("backend.keepalive={keepalive}"),
        format!("http2={}", job.http2),
    ] {
        command.arg("--set").arg(setting);
    }
    for setting in more {
        command.args(["--set", setting]);
    }
    Ok((command, address))
}

/// `nodegate run PROFILE` on an address, nothing else set.
fn nodegate_command(lab: &Lab, binary: &Path, profile: &Path, address: SocketAddr, cores: &str) -> Command {
    let mut command = on_cores(cores, binary);
    command.arg("run").arg(profile).arg("--root").arg(lab.root());
    command.args(["--set", &format!("listen.address={}", address.ip())]);
    command.args(["--set", &format!("listen.port={}", address.port())]);
    command.stderr(Stdio::null());
    command
}

/// nodegate's spice profile, its shipped settings but one worker.
pub(crate) fn nodegate_spice(lab: &Lab, binary: &Path) -> Result<Proxy> {
    let address = free_address(Ipv4Addr::LOCALHOST)?;
    let mut command = nodegate_command(lab, binary, Path::new("spice"), address, PROXY_CORE);
    command.args(["--set", "workers=1"]);
    Proxy::start(command, address)
}

//! The proxies under test, each as one process (nginx: with its worker) on the proxies' core.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
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
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGHUP)?;
        std::thread::sleep(RELOAD);
        Ok(())
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

/// A port that is free at the moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
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
pub(crate) fn other_builds(lab: &Lab, job: Job) -> impl Iterator<Item = (&'static str, Start<'_>)> {
    lab.builds.iter().map(move |(name, binary)| {
        let start: Start<'_> = Box::new(move || {
            let (command, address) = prepared(lab, binary, job, Path::new("pve"), PROXY_CORE, &[])?;
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
    let port = free_port()?;
    let [chain, key, _] = lab.certificate(job.key);
    let root = lab.root();
    std::fs::copy(chain, root.join("etc/pve/local/pveproxy-ssl.pem"))?;
    std::fs::copy(key, root.join("etc/pve/local/pveproxy-ssl.key"))?;
    let mut command = nodegate_command(lab, binary, profile, port, cores);
    command.args(["--set", "workers=1", "--set"]).arg(format!("backend.address={}", job.backend));
    command.args(["--set", &format!("backend.keepalive={}", u8::from(job.upstream == Upstream::Kept))]);
    for setting in more {
        command.args(["--set", setting]);
    }
    Ok((command, loopback(port)))
}

/// `nodegate run PROFILE` on a port of loopback, nothing else set.
fn nodegate_command(lab: &Lab, binary: &Path, profile: &Path, port: u16, cores: &str) -> Command {
    let mut command = on_cores(cores, binary);
    command.arg("run").arg(profile).arg("--root").arg(lab.root());
    command.args(["--set", "listen.address=127.0.0.1", "--set"]).arg(format!("listen.port={port}"));
    command.stderr(Stdio::null());
    command
}

/// nodegate's spice profile, its shipped settings but one worker.
pub(crate) fn nodegate_spice(lab: &Lab, binary: &Path) -> Result<Proxy> {
    let port = free_port()?;
    let mut command = nodegate_command(lab, binary, Path::new("spice"), port, PROXY_CORE);
    command.args(["--set", "workers=1"]);
    Proxy::start(command, loopback(port))
}

/// nginx with one worker, its caches on, and its access log buffered.
pub(crate) fn nginx(lab: &Lab, job: Job, gzip: &str) -> Result<Proxy> {
    let (command, address) = nginx_prepared(lab, job, gzip)?;
    Proxy::start(command, address)
}

pub(crate) fn nginx_prepared(lab: &Lab, job: Job, gzip: &str) -> Result<Prepared> {
    let port = free_port()?;
    let [chain, key, _] = lab.certificate(job.key);
    let (keepalive, version, connection) = match job.upstream {
        Upstream::Kept => ("keepalive 64; keepalive_requests 100000000;", "1.1", "\"\""),
        Upstream::Fresh => ("", "1.0", "close"),
    };
    let configuration = format!(
        "daemon off; worker_processes 1; worker_rlimit_nofile 65536; pid {run}/nginx-{port}.pid;\n\
         error_log {run}/nginx-{port}.error;\n\
         events {{ worker_connections 32768; }}\n\
         http {{\n\
           include /etc/nginx/mime.types; sendfile on; tcp_nodelay on; etag on;\n\
           access_log {run}/nginx-{port}.log combined buffer=64k flush=1s;\n\
           client_body_temp_path {run}/nginx-{port}.body; proxy_temp_path {run}/nginx-{port}.proxy;\n\
           fastcgi_temp_path {run}/nginx-{port}.fastcgi; uwsgi_temp_path {run}/nginx-{port}.uwsgi;\n\
           scgi_temp_path {run}/nginx-{port}.scgi;\n\
           open_file_cache max=1000 inactive=60s; keepalive_requests 100000000; keepalive_timeout 65s;\n\
           ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
           ssl_session_cache shared:tls:10m; ssl_session_tickets on;\n\
           ssl_ecdh_curve X25519;\n\
           gzip_types application/javascript; {gzip}\n\
           proxy_buffers 32 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 256k;\n\
           upstream daemon {{ server {backend}; {keepalive} }}\n\
           server {{\n\
             listen 127.0.0.1:{port} ssl backlog=4096; server_name localhost;\n\
             location /pve2/js/ {{ alias {root}/usr/share/pve-manager/js/; }}\n\
             location /api2/ {{ proxy_pass http://daemon; proxy_http_version {version};\n\
               proxy_set_header Connection {connection}; proxy_set_header Host $host; }}\n\
           }}\n\
         }}\n",
        run = lab.path("").display(),
        chain = chain.display(),
        key = key.display(),
        backend = job.backend,
        root = lab.root().display(),
    );
    let file = lab.path(&format!("nginx-{port}.conf"));
    std::fs::write(&file, configuration)?;
    let mut command = on_cores(PROXY_CORE, &PathBuf::from("nginx"));
    command.arg("-c").arg(&file).arg("-e").arg(lab.path("nginx.start"));
    Ok((command, loopback(port)))
}

/// Each connection has two sides, and a few descriptors are HAProxy's own.
fn most_connections(lab: &Lab) -> u64 {
    (lab.files / 2).saturating_sub(200)
}

fn haproxy_global(connections: u64) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn {connections}\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n  \
                              tune.ssl.default-dh-param 2048\n  tune.ssl.cachesize 20000\n"
    )
}
const HAPROXY_TIMES: &str = "  timeout connect 10s\n  timeout client 65s\n  timeout server 65s\n";

/// HAProxy with one thread, without a log.
pub(crate) fn haproxy(lab: &Lab, job: Job) -> Result<Proxy> {
    haproxy_with(lab, job, "")
}

/// HAProxy that sends the daemon `most` calls at once and keeps the others in its queue.
pub(crate) fn haproxy_queue(lab: &Lab, job: Job, most: usize) -> Result<Proxy> {
    haproxy_with(lab, job, &format!(" maxconn {most}"))
}

/// `server` goes to the line of the daemon.
fn haproxy_with(lab: &Lab, job: Job, server: &str) -> Result<Proxy> {
    let port = free_port()?;
    let [_, _, combined] = lab.certificate(job.key);
    let reuse = match job.upstream {
        Upstream::Kept => "  http-reuse always\n",
        Upstream::Fresh => "  http-reuse never\n  option http-server-close\n",
    };
    let configuration = format!(
        "{global}defaults\n  mode http\n{HAPROXY_TIMES}{reuse}\
         frontend front\n  bind 127.0.0.1:{port} ssl crt {} curves X25519 backlog 4096\n  default_backend daemon\n\
         backend daemon\n  timeout queue 65s\n  server one {}{server}\n",
        combined.display(),
        job.backend,
        global = haproxy_global(most_connections(lab)),
    );
    start_haproxy(lab, port, &configuration)
}

/// With `splice` each costs two pipes more.
const TUNNELS: u64 = 2000;

/// HAProxy that passes bytes on: `tune` goes to its global section, `options` to the listener's.
pub(crate) fn haproxy_tcp(
    lab: &Lab,
    backend: SocketAddr,
    encrypted: bool,
    tune: &str,
    options: &str,
) -> Result<Proxy> {
    let port = free_port()?;
    let [_, _, combined] = lab.certificate(KeyKind::Rsa2048);
    let tls =
        if encrypted { format!(" ssl crt {} curves X25519", combined.display()) } else { String::new() };
    let configuration = format!(
        "{global}{tune}defaults\n  mode tcp\n{HAPROXY_TIMES}{options}\
         frontend front\n  bind 127.0.0.1:{port}{tls} backlog 4096\n  default_backend machine\n\
         backend machine\n  server one {backend}\n",
        global = haproxy_global(TUNNELS),
    );
    start_haproxy(lab, port, &configuration)
}

/// HAProxy that answers by itself, where nothing but the client's side counts.
pub(crate) fn haproxy_files(lab: &Lab) -> Result<Proxy> {
    let (command, address) = haproxy_files_prepared(lab)?;
    Proxy::start(command, address)
}

pub(crate) fn haproxy_files_prepared(lab: &Lab) -> Result<Prepared> {
    let port = free_port()?;
    let [_, _, combined] = lab.certificate(KeyKind::Rsa2048);
    let configuration = format!(
        "{global}defaults\n  mode http\n{HAPROXY_TIMES}frontend front\n\
           bind 127.0.0.1:{port} ssl crt {} curves X25519 backlog 4096\n\
           http-request return status 200 content-type text/plain string ok\n",
        combined.display(),
        global = haproxy_global(most_connections(lab)),
    );
    prepare_haproxy(lab, port, &configuration)
}

fn start_haproxy(lab: &Lab, port: u16, configuration: &str) -> Result<Proxy> {
    let (command, address) = prepare_haproxy(lab, port, configuration)?;
    Proxy::start(command, address)
}

fn prepare_haproxy(lab: &Lab, port: u16, configuration: &str) -> Result<Prepared> {
    let file = lab.path(&format!("haproxy-{port}.cfg"));
    std::fs::write(&file, configuration)?;
    let mut command = on_cores(PROXY_CORE, &PathBuf::from("haproxy"));
    command.arg("-db").arg("-f").arg(&file);
    Ok((command, loopback(port)))
}

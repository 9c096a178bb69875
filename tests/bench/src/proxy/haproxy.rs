//! HAProxy, without a log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Result;
use nodegate_standin::KeyKind;

use super::{Job, Prepared, Proxy, Upstream, free_address};
use crate::lab::{Lab, PROXY_CORE, on_cores};

/// The option for a master that starts a worker again at a reload.
const MASTER: &str = "-W";
const TIMES: &str = "  timeout connect 10s\n  timeout client 65s\n  timeout server 65s\n";

/// Each connection has two sides, and a few descriptors are HAProxy's own.
fn most_connections(lab: &Lab) -> u64 {
    (lab.files / 2).saturating_sub(200)
}

fn global(threads: usize, connections: u64) -> String {
    format!(
        "global\n  nbthread {threads}\n  maxconn {connections}\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n  \
                              tune.ssl.default-dh-param 2048\n  tune.ssl.cachesize 20000\n"
    )
}

pub(crate) fn start(lab: &Lab, job: Job) -> Result<Proxy> {
    with(lab, job, "", "-db")
}

/// HAProxy that sends the daemon `most` calls at once and keeps the others in its queue.
pub(crate) fn with_queue(lab: &Lab, job: Job, most: usize) -> Result<Proxy> {
    with(lab, job, &format!(" maxconn {most}"), "-db")
}

/// HAProxy whose master reloads its worker on SIGUSR2.
pub(crate) fn reloadable(lab: &Lab, job: Job) -> Result<Proxy> {
    with(lab, job, "", MASTER)
}

/// `server` goes to the line of the daemon.
fn with(lab: &Lab, job: Job, server: &str, mode: &str) -> Result<Proxy> {
    let address = free_address(job.host)?;
    let [_, _, combined] = lab.certificate(job.key);
    let reuse = match job.upstream {
        Upstream::Kept => "  http-reuse always\n",
        Upstream::Fresh => "  http-reuse never\n  option http-server-close\n",
    };
    let configuration = format!(
        "{global}defaults\n  mode http\n{TIMES}{reuse}\
         frontend front\n  bind {address} ssl crt {} curves X25519{alpn} backlog 4096\n  default_backend daemon\n\
         backend daemon\n  timeout queue 65s\n  server one {}{server}\n",
        combined.display(),
        job.backend,
        global = global(job.workers, most_connections(lab).min(job.connections)),
        alpn = if job.http2 { " alpn h2,http/1.1" } else { "" },
    );
    let (mut command, address) = prepare(lab, address, &configuration, mode)?;
    if mode == MASTER {
        // It writes some lines at each reload.
        command.stderr(Stdio::null());
    }
    Proxy::start(command, address)
}

/// With `splice` each costs two pipes more.
const TUNNELS: u64 = 2000;

/// A proxy of bytes: `tune` goes to its global section, `options` to its defaults.
pub(crate) struct Tcp<'a> {
    pub host: Ipv4Addr,
    pub backend: SocketAddr,
    /// It ends TLS.
    pub encrypted: bool,
    pub tune: &'a str,
    pub options: &'a str,
}

impl Tcp<'_> {
    pub(crate) fn new(backend: SocketAddr, encrypted: bool) -> Self {
        Self { host: Ipv4Addr::LOCALHOST, backend, encrypted, tune: "", options: "" }
    }

    pub(crate) fn start(&self, lab: &Lab) -> Result<Proxy> {
        let Self { host, backend, encrypted, tune, options } = self;
        let address = free_address(*host)?;
        let [_, _, combined] = lab.certificate(KeyKind::Rsa2048);
        let tls =
            if *encrypted { format!(" ssl crt {} curves X25519", combined.display()) } else { String::new() };
        let configuration = format!(
            "{global}{tune}defaults\n  mode tcp\n{TIMES}{options}\
             frontend front\n  bind {address}{tls} backlog 4096\n  default_backend machine\n\
             backend machine\n  server one {backend}\n",
            global = global(1, TUNNELS),
        );
        let (command, address) = prepare(lab, address, &configuration, "-db")?;
        Proxy::start(command, address)
    }
}

/// HAProxy that answers by itself, where nothing but the client's side counts.
pub(crate) fn files(lab: &Lab, threads: usize) -> Result<Proxy> {
    let (command, address) = files_prepared(lab, threads)?;
    Proxy::start(command, address)
}

pub(crate) fn files_prepared(lab: &Lab, threads: usize) -> Result<Prepared> {
    let address = free_address(Ipv4Addr::LOCALHOST)?;
    let [_, _, combined] = lab.certificate(KeyKind::Rsa2048);
    let configuration = format!(
        "{global}defaults\n  mode http\n{TIMES}frontend front\n\
           bind {address} ssl crt {} curves X25519 backlog 4096\n\
           http-request return status 200 content-type text/plain string ok\n",
        combined.display(),
        global = global(threads, most_connections(lab)),
    );
    prepare(lab, address, &configuration, "-db")
}

fn prepare(lab: &Lab, address: SocketAddr, configuration: &str, mode: &str) -> Result<Prepared> {
    let file = lab.path(&format!("haproxy-{}.cfg", address.port()));
    std::fs::write(&file, configuration)?;
    let mut command = on_cores(PROXY_CORE, &PathBuf::from("haproxy"));
    command.arg(mode).arg("-f").arg(&file);
    Ok((command, address))
}

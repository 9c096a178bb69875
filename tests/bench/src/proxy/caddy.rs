//! Caddy, without a log. Its runtime has as many threads as the cores that it may use.

use std::path::PathBuf;

use anyhow::Result;

use super::{Job, Proxy, Upstream, free_address};
use crate::lab::{Lab, PROXY_CORE, on_cores};

/// Serves the script's directory, and passes the API on.
pub(crate) fn start(lab: &Lab, job: Job) -> Result<Proxy> {
    let address = free_address(job.host)?;
    let [chain, key, _] = lab.certificate(job.key);
    let keepalive = match job.upstream {
        Upstream::Kept => "keepalive 65s\n      keepalive_idle_conns_per_host 64",
        Upstream::Fresh => "keepalive off",
    };
    let protocols = if job.http2 { "h1 h2" } else { "h1" };
    let (host, port) = (address.ip(), address.port());
    let configuration = format!(
        "{{\n  admin off\n  auto_https off\n  skip_install_trust\n  servers {{\n    protocols {protocols}\n  }}\n}}\n\
         https://:{port} {{\n\
           bind {host}\n\
           tls {chain} {key} {{\n    protocols tls1.2 tls1.3\n    curves x25519\n  }}\n\
           handle /api2/* {{\n    reverse_proxy {backend} {{\n    transport http {{\n      {keepalive}\n    }}\n    }}\n  }}\n\
           handle_path /pve2/js/* {{\n    root * {files}\n    file_server {{\n      precompressed gzip\n    }}\n  }}\n\
         }}\n",
        chain = chain.display(),
        key = key.display(),
        backend = job.backend,
        files = lab.root().join("usr/share/pve-manager/js").display(),
    );
    let file = lab.path(&format!("caddy-{port}.conf"));
    std::fs::write(&file, configuration)?;
    let mut command = on_cores(PROXY_CORE, &PathBuf::from("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    command.env("HOME", lab.path("")).env("GOMAXPROCS", job.workers.to_string());
    command.stderr(std::process::Stdio::null());
    Proxy::start(command, address)
}

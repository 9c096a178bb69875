//! nginx, with its caches on and its access log buffered.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Job, Prepared, Proxy, Upstream, free_address};
use crate::lab::{LOAD_CORE, Lab, PROXY_CORE, on_cores};

/// The URLs of a product's files, and where they are.
const FILES: &[(&str, &str)] = &[
    ("/pve2/js/", "usr/share/pve-manager/js/"),
    ("/pve2/css/", "usr/share/pve-manager/css/"),
    ("/pve2/images/", "usr/share/pve-manager/images/"),
    ("/pve2/ext6/", "usr/share/javascript/extjs/"),
    ("/pve2/fa/css/", "usr/share/fonts-font-awesome/css/"),
    ("/pve2/fa/fonts/", "usr/share/fonts-font-awesome/fonts/"),
    ("/pve2/font-logos/", "usr/share/fonts-font-logos/"),
    ("/pve2/locale/", "usr/share/pve-i18n/"),
    ("/pwt/", "usr/share/javascript/proxmox-widget-toolkit/"),
    ("= /proxmoxlib.js", "usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js"),
    ("= /qrcode.min.js", "usr/share/javascript/qrcodejs/qrcode.min.js"),
];

/// nginx as a proxy. `more` goes to the section of HTTP.
pub(crate) fn start(lab: &Lab, job: Job, more: &str) -> Result<Proxy> {
    start_on(lab, job, more, PROXY_CORE)
}

/// The same on other cores, as taskset writes them.
pub(crate) fn start_on(lab: &Lab, job: Job, more: &str, cores: &str) -> Result<Proxy> {
    let (command, address) = prepared(lab, job, more, cores)?;
    Proxy::start(command, address)
}

pub(crate) fn prepared(lab: &Lab, job: Job, more: &str, cores: &str) -> Result<Prepared> {
    let address = free_address(job.host)?;
    let [chain, key, _] = lab.certificate(job.key);
    let (keepalive, version, connection) = match job.upstream {
        Upstream::Kept => ("keepalive 64; keepalive_requests 100000000;", "1.1", "\"\""),
        Upstream::Fresh => ("", "1.0", "close"),
    };
    let mut locations = String::new();
    for (url, path) in FILES {
        let path = lab.root().join(path);
        let _ = writeln!(locations, "location {url} {{ alias {}; }}", path.display());
    }
    let pages = lab.root().join("usr/share/pve-manager");
    let _ = writeln!(locations, "location = / {{ root {}; try_files /index.html =404; }}", pages.display());
    let server = format!(
        "ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_session_cache shared:tls:10m; ssl_session_tickets on; ssl_ecdh_curve X25519;\n\
         gzip_types application/javascript text/css; {more}\n\
         proxy_buffers 32 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 256k;\n\
         client_max_body_size 0;\n\
         upstream daemon {{ server {backend}; {keepalive} }}\n\
         server {{\n\
           listen {address} ssl {http2} backlog=4096; server_name localhost;\n\
           {locations}\n\
           location /api2/ {{ proxy_pass http://daemon; proxy_http_version {version};\n\
             proxy_set_header Connection {connection}; proxy_set_header Host $host; }}\n\
           location /upload/ {{ proxy_pass http://daemon; proxy_http_version 1.1;\n\
             proxy_request_buffering off; proxy_set_header Connection \"\"; }}\n\
           location /console/ {{ proxy_pass http://daemon; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}\n\
         }}\n",
        chain = chain.display(),
        key = key.display(),
        backend = job.backend,
        http2 = if job.http2 { "http2" } else { "" },
    );
    let command = command(lab, address, [job.workers.try_into()?, job.connections], cores, &server)?;
    Ok((command, address))
}

/// nginx that serves files of `directory` in the clear, for a daemon: one worker on the core of the load.
pub(crate) fn daemon(lab: &Lab, directory: &Path) -> Result<Proxy> {
    let address = free_address(Ipv4Addr::LOCALHOST)?;
    let server = format!(
        "default_type application/json;\n\
         server {{ listen {address} backlog=4096; access_log off; root {}; }}\n",
        directory.display()
    );
    Proxy::start(command(lab, address, [1, 32_768], &LOAD_CORE.to_string(), &server)?, address)
}

fn command(
    lab: &Lab,
    address: SocketAddr,
    [workers, connections]: [u64; 2],
    cores: &str,
    server: &str,
) -> Result<std::process::Command> {
    let name = lab.path(&format!("nginx-{}", address.port()));
    let name = name.display();
    let configuration = format!(
        "daemon off; worker_processes {workers}; worker_rlimit_nofile 65536; pid {name}.pid;\n\
         error_log {name}.error;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n\
           include /etc/nginx/mime.types; sendfile on; tcp_nodelay on; etag on;\n\
           access_log {name}.log combined buffer=64k flush=1s;\n\
           client_body_temp_path {name}.body; proxy_temp_path {name}.proxy;\n\
           fastcgi_temp_path {name}.fastcgi; uwsgi_temp_path {name}.uwsgi; scgi_temp_path {name}.scgi;\n\
           open_file_cache max=1000 inactive=60s; keepalive_requests 100000000; keepalive_timeout 65s;\n\
           {server}\
         }}\n",
    );
    let file = PathBuf::from(format!("{name}.conf"));
    std::fs::write(&file, configuration)?;
    let mut command = on_cores(cores, &PathBuf::from("nginx"));
    command.arg("-c").arg(&file).arg("-e").arg(lab.path("nginx.start"));
    Ok(command)
}

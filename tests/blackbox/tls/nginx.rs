//! nginx with the certificate, the versions and the cipher list that nodegate has, to compare with.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::support::nodegate::{eventually, free_port};
use crate::support::{Outcome, Site};

/// Ended when dropped.
pub(super) struct Nginx {
    process: Child,
    pub(super) address: SocketAddr,
}

impl Nginx {
    pub(super) fn start(site: &Site) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (_, settings) = Outcome::check_json(site, &[]);
        let setting = |key: &str| settings["settings"][key]["value"].as_str().unwrap().to_owned();
        site.write("/nginx/nginx.conf", configuration(address, &setting("tls.ciphers")));
        let process = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(site.path("/nginx"))
            .args(["-c", "nginx.conf"])
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is missing; `make test` installs it");
        let nginx = Self { process, address };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        nginx
    }
}

fn configuration(address: SocketAddr, ciphers: &str) -> String {
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths: String = paths.map(|name| format!("{name}_temp_path {name};\n")).concat();
    format!(
        "daemon off; master_process off; pid pid; error_log log;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
        server {{\nlisten {address} ssl;\nssl_protocols TLSv1.2 TLSv1.3;\nssl_ciphers {ciphers};\n\
        ssl_prefer_server_ciphers on;\nssl_certificate ../etc/pve/local/pve-ssl.pem;\n\
        ssl_certificate_key ../etc/pve/local/pve-ssl.key;\n}}\n}}\n"
    )
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

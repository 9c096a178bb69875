//! A directory that stands for `/`, with keys, a certificate and a stand-in daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use nodegate_standin::{Certificate, Config, Daemon, KeyKind, Keys, Product, now};
use tempfile::TempDir;

/// The same for the whole process: making RSA keys takes a noticeable part of a second.
fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::ca().issue("node1.example.com", &[], KeyKind::Rsa2048))
}

/// One product's machine.
pub struct Site {
    directory: TempDir,
    pub product: Product,
    pub keys: Arc<Keys>,
    pub daemon: Daemon,
}

impl Site {
    pub fn pve() -> Self {
        Self::of(Product::Pve)
    }

    pub fn pmg() -> Self {
        Self::of(Product::Pmg)
    }

    /// Keys, an RSA certificate, log directories, and a daemon on a free port.
    pub fn of(product: Product) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::generate());
        let root = directory.path();
        for folder in [
            "etc/default",
            "var/log/pveproxy",
            "var/log/pmgproxy",
            "run/pveproxy",
            "run/pmgproxy",
            "var/tmp",
            "tmp",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        match product {
            Product::Pve => keys.write_pve(root),
            Product::Pmg => keys.write_pmg(root),
        }
        let daemon =
            Daemon::start(Config { keys: Arc::clone(&keys), root: root.to_owned(), ..Config::new(product) });
        let site = Self { directory, product, keys, daemon };
        let certificate = certificate();
        match product {
            Product::Pve => {
                site.write("/etc/pve/local/pve-ssl.pem", certificate.chain_pem());
                site.write("/etc/pve/local/pve-ssl.key", certificate.key_pem());
            }
            Product::Pmg => site.write("/etc/pmg/pmg-api.pem", certificate.combined_pem()),
        }
        site
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Where an absolute path lies under the root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root().join(absolute.trim_start_matches('/'))
    }

    /// Writes a file under the root, with its directories.
    pub fn write(&self, absolute: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(absolute);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// Makes a file look as if it had been written so many seconds ago.
    pub fn age(&self, absolute: &str, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(self.path(absolute)).unwrap().set_modified(then).unwrap();
    }

    /// The product's own settings file.
    pub fn legacy(&self, text: &str) {
        let name = match self.product {
            Product::Pve => "/etc/default/pveproxy",
            Product::Pmg => "/etc/default/pmgproxy",
        };
        self.write(name, text);
    }

    pub fn profile(&self) -> &'static str {
        match self.product {
            Product::Pve => "pve",
            Product::Pmg => "pmg",
        }
    }

    /// The built-in profile with another port.
    pub fn own_profile(&self, port: u16) -> String {
        let text = nodegate::testing::config::built_in_profile(self.profile()).unwrap();
        self.write("/own.toml", text.replace("port = 8006", &format!("port = {port}")));
        self.path("/own.toml").to_str().unwrap().to_owned()
    }

    /// A fresh ticket of the product.
    pub fn ticket(&self, user: &str) -> String {
        let prefix = match self.product {
            Product::Pve => "PVE",
            Product::Pmg => "PMG",
        };
        self.keys.ticket(prefix, user, now())
    }

    /// `Cookie: NAME=TICKET` with line end.
    pub fn cookie(&self, user: &str) -> String {
        let name = match self.product {
            Product::Pve => "PVEAuthCookie",
            Product::Pmg => "PMGAuthCookie",
        };
        format!("Cookie: {name}={}\r\n", self.ticket(user))
    }

    /// `CSRFPreventionToken: …` with line end.
    pub fn csrf(&self, user: &str) -> String {
        format!("CSRFPreventionToken: {}\r\n", self.keys.csrf(user, now()))
    }

    pub fn access_log(&self) -> String {
        let path = match self.product {
            Product::Pve => "/var/log/pveproxy/access.log",
            Product::Pmg => "/var/log/pmgproxy/pmgproxy.log",
        };
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }
}

//! The parts that all proxies share: a root directory, one certificate, files to serve, tickets; and where each
//! process runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use nodegate_standin::Keys;
use nodegate_standin::demo;
use nodegate_standin::now;
use nodegate_standin::{Certificate, KeyKind};

/// The core of the proxies, and that of everything else.
pub(crate) const PROXY_CORE: &str = "0";
pub(crate) const LOAD_CORE: usize = 1;

/// The script that is served: 100 kB, as pveproxy's figures have it.
const SCRIPT_BYTES: usize = 100_000;
const SCRIPT: &str = "usr/share/pve-manager/js/bench.js";
/// Its URL at every proxy.
pub(crate) const SCRIPT_URL: &str = "/pve2/js/bench.js";
/// A file too big for any cache of contents, for clients that do not read.
pub(crate) const BIG_URL: &str = "/pve2/js/big.js";
const BIG_BYTES: usize = 64 << 20;
const FILES: u64 = 65_536;

/// A directory to throw away, and how to start things in it.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
    pub nodegate: PathBuf,
    /// other builds of it, by the names they have in the tables
    pub builds: Vec<(&'static str, PathBuf)>,
    pub keys: Keys,
    /// descriptors that a process may have
    pub files: u64,
}

impl Lab {
    /// Prepares the root and takes this process to the core of the load.
    pub(crate) fn new(nodegate: &Path, builds: Vec<(&'static str, PathBuf)>) -> Result<Self> {
        let mut cores = CpuSet::new();
        cores.set(LOAD_CORE)?;
        sched_setaffinity(Pid::from_raw(0), &cores).context("two cores are needed")?;
        let limit = raise_file_limit()?;
        let directory = tempfile::Builder::new().prefix("nodegate-bench-").tempdir()?;
        // nginx's worker is another user.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let root = directory.path().join("root");
        let keys = demo::prepare(&root);
        let ecdsa = Certificate::ca().issue("localhost", &[], KeyKind::EcP256);
        ecdsa.write(&directory.path().join("ecdsa"), "node");
        std::fs::write(directory.path().join("ecdsa/node.combined"), ecdsa.combined_pem())?;
        let chain = std::fs::read(root.join("etc/pve/local/pve-ssl.pem"))?;
        let key = std::fs::read(root.join("etc/pve/local/pve-ssl.key"))?;
        std::fs::write(directory.path().join("rsa.combined"), [chain, key].concat())?;
        let lab = Self { directory, nodegate: nodegate.to_owned(), builds, keys, files: limit };
        lab.write_files()?;
        Ok(lab)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Certificate chain, its key, and both in one file.
    pub(crate) fn certificate(&self, kind: KeyKind) -> [PathBuf; 3] {
        match kind {
            KeyKind::Rsa2048 => [
                self.path("root/etc/pve/local/pve-ssl.pem"),
                self.path("root/etc/pve/local/pve-ssl.key"),
                self.path("rsa.combined"),
            ],
            KeyKind::EcP256 => {
                [self.path("ecdsa/node.pem"), self.path("ecdsa/node.key"), self.path("ecdsa/node.combined")]
            }
        }
    }

    /// The script beside its compressed form, made beforehand for nginx's `gzip_static`.
    fn write_files(&self) -> Result<()> {
        let path = self.root().join(SCRIPT);
        std::fs::write(&path, script(SCRIPT_BYTES))?;
        std::fs::write(path.with_file_name("big.js"), vec![b'x'; BIG_BYTES])?;
        let status = Command::new("gzip").args(["-9", "-k", "-f"]).arg(&path).status()?;
        anyhow::ensure!(status.success(), "gzip: {status}");
        Ok(())
    }

    /// A cluster of `count` nodes with the node `far` on loopback among them, and its certificate.
    pub(crate) fn members(&self, count: usize) -> Result<PathBuf> {
        let own = demo::node_name();
        let others = (2..count).map(|number| format!(r#""node{number}":{{"id":{number},"online":0}}"#));
        let nodes: Vec<_> = [
            format!(r#""{own}":{{"id":1,"online":1,"ip":"127.0.0.1"}}"#),
            format!(r#""far":{{"id":{count},"online":1,"ip":"127.0.0.1"}}"#),
        ]
        .into_iter()
        .chain(others)
        .collect();
        let text = format!(
            r#"{{"nodename":"{own}","version":1,"cluster":{{"name":"bench","version":1,"nodes":{count},"quorate":1}},"nodelist":{{{}}}}}"#,
            nodes.join(",")
        );
        let far = self.root().join("etc/pve/nodes/far");
        std::fs::create_dir_all(&far)?;
        std::fs::copy(self.root().join("etc/pve/local/pveproxy-ssl.pem"), far.join("pveproxy-ssl.pem"))?;
        let path = self.root().join("etc/pve/.members");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Good login tickets of different users, each made now.
    pub(crate) fn tickets(&self, from: usize, count: usize) -> Vec<String> {
        let time = now();
        (from..from + count)
            .map(|number| self.keys.ticket("PVE", &format!("user{number}@pve"), time))
            .collect()
    }
}

/// Ten thousand connections want two descriptors each at some proxies; root may raise the hard limit.
fn raise_file_limit() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(FILES);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Lines as a minified GUI has them: words that come again, numbers that do not.
pub(crate) fn script(length: usize) -> String {
    let words =
        ["function", "return", "this.", "gettext(", "Ext.define(", "proxy", "store", "=>", "null", "var "];
    let mut state = 88_172_645_463_325_252_u64;
    let mut text = String::with_capacity(length);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = usize::try_from(state % 10).ok().and_then(|index| words.get(index)).unwrap_or(&"var ");
        text.push_str(word);
        let _ = write!(text, "{:x}", state >> 44);
        if state.is_multiple_of(11) {
            text.push('\n');
        }
    }
    text.truncate(length);
    text
}

/// `command`, bound to `cores` as taskset writes them.
pub(crate) fn on_cores(cores: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program);
    command
}

//! The API's clients against a cluster of three: they talk to node 1, and what belongs to others goes there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::machines::{Cluster, ca};
use crate::support::Nodegate;

/// Reads all nodes, writes an option, uploads every file that is named, for another node's storage.
const SESSION: &str = "
import sys, warnings
warnings.simplefilter('ignore')
from proxmoxer import ProxmoxAPI
api = ProxmoxAPI('127.0.0.1', port=int(sys.argv[1]), user='root@pam', password='demo', verify_ssl=False, timeout=60)
for node in ('node1', 'node2', 'node3'):
    api.nodes(node).status.get()
api.cluster.options.put(keyboard='de')
for name in sys.argv[2:]:
    print(api.nodes('node2').storage('local').upload.post(content='iso', filename=open(name, 'rb')))
";

/// Three nodes at work, and files of 0.3 and 15 MB.
struct Scene {
    cluster: Cluster,
    gates: Vec<Nodegate>,
    files: Vec<PathBuf>,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::pve(3);
        let gates = (1..=3).map(|number| cluster.start(number, &[])).collect();
        let site = &cluster.nodes[0].site;
        let files = [300_000, 15_000_000].map(|size| {
            let name = format!("/{size}.iso");
            let content: Vec<u8> =
                (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            site.write(&name, content);
            site.path(&name)
        });
        site.write("/ca.pem", ca().certificate_pem());
        Self { cluster, gates, files: files.to_vec() }
    }

    fn port(&self) -> String {
        self.gates[0].port().to_string()
    }

    /// Each other node was asked once, and what was uploaded is what the files hold.
    fn assert_used(&self, uploads: usize) {
        for node in &self.cluster.nodes[1..] {
            let targets: Vec<_> =
                node.site.daemon.requests().into_iter().map(|request| request.target).collect();
            assert_eq!(targets, [format!("/api2/json/nodes/node{}/status", node.number)]);
        }
        let received = self.cluster.nodes[0].site.daemon.requests().into_iter();
        let received: Vec<_> = received.filter_map(|request| request.upload).collect();
        let sent: Vec<_> = self.files.iter().take(uploads).map(|path| std::fs::read(path).unwrap()).collect();
        assert!(received == sent, "{} uploads", received.len());
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn finished(command: &mut Command) -> Output {
    let output = command.output().expect("a client is missing; `make test` installs what the tests need");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn both_generations_of_proxmoxer_read_write_and_upload() {
    for python in [PathBuf::from("/usr/bin/python3"), here("target/clients/bin/python")] {
        let scene = Scene::new();
        finished(Command::new(python).args(["-c", SESSION, &scene.port()]).args(&scene.files));
        scene.assert_used(2);
    }
}

#[test]
fn curl_reads_writes_and_uploads() {
    let scene = Scene::new();
    let site = &scene.cluster.nodes[0].site;
    let curl = |path: &str, more: &[&str]| {
        let headers = [site.cookie("root@pam"), site.csrf("root@pam")];
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--cacert"]);
        command.arg(site.path("/ca.pem"));
        for header in &headers {
            command.args(["-H", header.trim_end()]);
        }
        finished(command.args(more).arg(format!("https://127.0.0.1:{}/api2/json{path}", scene.port())));
    };
    for node in ["node1", "node2", "node3"] {
        curl(&format!("/nodes/{node}/status"), &[]);
    }
    curl("/cluster/options", &["-X", "PUT", "-d", "keyboard=de"]);
    for file in &scene.files {
        let file = format!("filename=@{}", file.display());
        curl("/nodes/node2/storage/local/upload", &["-F", "content=iso", "-F", &file]);
    }
    scene.assert_used(2);
}

#[test]
fn the_libraries_of_npm_read_and_write() {
    for library in ["proxmox-api", "@corsinvest/cv4pve-api-javascript"] {
        let scene = Scene::new();
        let site = &scene.cluster.nodes[0].site;
        let mut command = Command::new("node");
        command.arg(here("tests/e2e/api_client.mjs")).args([
            library,
            "127.0.0.1",
            &scene.port(),
            "node2",
            "node3",
        ]);
        finished(command.current_dir(here("")).env("NODE_EXTRA_CA_CERTS", site.path("/ca.pem")));
        assert!(site.daemon.requests().iter().any(|request| request.method == "PUT"));
        scene.assert_used(0);
    }
}

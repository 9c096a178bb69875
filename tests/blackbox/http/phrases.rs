//! Reason phrases with the names of people, as real clients see them.

use std::path::Path;
use std::process::{Command, Output};

use crate::cluster::machines::Cluster;
use crate::support::{Nodegate, Site};

const TEXT: &str = "no such user ('müller@pve')";
const PATH: &str = "/api2/json/access/users/m%C3%BCller@pve";
const SESSION: &str = "
import sys, warnings
warnings.simplefilter('ignore')
from proxmoxer import ProxmoxAPI, ResourceException
api = ProxmoxAPI('127.0.0.1', port=int(sys.argv[1]), user='root@pam', password='demo', verify_ssl=False, timeout=60)
try:
    api.access.users('müller@pve').get()
except ResourceException as error:
    # The library of Python reads a phrase as Latin-1.
    print(str(error).encode('latin-1').decode())
";

fn finished(command: &mut Command) -> Output {
    let output = command.output().expect("a client is missing; `make test` installs what the tests need");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn curl_shows_the_daemons_phrase() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["http2=1"]);
    let cookie = site.cookie("root@pam");
    let curl = |version: &str| {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--verbose",
            "--max-time",
            "60",
            version,
            "-H",
            cookie.trim_end(),
        ]);
        let output = finished(curl.arg("--globoff").arg(format!("https://{}{PATH}", gate.local())));
        String::from_utf8(output.stderr).unwrap()
    };
    let seen = curl("--http1.1");
    assert!(seen.contains(&format!("< HTTP/1.1 500 {TEXT}")), "{seen}");
    let seen = curl("--http2");
    assert!(seen.contains("< status-message: no such user ('m%C3%BCller@pve')"), "{seen}");
}

#[test]
fn both_generations_of_proxmoxer_show_the_phrase() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for python in ["/usr/bin/python3", "target/clients/bin/python"] {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(python);
        let output = finished(Command::new(python).args(["-c", SESSION, &gate.port().to_string()]));
        let seen = String::from_utf8(output.stdout).unwrap();
        assert!(seen.contains(TEXT), "{seen}");
    }
}

/// As a GUI reads it: the bytes of the phrase as Latin-1.
#[test]
fn a_browser_reads_the_phrase_as_status() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/index.html.tpl", "<!doctype html><title>[% nodename %]</title>");
    let gate = Nodegate::start(&site, &[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/status_text.mjs");
    let origin = format!("https://{}", gate.local());
    let output = finished(Command::new("node").arg(script).args([&origin, PATH]));
    let reported: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (reported["status"].as_u64(), reported["text"].as_str()),
        (Some(500), Some(TEXT)),
        "{reported}"
    );
}

#[test]
fn another_nodes_phrase_comes_through() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let path = "/api2/json/nodes/node2/standin/reason?status=500&text=no%20such%20user%20('m%C3%BCller@pve')";
    let reply = first.get(path, &site.cookie("root@pam"));
    assert_eq!((reply.status, reply.reason.as_str()), (500, TEXT));
    assert!(site.daemon.requests().is_empty());
}

#[test]
fn own_messages_have_their_characters_in_the_phrase() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply = gate.get("/b%C3%BCro/%E2%82%AC", "");
    assert_eq!((reply.status, reply.reason.as_str()), (404, "no such file '/büro/€'"));
    let reply = gate.get("/api2/json/nodes/b%C3%BCro/status", &site.cookie("root@pam"));
    assert!(reply.reason.starts_with("no such node 'büro'"), "{}", reply.reason);
}

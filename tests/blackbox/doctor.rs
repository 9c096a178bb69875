//! `nodegate doctor`: each fault has a finding with its consequence and the command that mends it, in time, and the
//! bundle holds no secret.

mod bundle;
mod system;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use nodegate_standin::KeyKind;
use serde_json::Value;

use crate::cluster::machines::{Cluster, ca};
use crate::support::nodegate::{command, eventually, free_port};
use crate::support::{Nodegate, Outcome, Site, tls_server};

/// The whole run, with dead nodes.
const LONGEST: Duration = Duration::from_secs(20);

/// The findings of a run.
#[derive(Debug)]
pub struct Found {
    pub code: i32,
    pub json: Value,
}

impl Found {
    pub fn of(command: &mut Command) -> Self {
        let started = Instant::now();
        let outcome = Outcome::of(command.arg("--json"));
        assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
        let json = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
        let found = Self { code: outcome.code, json };
        for finding in found.findings().iter().filter(|finding| finding["level"] != "ok") {
            let is_explained = finding["why"].is_string() && finding["mend"].is_string();
            assert!(is_explained || finding["level"] == "note", "no consequence or command: {finding}");
        }
        found
    }

    pub fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().unwrap()
    }

    /// The only finding of a probe with that level and part of its text.
    #[track_caller]
    pub fn one(&self, level: &str, probe: &str, part: &str) -> &Value {
        let is_it = |finding: &&Value| {
            finding["level"] == level
                && finding["probe"] == probe
                && finding["what"].as_str().unwrap().contains(part)
        };
        let all: Vec<_> = self.findings().iter().filter(is_it).collect();
        assert_eq!(all.len(), 1, "{level} {probe} {part}: {:#}", self.json);
        all[0]
    }
}

/// The doctor of a site, on that port.
pub fn doctor(site: &Site, port: u16, sets: &[&str]) -> Command {
    let (port, backend) =
        (format!("listen.port={port}"), format!("backend.address={}", site.daemon.address()));
    let root = site.root().to_str().unwrap();
    let mut doctor = command(&["--root", root, "doctor", site.profile()]);
    for set in ["node.name=node1", "listen.address=127.0.0.1", &port, &backend].iter().chain(sets) {
        doctor.args(["--set", set]);
    }
    doctor
}

#[test]
fn a_node_in_order_is_good() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let found = Found::of(&mut doctor(&site, gate.port(), &[]));
    assert_eq!(found.code, i32::from(found.json["errors"] != 0), "{:#}", found.json);
    found.one("ok", "process", &format!("nodegate {} runs, pid {}", env!("CARGO_PKG_VERSION"), gate.pid()));
    found.one("ok", "ports", &format!("{}: nodegate", gate.address()));
    found.one("ok", "daemons", "answers 200 within");
    found.one("ok", "network", "no client came with a forwarded header");
    found.one("ok", "disk", "MiB free for uploads");
    found.one("note", "service", "with --root");
    for probe in ["process", "ports", "daemons", "nodes", "clock", "files", "disk"] {
        let bad = |finding: &&Value| finding["probe"] == probe && finding["level"] == "error";
        assert_eq!(found.findings().iter().find(bad), None);
    }
    let fields = ["profile", "version", "time", "seconds", "root", "errors", "warnings", "notes", "findings"];
    let members = found.json.as_object().unwrap();
    assert!(members.len() == fields.len() && fields.iter().all(|field| members.contains_key(*field)));
}

/// The findings come first, each with its consequence and its command; what is good needs a line for each probe.
#[test]
fn the_text_begins_with_the_findings() {
    let site = Site::pve();
    let outcome = Outcome::of(&mut doctor(&site, free_port(), &[]));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""), "{outcome:?}");
    let text = &outcome.stdout;
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is missing in\n{text}"));
    assert!(text.starts_with("pve: "), "{text}");
    assert!(
        place("ERROR    ports    the port 127.0.0.1:") < place("\n         why      clients get a refused")
    );
    assert!(place("\n         mend     systemctl start ") < place("WARNING  process  nodegate does not run"));
    assert!(place("WARNING ") < place("\nnote ") && place("\nnote ") < place("\nok "));
    assert_eq!(text.matches("\nok       daemons ").count(), 1);
    assert!(!text.contains('\x1b'), "colours are for terminals");
}

#[test]
fn another_program_on_the_port_is_named() {
    let site = Site::pve();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let found = Found::of(&mut doctor(&site, port, &[]));
    assert_eq!(found.code, 1);
    let finding = found.one("error", "ports", &format!("(pid {}) listens", std::process::id()));
    assert!(finding["what"].as_str().unwrap().contains("blackbox"), "{finding}");
    assert!(finding["mend"].as_str().unwrap().contains("listen.port"), "{finding}");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its processes have the daemon's name as their command line.
#[test]
fn the_original_on_the_port_is_recognised() {
    let site = Site::pve();
    let port = free_port();
    let script = format!(
        "import socket,time; s=socket.create_server(('127.0.0.1',{port})); print(1, flush=True); time.sleep(300)"
    );
    let mut original = Command::new("/usr/bin/python3");
    original.arg0("pveproxy worker").args(["-c", &script]).stdout(Stdio::piped());
    let mut original = Killed(original.spawn().unwrap());
    original.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let found = Found::of(&mut doctor(&site, port, &[]));
    let text = format!("the original pveproxy (pid {})", original.0.id());
    found.one("ok", "ports", &text);
    let finding =
        found.one("note", "process", &format!("nodegate does not run for pve: {text} serves port {port}"));
    let mend = finding["mend"].as_str().unwrap();
    assert!(mend.starts_with("nodegate takeover pve --trial 10m #"), "{finding}");
    assert!(mend.contains("nodegate-fallback@pveproxy"), "{finding}");
    // The original has the product's port, whatever the settings of nodegate say.
    let profile = site.own_profile(port);
    site.write("/etc/nodegate/pve.toml", format!("[listen]\nport = {}\n", free_port()));
    let mut moved = command(&["--root", site.path("").to_str().unwrap(), "doctor", &profile]);
    let found = Found::of(&mut moved);
    found.one("ok", "ports", &text);
    found.one("note", "process", &format!("nodegate does not run for pve: {text} serves port {port}"));
}

/// Node 2 shows another certificate than the one that it published, node 3 is dead, node 4 accepts and says nothing.
#[test]
fn dead_and_foreign_nodes_are_found_in_time() {
    let cluster = Cluster::pve(5);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let _fifth = cluster.start(5, &[]);
    let _silent = TcpListener::bind(("127.0.0.4", cluster.port)).unwrap();
    let site = &cluster.nodes[0].site;
    let stranger = ca().issue("node2", &[], KeyKind::EcP256);
    site.write("/etc/pve/nodes/node2/pve-ssl.pem", stranger.certificate_pem());
    let port = format!("cluster.port={}", cluster.port);
    let found = Found::of(&mut doctor(site, first.port(), &[&port]));
    assert_eq!(found.code, 1);
    let wrong = found.one("error", "nodes", "certificate verify failed: expected fingerprint");
    let what = wrong["what"].as_str().unwrap();
    for part in
        ["node 'node2' at 127.0.0.2:", &stranger.fingerprint(), &cluster.nodes[1].certificate.fingerprint()]
    {
        assert!(what.contains(part), "{part}: {what}");
    }
    assert!(wrong["mend"].as_str().unwrap().contains("ssh node2 "), "{wrong}");
    found.one("error", "nodes", "node 'node3' at 127.0.0.3:");
    let silent = found.one("error", "nodes", "TLS fails: no end within 3 s");
    assert!(silent["why"].as_str().unwrap().contains("MTU"), "{silent}");
    found.one("ok", "nodes", "node 'node5' at 127.0.0.5:");
    found.one("note", "nodes", "node 'unseen' has no address");
}

/// A node with nodegate and the right time has no finding; one whose answer is dated long ago has.
#[test]
fn the_clocks_of_nodes_are_compared() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let third = &cluster.nodes[2];
    let answer = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n";
    let _third = tls_server(("127.0.0.3", cluster.port), &third.certificate, answer);
    let port = format!("cluster.port={}", cluster.port);
    let found = Found::of(&mut doctor(&cluster.nodes[0].site, first.port(), &[&port]));
    let behind = found.one("error", "nodes", "the clock of node 'node3' is ");
    assert!(behind["what"].as_str().unwrap().ends_with(" s behind the clock of this node"), "{behind}");
    let clocks = found
        .findings()
        .iter()
        .filter(|finding| finding["what"].as_str().unwrap().contains("the clock of node"));
    assert_eq!(clocks.count(), 1);
    found.one("ok", "nodes", "node 'node2' at");
}

#[test]
fn the_own_name_is_compared_with_the_cluster() {
    let cluster = Cluster::pve(2);
    let site = &cluster.nodes[0].site;
    site.write("/etc/pve/.members", Cluster::members(2).replace("127.0.0.1", "192.0.2.1"));
    let found = Found::of(&mut doctor(site, free_port(), &["node.name=node1"]));
    found.one("error", "names", "192.0.2.1 for this node 'node1', which is no address of this machine");
    let found = Found::of(&mut doctor(site, free_port(), &["node.name=other"]));
    let finding =
        found.one("error", "nodes", "node.name is 'other', and the cluster has: node1, node2, unseen");
    assert!(finding["mend"].as_str().unwrap().contains("node.name"), "{finding}");
}

/// A listener that answers each connection after a time, or never.
fn daemon(delay: Option<Duration>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                std::thread::sleep(delay.unwrap_or(Duration::from_mins(5)));
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
            });
        }
    });
    address
}

#[test]
fn slow_and_silent_daemons_are_told_apart() {
    let site = Site::pve();
    let found = |backend: &str, worker: &str| {
        let sets = [format!("backend.address={backend}"), format!("backend.unprivileged={worker}")];
        Found::of(&mut doctor(&site, free_port(), &sets.each_ref().map(String::as_str)))
    };
    let (gone, slow) = (format!("127.0.0.1:{}", free_port()), daemon(Some(Duration::from_millis(1500))));
    let both = found(&gone, &slow);
    let down = both.one("error", "daemons", &format!("the daemon at {gone} accepts no connection"));
    assert_eq!(down["mend"], "systemctl restart pvedaemon");
    both.one("warning", "daemons", &format!("the worker without root at {slow} needs 1"));
    let silent = daemon(None);
    let both = found(&silent, &gone);
    both.one(
        "error",
        "daemons",
        &format!("the daemon at {silent} accepts a connection and sends no response"),
    );
    let worker =
        both.one("warning", "daemons", &format!("the worker without root at {gone} accepts no connection"));
    assert!(worker["mend"].as_str().unwrap().contains("nodegate-pve-worker"), "{worker}");
}

#[test]
fn a_silent_control_socket_is_an_error() {
    let site = Site::pve();
    let port = free_port();
    let _silent = UnixListener::bind(site.path(&format!("/run/pveproxy/nodegate-pve-{port}.sock"))).unwrap();
    let found = Found::of(&mut doctor(&site, port, &[]));
    found.one("error", "process", "the control socket accepts a connection, but nothing answers");
}

/// As after a clean-up of /run. The reload by signal makes both files again.
#[test]
fn a_deleted_control_socket_is_named() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let socket = site.path(&format!("/run/pveproxy/nodegate-pve-{}.sock", gate.port()));
    std::fs::remove_file(&socket).unwrap();
    let ports = Found::of(&mut doctor(&site, gate.port(), &[]));
    ports.one("note", "ports", "without this control socket");
    gate.signal(Signal::SIGHUP);
    eventually("the socket is there again", || socket.exists());
    Found::of(&mut doctor(&site, gate.port(), &[])).one("ok", "process", "runs, pid");
}

#[test]
fn key_files_from_the_future_are_named() {
    let site = Site::pve();
    let later = SystemTime::now() + Duration::from_hours(2);
    File::open(site.path("/etc/pve/pve-www.key")).unwrap().set_modified(later).unwrap();
    let found = Found::of(&mut doctor(&site, free_port(), &[]));
    let finding = found.one("error", "clock", "/etc/pve/pve-www.key was written ");
    assert!(finding["mend"].as_str().unwrap().contains("touch "), "{finding}");
    found.one("ok", "clock", "/etc/pve/authkey.pub is ");
}

/// Only the first request of a connection counts, and only reports of peers that are not trusted.
#[test]
fn an_unknown_proxy_in_front_is_noticed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    for _ in 0..3 {
        session.request("GET", "/nope", "X-Forwarded-For: 192.0.2.9\r\n", b"");
    }
    gate.get("/nope", "");
    let found = Found::of(&mut doctor(&site, gate.port(), &[]));
    let finding = found.one("warning", "network", "1 connections brought a forwarded header");
    assert!(finding["mend"].as_str().unwrap().contains("real_ip.allow_from"), "{finding}");

    let sets = ["real_ip.header=X-Forwarded-For", "real_ip.allow_from=127.0.0.1"];
    let gate = Nodegate::start(&site, &sets);
    gate.get("/nope", "X-Forwarded-For: 192.0.2.9\r\n");
    Found::of(&mut doctor(&site, gate.port(), &sets)).one("ok", "network", "no other peer sends it");
    let sets = ["real_ip.header=X-Forwarded-For", "real_ip.allow_from=192.0.2.1"];
    let gate = Nodegate::start(&site, &sets);
    gate.get("/nope", "X-Forwarded-For: 192.0.2.9\r\n");
    Found::of(&mut doctor(&site, gate.port(), &sets)).one(
        "note",
        "network",
        "are not from real_ip.allow_from",
    );
}

#[test]
fn a_refused_reload_and_its_setting_are_named() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write("/etc/nodegate/pve.toml", "[limits]\nheaders = \"many\"\n");
    let port = format!("listen.port={}", gate.port());
    let refused = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let found = Found::of(&mut doctor(&site, gate.port(), &[]));
    assert_eq!(found.code, 1);
    found.one("error", "process", "the last reload was refused");
    let setting = found.one("error", "settings", "limits.headers");
    assert!(setting["mend"].as_str().unwrap().contains("/etc/nodegate/pve.toml line 2"), "{setting}");
}

/// nodegate starts with both, so `check` only warns.
#[test]
fn a_missing_ticket_key_is_an_error() {
    let site = Site::pve();
    std::fs::remove_file(site.path("/etc/pve/authkey.pub")).unwrap();
    assert_eq!(Outcome::check(&site, &[]).code, 0);
    let found = Found::of(&mut doctor(&site, free_port(), &[]));
    assert_eq!(found.code, 1);
    let finding = found.one("error", "settings", "no login is possible: ");
    assert!(finding["mend"].as_str().unwrap().contains("systemctl restart pve-cluster"), "{finding}");
}

#[test]
fn a_log_without_directory_is_an_error() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let directory = site.path("/var/log/pvproxy");
    site.write("/etc/nodegate/pve.toml", "[log]\naccess = \"/var/log/pvproxy/access.log\"\n");
    let reason = format!(
        "log.access: warning: no request is logged: the directory {} does not exist",
        directory.display()
    );
    let port = format!("listen.port={}", gate.port());
    let check = Outcome::check(&site, &[]);
    assert!(check.code == 0 && check.stderr.contains(&reason), "{check:?}");
    let reload = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert!(
        reload.code == 0 && [&reload.stdout, &reload.stderr].iter().any(|text| text.contains(&reason)),
        "{reload:?}"
    );
    let status = Outcome::ask(&site, &["--set", &port, "status", "pve", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert!(status["warnings"].to_string().contains("no request is logged"), "{}", status["warnings"]);
    let finding = Found::of(&mut doctor(&site, gate.port(), &[]));
    let finding = finding.one("error", "settings", "no request is logged");
    assert!(finding["mend"].as_str().unwrap().contains("pve.toml line 2"), "{finding}");
}

#[test]
fn a_broken_profile_is_the_only_finding() {
    let site = Site::pve();
    let found = Found::of(&mut command(&["--root", site.root().to_str().unwrap(), "doctor", "pvee"]));
    assert_eq!((found.code, found.findings().len()), (1, 1));
    found.one("error", "settings", "did you mean pve?");
}

#[test]
fn mail_gateway_and_tunnel_are_looked_at() {
    let site = Site::pmg();
    let gate = Nodegate::start(&site, &[]);
    let found = Found::of(&mut doctor(&site, gate.port(), &[]));
    found.one("ok", "ports", &format!("{}: nodegate", gate.address()));
    found.one("ok", "daemons", "answers 200 within");

    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, "spice", &[]);
    let port = format!("listen.port={}", gate.port());
    let root = site.root().to_str().unwrap();
    let sets = ["--set", &port, "--set", "node.name=node1", "--set", "listen.address=127.0.0.1"];
    let found = Found::of(&mut command(&[&["--root", root, "doctor", "spice"], &sets[..]].concat()));
    found.one("ok", "ports", &format!("{}: nodegate", gate.address()));
    found.one("ok", "daemons", "needs no daemon");
}

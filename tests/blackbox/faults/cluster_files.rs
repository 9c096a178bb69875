//! `/etc/pve` that does not answer, and files in it that are half written or in the wrong place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nodegate_standin::{Keys, now};

use crate::doctor::{Found, doctor};
use crate::support::nodegate::{eventually, free_port, wait_for_next_poll};
use crate::support::{Nodegate, Site, all_at_once, require_root};

const VERSION: &str = "/api2/json/version";
const OTHER_NODE: &str = "/api2/json/nodes/node2/status";
const OPTIONS: &str = "/api2/json/cluster/options";
const KEY: &str = "/etc/pve/authkey.pub";
const MEMBERS: &str =
    r#"{"nodename":"node1","nodelist":{"node1":{"ip":"127.0.0.1"},"node2":{"ip":"127.0.0.2"}}}"#;

/// The site's `/etc/pve` behind a process that can be stopped.
struct ClusterFiles {
    process: Child,
    mounted: PathBuf,
}

impl ClusterFiles {
    fn mount(site: &Site) -> Self {
        let (mounted, source) = (site.path("/etc/pve"), site.path("/etc/pve.source"));
        fs::rename(&mounted, &source).unwrap();
        fs::create_dir(&mounted).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/passing_fs.py");
        let process = Command::new("/usr/bin/python3").arg(script).arg(source).arg(&mounted).spawn().unwrap();
        let files = Self { process, mounted };
        eventually("the file system is there", || site.path(KEY).exists());
        files
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for ClusterFiles {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Reads that still wait get an error now.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

/// Whether the daemon sees the request. It has separate keys, and its response does not matter.
fn passes(site: &Site, gate: &Nodegate, headers: &str) -> bool {
    site.daemon.clear();
    let _ = gate.get(VERSION, headers);
    !site.daemon.requests().is_empty()
}

#[test]
fn a_hung_cluster_file_system_delays_no_request() {
    if !require_root("mount a file system that hangs") {
        return;
    }
    let site = Site::pve();
    site.write("/etc/pve/.members", MEMBERS);
    let files = ClusterFiles::mount(&site);
    let gate = Nodegate::start(&site, &["workers=2", "cluster.port=1"]);
    let cookie = site.cookie("root@pam");
    let write = cookie.clone() + &site.csrf("root@pam");
    let fresh = || site.cookie(&format!("user{}@pam", now()));
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    assert_eq!(gate.request("PUT", OPTIONS, &write, b"").status, 200);
    assert_eq!(gate.get(OTHER_NODE, &cookie).status, 595);
    files.signal(Signal::SIGSTOP);
    let hangs = Instant::now();
    // The first look that gets no answer costs each worker a moment; nothing waits after that.
    for _ in 0..3 {
        all_at_once(&[0; 20], |_| {
            let before = Instant::now();
            assert_eq!(gate.get("/nope", "").status, 404);
            assert_eq!(gate.get(VERSION, &cookie).status, 200, "a client known from before");
            assert_eq!(gate.get(VERSION, &fresh()).status, 200, "by the keys as they were");
            assert_eq!(gate.request("PUT", OPTIONS, &write, b"").status, 200);
            assert_eq!(gate.get(OTHER_NODE, &cookie).status, 595, "it has no pin");
            assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        });
        wait_for_next_poll();
    }
    assert_eq!(gate.get(VERSION, "Cookie: PVEAuthCookie=PVE:x@pam:00000000::eA==\r\n").status, 401);
    assert!(hangs.elapsed() < Duration::from_secs(55), "slower than the time in which old contents count");
    eventually("the log names what does not answer", || gate.stderr().contains("does not answer"));
    files.signal(Signal::SIGCONT);
    let next = Keys::fresh();
    fs::write(site.path("/etc/pve.source/authkey.pub"), next.public_pem()).unwrap();
    let ticket = format!("Cookie: PVEAuthCookie={}\r\n", next.ticket("PVE", "root@pam", now()));
    eventually("the next key counts", || passes(&site, &gate, &ticket));
    assert!(gate.stop().success());
}

/// The other probes still count, and a bundle is written.
#[test]
fn the_doctor_names_a_hung_cluster_fs() {
    if !require_root("mount a file system that hangs") {
        return;
    }
    let site = Site::pve();
    site.write("/etc/pve/.members", MEMBERS);
    let files = ClusterFiles::mount(&site);
    files.signal(Signal::SIGSTOP);
    let (file, port) = (site.path("/b.tar.gz"), free_port());
    let found = Found::of(doctor(&site, port, &[]).arg("--bundle").arg(&file));
    assert_eq!(found.code, 1);
    found.one("error", "nodes", "the list of nodes cannot be read");
    found.one("warning", "settings", "did not end within");
    found.one("error", "ports", "nothing listens");
    found.one("ok", "daemons", "answers");
    assert!(file.exists());
}

/// The cluster file system hangs; nodegate logs it and serves.
#[test]
fn a_start_survives_a_hung_cluster_fs() {
    if !require_root("mount a file system that hangs") {
        return;
    }
    let site = Site::pve();
    // The certificate is outside of that file system; without one there is nothing to serve.
    let pair = ["pem", "key"].map(|end| format!("/etc/pve/local/pve-ssl.{end}"));
    let [certificate, key] = pair.each_ref().map(|path| fs::read_to_string(site.path(path)).unwrap());
    let profile = include_str!("../../../profiles/pve.toml").replace("/etc/pve/local/", "/etc/local/");
    site.write("/mine.toml", profile);
    site.write("/etc/local/pve-ssl.pem", certificate);
    site.write("/etc/local/pve-ssl.key", key);
    let files = ClusterFiles::mount(&site);
    files.signal(Signal::SIGSTOP);
    let gate = Nodegate::start_profile(&site, site.path("/mine.toml").to_str().unwrap(), &[]);
    assert_eq!(gate.get("/nope", "").status, 404);
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert!(gate.stderr().contains("authkey.pub: the file system does not answer"), "{}", gate.stderr());
    files.signal(Signal::SIGCONT);
    eventually("it serves", || gate.get(VERSION, &site.cookie("root@pam")).status == 200);
}

/// Once the keys are back in place their tickets are valid again.
#[test]
fn swapped_keys_reject_every_ticket() {
    let site = Site::pve();
    let old = site.keys.old();
    old.write_pve_old(site.root());
    for path in [KEY, "/etc/pve/authkey.pub.old"] {
        site.age(path, 3 * 3600);
    }
    let gate = Nodegate::start(&site, &[]);
    let cookie = |keys: &Keys, age: i64| {
        format!("Cookie: PVEAuthCookie={}\r\n", keys.ticket("PVE", "root@pam", now() - age))
    };
    assert!(passes(&site, &gate, &cookie(&site.keys, 0)));
    site.write(KEY, old.public_pem());
    site.keys.write_pve_old(site.root());
    for path in [KEY, "/etc/pve/authkey.pub.old"] {
        site.age(path, 3 * 3600);
    }
    wait_for_next_poll();
    assert!(!passes(&site, &gate, &cookie(&site.keys, 0)), "younger than an old key may make");
    assert!(passes(&site, &gate, &cookie(&old, 0)));
    site.write(KEY, site.keys.public_pem());
    assert!(passes(&site, &gate, &cookie(&site.keys, 0)));
}

#[test]
fn a_truncated_node_list_fails_forwarding_only() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for half in ["", "{", &MEMBERS[..MEMBERS.len() / 2], "\0\0\0\0"] {
        site.write("/etc/pve/.members", half);
        wait_for_next_poll();
        let reply = gate.get(OTHER_NODE, &cookie);
        assert_eq!(reply.status, 500, "{half}: {}", reply.text());
        assert!(!reply.text().contains("/etc/"), "{}", reply.text());
        assert_eq!(gate.get(VERSION, &cookie).status, 200, "{half}");
        assert_eq!(gate.get("/api2/json/nodes/node1/status", &cookie).status, 200, "{half}");
    }
    site.write("/etc/pve/.members", MEMBERS);
    eventually("the node is known", || gate.get(OTHER_NODE, &cookie).status == 595);
}

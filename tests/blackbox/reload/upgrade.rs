//! The binary is replaced: the new process takes over, and connected clients do not notice.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SETTINGS, reload, threads};
use crate::status::report;
use crate::support::nodegate::{command, eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

const VERSION: &str = "/api2/json/version";
const SERVES: &str = "the successor serves";

/// A copy of the binary that may be replaced, and the process that runs it.
pub(crate) struct Installed {
    pub(crate) path: PathBuf,
    successors: Vec<Pid>,
}

impl Installed {
    pub(crate) fn new(site: &Site) -> Self {
        let path = site.path("/usr/bin/nodegate");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let installed = Self { path, successors: Vec::new() };
        installed.replace();
        installed
    }

    /// The command of `Nodegate::prepared`, from the copy.
    pub(crate) fn command(&self, prepared: &Command) -> Command {
        let mut command = Command::new(&self.path);
        command.args(prepared.get_args());
        for (name, value) in prepared.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// As packages do it: another file, moved to the old one's place.
    pub(crate) fn replace(&self) {
        self.replace_by(&fs::read(env!("CARGO_BIN_EXE_nodegate")).unwrap());
    }

    /// The file itself is written by another process: what a test beside this one starts at the same moment inherits
    /// what is open here, and a file that is open for writing cannot be run.
    fn replace_by(&self, contents: &[u8]) {
        let (copy, next) = (self.path.with_extension("copy"), self.path.with_extension("next"));
        fs::write(&copy, contents).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).args([&copy, &next]).status().unwrap();
        assert!(installed.success());
        fs::rename(next, &self.path).unwrap();
    }

    /// The process that the log says has taken over.
    pub(crate) fn successor(&mut self, gate: &Nodegate) -> Pid {
        eventually(SERVES, || gate.stderr().contains(SERVES));
        let log = gate.stderr();
        let line = log.lines().rfind(|line| line.contains(SERVES)).unwrap();
        let pid = line.split("pid=").nth(1).unwrap().split_whitespace().next().unwrap();
        let pid = Pid::from_raw(pid.parse().unwrap());
        self.successors.push(pid);
        pid
    }
}

/// Ends what the tests' own child is no longer the parent of.
impl Drop for Installed {
    fn drop(&mut self) {
        for pid in &self.successors {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// It ends with its last connection.
#[test]
fn an_upgrade_drains_the_old_process() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let cookie = site.cookie("root@pam");
    let mut kept = gate.connect();
    assert_eq!(kept.request("GET", VERSION, &cookie, b"").status, 200);
    let ticket = site.path("/session.pem");
    let s_client = |option: &str| {
        Outcome::of(Command::new("sh").arg("-c").arg(format!(
            "openssl s_client -tls1_2 -connect {} {option} {} </dev/null",
            gate.local(),
            ticket.display()
        )))
    };
    assert!(s_client("-sess_out").stdout.contains("New, "));

    installed.replace();
    reload(&gate, SERVES);
    let successor = installed.successor(&gate);
    assert_ne!(u32::try_from(successor.as_raw()).unwrap(), gate.pid());
    let resumed = s_client("-sess_in");
    assert!(resumed.stdout.contains("Reused, "), "keys of session tickets travel: {resumed:?}");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    assert!(lives(Pid::from_raw(gate.pid().try_into().unwrap())), "there is a connection left");
    let last = kept.request("GET", VERSION, &cookie, b"");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(kept.is_closed());
    assert!(gate.wait().success());
    assert_eq!(gate.get(VERSION, &cookie).status, 200);

    // The new process is complete: it reloads, and stops on request.
    site.write(SETTINGS, "[limits]\nbody = 1000\n");
    kill(successor, Signal::SIGHUP).unwrap();
    eventually("it reloads in place", || gate.stderr().contains("changed=\"limits.body\""));
    kill(successor, Signal::SIGTERM).unwrap();
    eventually("it ends", || !lives(successor));
    assert!(Session::try_tls(gate.local()).is_err());
}

/// Later commands ask the new process.
#[test]
fn reload_command_learns_of_the_new_process() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    assert_eq!(report(&site, &gate, "pve")["pid"], gate.pid());
    installed.replace();
    let port = format!("listen.port={}", gate.port());
    let asked = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    let successor = installed.successor(&gate);
    let reported = format!("reloaded by its successor, pid {successor}; changed: nothing\n");
    assert_eq!((asked.code, asked.stdout), (0, reported));
    assert!(gate.wait().success());
    assert_eq!(report(&site, &gate, "pve")["pid"], successor.as_raw());
    let socket = site.path(&format!("/run/pveproxy/nodegate-pve-{}.sock", gate.port()));
    assert!(socket.exists(), "the one before has left it");
    kill(successor, Signal::SIGTERM).unwrap();
    eventually("it is gone with the successor", || !socket.exists());
}

#[test]
fn a_failed_upgrade_keeps_the_old_process() {
    let site = Site::pve();
    let installed = Installed::new(&site);
    let gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let cookie = site.cookie("root@pam");
    installed.replace_by(b"#!/bin/sh\nexit 3\n");
    reload(&gate, "ended before it served (exit status: 3)");
    installed.replace_by(b"\x7fELF rubbish");
    reload(&gate, "cannot be started: ");
    installed.replace();
    site.write(SETTINGS, "[acl]\npolicy = \"perhaps\"\n");
    reload(&gate, "ended before it served (exit status: 1)");
    assert!(gate.stderr().contains("acl.policy: "), "it says itself what is wrong: {}", gate.stderr());
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    site.write(SETTINGS, "");
    let certificate = site.path("/etc/pve/local/pve-ssl.pem");
    let good = fs::read(&certificate).unwrap();
    let other = nodegate_standin::Certificate::ca().issue("x", &[], nodegate_standin::KeyKind::Rsa2048);
    site.write("/etc/pve/local/pve-ssl.pem", other.chain_pem());
    reload(&gate, "ended before it served (exit status: 1)");
    fs::write(certificate, good).unwrap();
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    assert_eq!(threads(&gate).iter().filter(|name| name.starts_with("worker-")).count(), 3);
}

#[test]
fn a_new_process_that_never_serves_is_killed() {
    let site = Site::pve();
    let installed = Installed::new(&site);
    let gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let reported = site.path("/pid");
    installed.replace_by(format!("#!/bin/sh\necho $$ >{}\nexec sleep 600\n", reported.display()).as_bytes());
    let refused = "did not start serving within 30 s";
    gate.signal(Signal::SIGHUP);
    let started = || fs::read_to_string(&reported).ok()?.trim().parse().ok().map(Pid::from_raw);
    eventually("it was started", || started().is_some());
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    let until = std::time::Instant::now() + std::time::Duration::from_mins(2);
    while !gate.stderr().contains(refused) {
        assert!(std::time::Instant::now() < until, "{}", gate.stderr());
        std::thread::yield_now();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(!lives(started().unwrap()));
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
}

#[test]
fn a_stop_ends_draining_processes_as_well() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let mut kept = gate.connect();
    assert_eq!(kept.request("GET", "/nope", "", b"").status, 404);
    installed.replace();
    reload(&gate, SERVES);
    let successor = installed.successor(&gate);
    let log = site.path("/var/log/pveproxy/access.log");
    fs::rename(&log, log.with_extension("1")).unwrap();
    kill(successor, Signal::SIGHUP).unwrap();
    eventually("both have opened the log again", || log.exists());
    eventually("the successor has reloaded", || gate.stderr().contains("reloaded changed"));
    assert_eq!(kept.request("GET", "/drained", "", b"").status, 404);
    eventually("the line of the old one in the new file", || site.access_log().contains("/drained"));
    let mut another = Session::plain(gate.local());
    another.send("GET / HTTP/1.1\r\n");
    kill(successor, Signal::SIGTERM).unwrap();
    assert!(gate.wait().success());
    eventually("the successor ends", || !lives(successor));
}

#[test]
fn first_process_survives_an_ended_second() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    let mut kept = gate.connect();
    assert_eq!(kept.request("GET", "/nope", "", b"").status, 404);
    installed.replace();
    reload(&gate, SERVES);
    let second = installed.successor(&gate);
    installed.replace();
    kill(second, Signal::SIGHUP).unwrap();
    eventually("a third serves", || gate.stderr().matches(SERVES).count() == 2);
    installed.successor(&gate);
    eventually("the second has nobody left", || !lives(second));
    assert_eq!(kept.request("GET", "/nope", "", b"").status, 404);
    assert!(gate.wait().success());
}

#[test]
fn the_pid_file_names_the_successor() {
    let site = Site::pve();
    let port = free_port();
    let profile = site.own_profile(port);
    let mut installed = Installed::new(&site);
    let set = format!("listen.port={port}");
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, &profile, &[&set])));
    let pid_file = || fs::read_to_string(site.path("/run/pveproxy/pveproxy.pid")).unwrap_or_default();
    assert_eq!(pid_file().trim(), gate.pid().to_string());
    installed.replace();
    reload(&gate, SERVES);
    let successor = installed.successor(&gate);
    assert!(gate.wait().success());
    eventually("the successor has written it", || pid_file().trim() == successor.to_string());
}

/// A package's upgrade reloads as well, and must not bring back a configuration that locked all clients out.
#[test]
fn a_new_binary_waits_for_corrected_settings() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut gate = Nodegate::spawn(&mut installed.command(&Nodegate::prepared(&site, "pve", &[])));
    site.write(SETTINGS, "[acl]\npolicy = \"deny\"\n");
    let port = format!("listen.port={}", gate.port());
    let root = site.root().to_str().unwrap();
    let arguments = ["--root", root, "--set", &port, "reload", "pve", "--confirm", "1"];
    assert_eq!(Outcome::of(&mut command(&arguments)).code, 0);
    eventually("it is taken back", || gate.stderr().contains("reload reverted"));
    installed.replace();
    reload(&gate, "was reverted because the reload was not confirmed");
    assert_eq!(gate.get("/x", "").status, 404);
    site.write(SETTINGS, "");
    reload(&gate, "the successor serves");
    installed.successor(&gate);
    assert!(gate.wait().success());
    assert_eq!(gate.get("/x", "").status, 404);
}

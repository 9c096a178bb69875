//! Called by the name of the daemon whose place it takes, nodegate knows that daemon's verbs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::nodegate::{command, eventually};
use crate::support::{Outcome, Site};

const PID_FILE: &str = "/run/pveproxy/pveproxy.pid";

/// The product's own port, on a loopback address that no other test uses.
struct Machine {
    site: Site,
    address: Ipv4Addr,
}

impl Machine {
    fn new(number: u8) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        Self { site: Site::pve(), address: Ipv4Addr::new(127, 100 + number, high, low.max(1)) }
    }

    fn command(&self, name: &str, verb: &[&str]) -> Command {
        let address = format!("listen.address={}", self.address);
        let backend = format!("backend.address={}", self.site.daemon.address());
        let root = self.site.root().to_str().unwrap();
        let mut arguments = verb.to_vec();
        arguments.extend(["--root", root, "--set", &address, "--set", &backend, "--set", "node.name=node1"]);
        let mut command = command(&arguments);
        command.arg0(name);
        command
    }

    fn ask(&self, verb: &[&str]) -> Outcome {
        Outcome::of(&mut self.command("/usr/bin/pveproxy", verb))
    }

    fn serves(&self) -> bool {
        TcpStream::connect(SocketAddr::from((self.address, 8006))).is_ok()
    }

    fn pid(&self) -> Option<Pid> {
        fs::read_to_string(self.site.path(PID_FILE)).ok()?.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|_| self.serves()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn a_daemons_verbs_start_reload_and_stop_it() {
    let machine = Machine::new(1);
    let status = machine.ask(&["status"]);
    assert_eq!((status.code, status.stdout.as_str()), (0, "stopped\n"));
    assert_eq!(machine.ask(&["stop"]).code, 0, "what does not run is stopped");

    let start = machine.ask(&["start"]);
    assert_eq!(start.code, 0, "{start:?}");
    assert!(machine.serves(), "it serves once `start` returns");
    let pid = machine.pid().unwrap();
    let status = machine.ask(&["status"]);
    assert_eq!((status.code, status.stdout.as_str()), (0, "running\n"));
    let again = machine.ask(&["start"]);
    assert_eq!(again.code, 1);
    again.complains(&format!("already running (pid {pid})"));

    let log = machine.site.path("/var/log/pveproxy/access.log");
    eventually("the log is open", || log.exists());
    fs::remove_file(&log).unwrap();
    assert_eq!(machine.ask(&["restart"]).code, 0);
    eventually("it has reloaded", || log.exists());
    assert_eq!(machine.pid(), Some(pid), "a reload keeps the process");

    assert_eq!(machine.ask(&["stop"]).code, 0);
    assert!(!machine.serves() && machine.pid().is_none(), "`stop` waits for the end");
    assert_eq!(machine.ask(&["status"]).stdout, "stopped\n");
}

#[test]
fn restart_starts_what_does_not_run() {
    let machine = Machine::new(2);
    assert_eq!(machine.ask(&["restart"]).code, 0);
    assert!(machine.serves());
    assert_eq!(machine.ask(&["stop"]).code, 0);
}

#[test]
fn a_failed_start_reports_its_reason() {
    let machine = Machine::new(3);
    machine.site.legacy("CIPHERS=rubbish\n");
    let start = machine.ask(&["start"]);
    assert_eq!(start.code, 1);
    let place = machine.site.path("/etc/default/pveproxy");
    let reason = format!("{}:1: ", place.display());
    assert!(start.stderr.lines().any(|line| line.starts_with(&reason)), "{start:?}");
    assert!(!machine.serves());
}

#[test]
fn start_with_debug_stays_in_the_foreground() {
    let machine = Machine::new(4);
    let mut child = machine.command("pveproxy", &["start", "--debug"]).spawn().unwrap();
    eventually("it serves", || machine.serves());
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    eventually("its pid file is written", || machine.pid() == Some(pid));
    assert_eq!(machine.ask(&["stop"]).code, 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reused_pid_does_not_count_as_running() {
    let machine = Machine::new(5);
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    machine.site.write(PID_FILE, format!("{}\n", sleeper.id()));
    assert_eq!(machine.ask(&["status"]).stdout, "stopped\n");
    assert_eq!(machine.ask(&["stop"]).code, 0);
    assert!(sleeper.try_wait().unwrap().is_none(), "it was left alone");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    fs::remove_file(machine.site.path(PID_FILE)).unwrap();
}

#[test]
fn every_daemon_of_the_profiles_is_a_name() {
    let site = Site::pmg();
    for (name, known) in
        [("pmgproxy", true), ("spiceproxy", true), ("/usr/sbin/pveproxy", true), ("other", false)]
    {
        let mut command = command(&["--root", site.root().to_str().unwrap(), "status"]);
        let outcome = Outcome::of(command.arg0(name));
        assert_eq!(outcome.stdout == "stopped\n", known, "{name}: {outcome:?}");
    }
    let mut help = command(&["help"]);
    let help = Outcome::of(help.arg0("pmgproxy"));
    assert_eq!(help.code, 0);
    for verb in ["start", "stop", "restart", "status", "help"] {
        assert!(help.stdout.contains(verb), "{help:?}");
    }
}

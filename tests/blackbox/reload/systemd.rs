//! Notifications to systemd, and sockets from it.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::upgrade::Installed;
use super::{SETTINGS, reload};
use crate::support::nodegate::{TIMEOUT, eventually, free_port};
use crate::support::{Nodegate, Session, Site, require};

/// Stands in for systemd's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(site: &Site, command: &mut Command) -> Self {
        let path = site.path("/run/notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self { socket, heard: Vec::new() }
    }

    /// Waits for a line, and takes everything up to it away.
    fn hears(&mut self, begins: &str) -> String {
        loop {
            while !self.heard.is_empty() {
                let line = self.heard.remove(0);
                if line.starts_with(begins) {
                    return line;
                }
            }
            let mut text = [0; 4096];
            let length = self.socket.recv(&mut text).unwrap();
            let text = String::from_utf8_lossy(&text[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }
}

#[test]
fn systemd_hears_of_a_reload_and_its_end() {
    let site = Site::pve();
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let mut manager = Manager::new(&site, &mut command);
    let gate = Nodegate::spawn(&mut command);
    manager.hears("READY=1");
    for settings in ["workers = 2\n", "rubbish"] {
        site.write(SETTINGS, settings);
        gate.signal(Signal::SIGHUP);
        manager.hears("RELOADING=1");
        let since: u64 = manager.hears("MONOTONIC_USEC=").split('=').nth(1).unwrap().parse().unwrap();
        assert!(since > 0);
        manager.hears("READY=1");
    }
    gate.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1");
}

#[test]
fn the_status_line_shows_connections() {
    let site = Site::pve();
    let mut command = Nodegate::prepared(&site, "pve", &[]);
    let mut manager = Manager::new(&site, &mut command);
    let gate = Nodegate::spawn(&mut command);
    assert_eq!(manager.hears("STATUS="), "STATUS=0 connections, 0 consoles, 0 tunnels");
    let mut kept = gate.connect();
    assert_eq!(kept.request("GET", "/nope", "", b"").status, 404);
    assert_eq!(manager.hears("STATUS="), "STATUS=1 connections, 0 consoles, 0 tunnels");
}

#[test]
fn the_watchdog_needs_every_worker() {
    let site = Site::pve();
    let mut command = Nodegate::prepared(&site, "pve", &["workers=2"]);
    let mut manager = Manager::new(&site, &mut command);
    let gate = Nodegate::spawn(command.env("WATCHDOG_USEC", "1000000"));
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    let worker = worker(&gate, "worker-1");
    stop(&gate, worker);
    eventually("the main thread has noticed", || {
        gate.stderr().contains("a worker does not respond worker=\"worker-1\"")
    });
    manager.heard.clear();
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut text = [0; 4096];
    while let Ok(length) = manager.socket.recv(&mut text) {
        let text = String::from_utf8_lossy(&text[..length]);
        assert!(!text.contains("WATCHDOG=1"), "{text}");
    }
}

fn worker(gate: &Nodegate, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let named = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let path = tasks.map(|task| task.unwrap().path()).find(|path| named(path)).unwrap();
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Holds only one thread, as a debugger does, until the test ends.
fn stop(gate: &Nodegate, thread: i32) {
    let (reported, done) = std::sync::mpsc::channel();
    let pid = gate.pid();
    std::thread::spawn(move || {
        let thread = nix::unistd::Pid::from_raw(thread);
        nix::sys::ptrace::seize(thread, nix::sys::ptrace::Options::empty()).unwrap();
        nix::sys::ptrace::interrupt(thread).unwrap();
        nix::sys::wait::waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        reported.send(()).unwrap();
        // The tracer must live: its end would let the thread go.
        while std::path::Path::new(&format!("/proc/{pid}/exe")).exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    done.recv_timeout(TIMEOUT).unwrap();
}

#[test]
fn the_successor_becomes_the_main_process() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let mut command = installed.command(&Nodegate::prepared(&site, "pve", &[]));
    let mut manager = Manager::new(&site, &mut command);
    // The watchdog is for the process that systemd has started; the successor must answer as well.
    let mut gate = Nodegate::spawn(command.env("WATCHDOG_USEC", "1000000"));
    manager.hears("READY=1");
    installed.replace();
    gate.signal(Signal::SIGHUP);
    manager.hears("RELOADING=1");
    let main = manager.hears("MAINPID=");
    manager.hears("READY=1");
    let successor = installed.successor(&gate);
    assert_eq!(main, format!("MAINPID={successor}"));
    assert!(gate.wait().success());
    manager.hears("WATCHDOG=1");
    assert_eq!(gate.get("/nope", "").status, 404);
}

/// Runs the command with these sockets as `sd_listen_fds(3)` describes it.
fn activate(command: &mut Command, sockets: &[&TcpListener]) -> Nodegate {
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
    // A shell knows its own pid, and keeps it for what it becomes.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    shell.env("LISTEN_FDS", sockets.len().to_string());
    for name in ["NODEGATE_ALLOW_SKIP", "NODEGATE_UPDATE_DOCS"] {
        shell.env_remove(name);
    }
    // SAFETY: dup(2) and dup2(2) may be called between fork and exec.
    unsafe {
        shell.pre_exec(move || {
            let copies: Vec<_> = descriptors.iter().map(|fd| nix::libc::dup(*fd)).collect();
            let high: Vec<_> =
                copies.iter().map(|fd| nix::libc::fcntl(*fd, nix::libc::F_DUPFD, 100)).collect();
            for (number, fd) in (3..).zip(high) {
                nix::libc::dup2(fd, number);
            }
            Ok(())
        });
    }
    Nodegate::spawn(&mut shell)
}

#[test]
fn systemd_sockets_survive_an_upgrade() {
    let site = Site::pve();
    let mut installed = Installed::new(&site);
    let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.2:0").unwrap()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut command = installed.command(&Nodegate::prepared(&site, "pve", &[]));
    let mut gate = activate(&mut command, &[&sockets[0], &sockets[1]]);
    let answer = || {
        addresses.map(|address| Session::try_tls(address).unwrap().request("GET", "/nope", "", b"").status)
    };
    assert_eq!(answer(), [404, 404]);
    reload(&gate, "reloaded changed");
    assert_eq!(answer(), [404, 404]);
    installed.replace();
    reload(&gate, "the successor serves");
    let _ = installed.successor(&gate);
    assert!(gate.wait().success());
    drop(sockets);
    assert_eq!(answer(), [404, 404]);
}

#[test]
fn listeners_beside_systemd_sockets_keep_rules() {
    let site = Site::pve();
    let port = free_port();
    let table = format!(
        "[[listener]]\nname = \"closed\"\naddress = \"127.0.0.1\"\nport = {port}\ndeny_from = \"127.0.0.1\"\n"
    );
    site.write(SETTINGS, table);
    let mut installed = Installed::new(&site);
    let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.2:0").unwrap()];
    let [one, two] = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut command = installed.command(&Nodegate::prepared(&site, "pve", &[]));
    let mut gate = activate(&mut command, &[&sockets[0], &sockets[1]]);
    let closed = gate.listener("closed");
    assert_eq!(closed.port(), port);
    let served = || [one, two, closed].map(|address| Session::try_tls(address).is_ok());
    assert_eq!(served(), [true, true, false]);
    reload(&gate, "reloaded changed");
    assert_eq!(served(), [true, true, false]);
    installed.replace();
    reload(&gate, "the successor serves");
    let _ = installed.successor(&gate);
    assert!(gate.wait().success());
    drop(sockets);
    assert_eq!(served(), [true, true, false]);
}

#[test]
fn systemd_itself_hands_over_a_socket() {
    let tool = "/usr/bin/systemd-socket-activate";
    if !require(std::path::Path::new(tool).exists(), tool) {
        return;
    }
    let site = Site::pve();
    let port = crate::support::nodegate::free_port();
    let prepared = Nodegate::prepared(&site, "pve", &[]);
    let mut command = Command::new(tool);
    command.args(["-l", &format!("127.0.0.1:{port}")]).arg(prepared.get_program()).args(prepared.get_args());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // It starts the program with the first connection, which waits so long.
    let first = std::thread::spawn(move || {
        let mut session = None;
        eventually("somebody listens", || {
            session = Session::try_tls(address).ok();
            session.is_some()
        });
        session.unwrap().request("GET", "/nope", "", b"").status
    });
    let gate = Nodegate::spawn(&mut command);
    assert_eq!(first.join().unwrap(), 404);
    assert_eq!(gate.port(), port);
}

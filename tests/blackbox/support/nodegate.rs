//! The real binary as a child process.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::http::{Reply, Session};
use super::site::Site;

/// Generous: these machines are slow and noisy.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A running nodegate; killed when dropped.
pub struct Nodegate {
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<String>>,
}

/// The binary, without the environment's own settings.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodegate"));
    command.args(arguments);
    for (name, _) in std::env::vars() {
        if name.starts_with("NODEGATE_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
}

impl Nodegate {
    /// Serves the site's profile on a free loopback port, with more settings as `KEY=VALUE`.
    pub fn start(site: &Site, sets: &[&str]) -> Self {
        Self::start_profile(site, site.profile(), sets)
    }

    pub fn start_profile(site: &Site, profile: &str, sets: &[&str]) -> Self {
        let mut command = Self::prepared(site, profile, sets);
        Self::spawn(&mut command)
    }

    /// The command that `start` would run, for tests that change more about it.
    pub fn prepared(site: &Site, profile: &str, sets: &[&str]) -> Command {
        let mut command = command(&["--root", site.root().to_str().unwrap(), "--debug", "run", profile]);
        let backend = format!("backend.address={}", site.daemon.address());
        let own = ["listen.port=0", "node.name=node1", backend.as_str()];
        let listens = sets.iter().any(|set| set.starts_with("listen.address="));
        let legacy = site.path("/etc/default/pveproxy");
        let legacy = std::fs::read_to_string(legacy).unwrap_or_default().contains("LISTEN_IP");
        let loopback = ["listen.address=127.0.0.1"];
        let loopback = if listens || legacy { &loopback[..0] } else { &loopback[..] };
        for set in own.iter().chain(loopback).chain(sets) {
            command.args(["--set", set]);
        }
        command
    }

    /// Starts a prepared command and waits until it listens.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let pipe = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                let mut text = collected.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        // Already owned while it is waited for, so that a panic ends it.
        let mut gate = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), stderr };
        gate.address = wait_for(&gate.stderr, &mut gate.child);
        gate
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/PID/status` (proc(5)): `VmRSS`, `VmHWM`, `RssFile`.
    pub fn kilobytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// All that was logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A TLS session to the listening port.
    pub fn connect(&self) -> Session {
        Session::tls(self.local())
    }

    /// Where the `[[listener]]` of that name listens, as the log said it last.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let start = format!("listener '{name}' on ");
        let said =
            |log: &str| log.lines().rev().find_map(|line| line.split(&start).nth(1)?.trim().parse().ok());
        eventually(&start, || said(&self.stderr()).is_some());
        said(&self.stderr()).unwrap()
    }

    /// The loopback address to reach it on, wherever it listens.
    pub fn local(&self) -> SocketAddr {
        let ip = self.address.ip();
        let ip = if ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { ip };
        SocketAddr::new(ip, self.port())
    }

    /// One request on a new connection; `headers` are whole lines with `\r\n`.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.connect().request(method, path, headers, body)
    }

    pub fn get(&self, path: &str, headers: &str) -> Reply {
        self.request("GET", path, headers, b"")
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "nodegate does not end:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Nodegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.stderr();
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("the last that nodegate logged, newest first:\n{}", lines.join("\n"));
        }
    }
}

fn wait_for(stderr: &Mutex<String>, child: &mut Child) -> SocketAddr {
    let until = Instant::now() + TIMEOUT;
    loop {
        let text = stderr.lock().unwrap().clone();
        let address = |line: &str| line.split("listening on ").nth(1)?.trim().parse().ok();
        if let Some(address) = text.lines().find_map(address) {
            return address;
        }
        if let Some(status) = child.try_wait().unwrap() {
            std::thread::sleep(Duration::from_millis(50));
            panic!("nodegate ended with {status}:\n{}", stderr.lock().unwrap());
        }
        assert!(Instant::now() < until, "nodegate does not listen:\n{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a look at a file that every request needs is no longer good: a refusal may come that late.
pub fn wait_for_next_poll() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Ports below the range that the system gives out by itself, in blocks: a process holds those that it gives out.
const FIRST_PORT: u16 = 20_000;
const PORTS_OF_BLOCK: u16 = 500;
const BLOCKS: u16 = 24;

/// A block of ports that belongs to this process while it runs. A UDP socket on its first port marks it for others.
struct PortBlock {
    _held: UdpSocket,
    ports: std::ops::Range<u16>,
}

impl PortBlock {
    fn take() -> Self {
        let begin = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap();
        let blocks = (0..BLOCKS).map(|step| FIRST_PORT + (begin + step) % BLOCKS * PORTS_OF_BLOCK);
        let held = |first| Some((UdpSocket::bind((Ipv4Addr::LOCALHOST, first)).ok()?, first));
        let (held, first) = blocks.into_iter().find_map(held).expect("no block of ports is left");
        Self { _held: held, ports: first..first + PORTS_OF_BLOCK }
    }
}

/// A free port, given out once. The system does not give it out by itself, nor does another process of these tests: a
/// proxy that shares its ports would get half of its connections.
pub fn free_port() -> u16 {
    static BLOCKS_HELD: Mutex<Vec<PortBlock>> = Mutex::new(Vec::new());
    let mut held = BLOCKS_HELD.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(block) = held.last_mut() {
            let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
            if let Some(port) = block.ports.find(free) {
                return port;
            }
        }
        held.push(PortBlock::take());
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

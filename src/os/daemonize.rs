//! Starts a detached copy of this program: in its own session, with closed standard streams.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, setsid};

use crate::config::ConfigSources;

/// Longer than any start takes.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub enum StartOutcome {
    Serves,
    /// its stderr has the reason
    Ended(ExitStatus),
    TooSlow,
}

/// Runs `nodegate run PROFILE` and waits until `serves`. Its stderr until then goes to our stderr.
pub fn run(profile: &str, options: &ConfigSources, serves: impl Fn(Pid) -> bool) -> io::Result<StartOutcome> {
    let mut child = spawn(profile, options)?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let relay = child.stderr.take().map(relay);
    let until = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            let _ = relay.map(JoinHandle::join);
            return Ok(StartOutcome::Ended(status));
        }
        if serves(pid) {
            return Ok(StartOutcome::Serves);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(StartOutcome::TooSlow);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn spawn(profile: &str, options: &ConfigSources) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    // The meaning of the arguments depends on the program's name.
    command.arg0(env!("CARGO_PKG_NAME"));
    command.arg("--root").arg(std::path::absolute(options.root.directory())?);
    for set in &options.sets {
        command.args(["--set", set]);
    }
    command.args(["run", "--background", profile]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: setsid(2) is all that happens between fork and exec; it may be called there and allocates nothing.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
    command.spawn()
}

fn relay(from: ChildStderr) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = writeln!(io::stderr(), "{line}");
        }
    })
}

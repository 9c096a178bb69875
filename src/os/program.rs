//! Another program that runs to its end: with a deadline, with bounded output and memory, and on request as another user.

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{CLOSE_RANGE_CLOEXEC, SYS_close_range, c_uint, syscall};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, setsid};
use rustix::thread::set_no_new_privs;
use tokio::signal::unix::{SignalKind, signal};

/// Interval between two checks whether a program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const MAX_ERROR_BYTES: u64 = 1 << 16;
/// After stdin, stdout and stderr.
const FIRST_OTHER_DESCRIPTOR: c_uint = 3;

/// The limits of a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramLimits {
    pub time: Duration,
    pub output_bytes: u64,
    /// address space of each of its processes
    pub memory_bytes: Option<u64>,
}

/// Ends the process group of a program if a signal ends this process: the program has a session of its own, so Ctrl-C
/// reaches only this process.
pub struct InterruptWatch {
    group: Arc<Mutex<Option<Pid>>>,
}

/// The end of a program.
#[derive(Debug)]
pub struct ProgramOutput {
    pub status: ExitStatus,
    /// at most so many bytes as the limit says
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// it wrote more than the limit
    pub is_truncated: bool,
}

/// Why there is no output.
#[derive(Debug)]
pub enum ProgramError {
    /// it cannot be started
    NotStarted(io::Error),
    TooSlow,
}

/// Makes the program run as another user: with that user's group, without further groups, and without a way to gain
/// privileges.
pub fn run_as(command: &mut Command, user: &User) {
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
}

impl InterruptWatch {
    /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of this process.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(entered);
        let group = Arc::new(Mutex::new(None));
        let watched = Arc::clone(&group);
        thread::spawn(move || {
            let kind = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = hangup.recv() => SignalKind::hangup(),
                }
            });
            let group = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(group) = *group {
                let _ = killpg(group, Signal::SIGKILL);
            }
            // As a shell reports a process that the signal ended.
            std::process::exit(128 + kind.as_raw_value());
        });
        Ok(Self { group })
    }

    /// Runs a program as `run` does.
    ///
    /// # Errors
    /// The program cannot be started, or is too slow.
    pub fn run(
        &self,
        command: &mut Command,
        input: String,
        limits: ProgramLimits,
    ) -> Result<ProgramOutput, ProgramError> {
        run_watched(command, input, limits, &self.group)
    }
}

/// Runs a program with this text on stdin. At the deadline its process group is killed.
///
/// # Errors
/// The program cannot be started, or is too slow.
pub fn run(
    command: &mut Command,
    input: String,
    limits: ProgramLimits,
) -> Result<ProgramOutput, ProgramError> {
    run_watched(command, input, limits, &Mutex::new(None))
}

fn run_watched(
    command: &mut Command,
    input: String,
    limits: ProgramLimits,
    watched: &Mutex<Option<Pid>>,
) -> Result<ProgramOutput, ProgramError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    isolate(command, limits.memory_bytes);
    let until = Instant::now() + limits.time;
    let mut child = {
        // A signal that comes now waits until the group is known.
        let mut group = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let child = spawn(command).map_err(ProgramError::NotStarted)?;
        *group = i32::try_from(child.id()).ok().map(Pid::from_raw);
        child
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early does not read all.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let stdout = child.stdout.take().map(|pipe| collect(pipe, limits.output_bytes));
    let stderr = child.stderr.take().map(|pipe| collect(pipe, MAX_ERROR_BYTES));
    let ended = wait(&mut child, until);
    // Also ends what the program started in its group: it may hold the pipes.
    if let Some(group) = watched.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = killpg(group, Signal::SIGKILL);
    }
    let Some(status) = ended else {
        let _ = child.wait();
        return Err(ProgramError::TooSlow);
    };
    let (stdout, is_truncated) = take(stdout, until)?;
    let (stderr, _) = take(stderr, until)?;
    Ok(ProgramOutput { status, stdout, stderr, is_truncated })
}

/// Gives the program a session: it leads a process group, and has no terminal. On the terminal of root a program of
/// another user could type commands. Of the descriptors, which root's shell may have opened, it gets only its pipes.
fn isolate(command: &mut Command, memory_bytes: Option<u64>) {
    let detach = move || {
        setsid()?;
        if let Some(bytes) = memory_bytes {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        // SAFETY: the call only marks descriptors of this process. Kernels before 5.11 refuse it.
        unsafe { syscall(SYS_close_range, FIRST_OTHER_DESCRIPTOR, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
        Ok(())
    };
    // SAFETY: only system calls happen between fork and exec; they may be called there and allocate nothing.
    unsafe { command.pre_exec(detach) };
}

/// The kernel keeps the ban on new privileges by thread, and a child inherits it.
fn spawn(command: &mut Command) -> io::Result<Child> {
    thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            set_no_new_privs(true)?;
            command.spawn()
        });
        spawner.join().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
    })
}

fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(POLL_INTERVAL),
            Ok(None) | Err(_) => return None,
        }
    }
}

type Collected = (Vec<u8>, bool);

/// Reads a pipe in a thread, so that a full pipe does not stop the program. Beyond the limit the pipe is closed.
fn collect(pipe: impl Read + Send + 'static, limit: u64) -> Receiver<Collected> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_truncated = bytes.len() > limit;
        bytes.truncate(limit);
        let _ = sender.send((bytes, is_truncated));
    });
    receiver
}

/// A process in another group may still hold the pipe.
fn take(receiver: Option<Receiver<Collected>>, until: Instant) -> Result<Collected, ProgramError> {
    let Some(receiver) = receiver else { return Ok(Collected::default()) };
    let left = until.saturating_duration_since(Instant::now());
    receiver.recv_timeout(left).map_err(|_| ProgramError::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ProgramLimits =
        ProgramLimits { time: Duration::from_secs(20), output_bytes: 8, memory_bytes: None };

    fn sh(script: &str, limits: ProgramLimits) -> Result<ProgramOutput, ProgramError> {
        let mut command = Command::new("sh");
        command.args(["-s", "argument"]);
        run(&mut command, script.to_owned(), limits)
    }

    #[test]
    fn a_program_reads_its_script_from_stdin() {
        let output =
            sh("echo $1x; echo b >&2; exit 3", ProgramLimits { output_bytes: 100, ..LIMITS }).unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"argumentx\n"[..], &b"b\n"[..]));
        assert_eq!((output.status.code(), output.is_truncated), (Some(3), false));
    }

    #[test]
    fn endless_output_is_cut() {
        let output = sh("exec yes", LIMITS).unwrap();
        assert_eq!((output.stdout.as_slice(), output.is_truncated), (&b"y\ny\ny\ny\n"[..], true));
    }

    #[test]
    fn slow_programs_end_with_their_children() {
        let short = ProgramLimits { time: Duration::from_millis(300), ..LIMITS };
        assert!(matches!(sh("sleep 61 & sleep 61", short), Err(ProgramError::TooSlow)));
        let started = Instant::now();
        let output = sh("sleep 62 & echo a", LIMITS).unwrap();
        assert_eq!(output.stdout, b"a\n");
        assert!(started.elapsed() < Duration::from_secs(15), "a child that holds the pipe is ended");
        let missing = run(&mut Command::new("/nonexistent/program"), String::new(), LIMITS);
        assert!(matches!(missing, Err(ProgramError::NotStarted(_))));
    }

    #[test]
    fn memory_is_limited() {
        let limits = ProgramLimits { output_bytes: 100, memory_bytes: Some(1 << 28), ..LIMITS };
        assert_eq!(sh("ulimit -v", limits).unwrap().stdout, b"262144\n");
    }

    /// Neither the terminal of root nor a file that its shell has opened.
    #[test]
    fn programs_have_only_their_pipes() {
        let file = tempfile::tempfile().unwrap();
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let script = "cut -d ' ' -f 1,6 /proc/self/stat; echo $$; ls /proc/$$/fd; exec 9</dev/tty";
        let output = sh(script, ProgramLimits { output_bytes: 100, ..LIMITS }).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (session, own) = (lines[0].split(' ').next_back().unwrap(), lines[1]);
        assert_eq!((session, &lines[2..]), (own, &["0", "1", "2"][..]));
        assert!(!output.status.success(), "there is no terminal");
    }

    #[test]
    fn programs_cannot_gain_privileges() {
        let own = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("NoNewPrivs:")).map(str::to_owned)
        };
        let before = own();
        let output = sh("grep NoNewPrivs /proc/self/status", ProgramLimits { output_bytes: 100, ..LIMITS });
        assert_eq!(output.unwrap().stdout, b"NoNewPrivs:\t1\n");
        assert!(before.is_some() && own() == before, "this thread is not affected");
    }
}

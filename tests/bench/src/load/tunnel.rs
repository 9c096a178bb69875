//! Tunnels: bulk and echo through CONNECT, or through a plain TCP proxy.
//!
//! The sender has the kernel send pages of one small file (`sendfile`). The reader lets the kernel throw the bytes
//! away (`MSG_TRUNC`), and wakes up for many of them at once: the generator must cost much less than the proxy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc::{SO_RCVLOWAT, SOL_SOCKET, c_int, setsockopt, socklen_t};
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, recv};

use super::process;

/// Of one write.
const PIECE: usize = 256 << 10;
/// The reader wakes up for as many bytes.
static AT_ONCE: c_int = 256 << 10;
const MESSAGE: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the clock starts: congestion and receive windows grow.
const WARM_UP: Duration = Duration::from_millis(300);

/// A way through a proxy to a machine of ours.
pub(crate) struct Path<'a> {
    pub(crate) proxy: SocketAddr,
    /// Target of a CONNECT request; none for a proxy of bare TCP.
    pub(crate) connect: Option<&'a str>,
    /// Where the proxy connects to.
    pub(crate) machine: &'a TcpListener,
    /// The proxy's process, for its CPU time.
    pub(crate) pid: Option<u32>,
}

/// The end that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToViewer,
    ToMachine,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    pub(crate) bytes_per_second: f64,
    /// Of the proxy, for 10^9 bytes.
    pub(crate) cpu_seconds_per_gigabyte: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

impl Latency {
    pub(crate) fn of(mut samples: Vec<Duration>) -> Result<Self> {
        samples.sort_unstable();
        let at = |percent: usize| {
            samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1)))
        };
        let (p50, p99) = at(50).zip(at(99)).context("no samples")?;
        Ok(Self { p50: *p50, p99: *p99 })
    }
}

/// The two ends: the viewer's, the machine's.
pub(crate) fn open(path: &Path<'_>) -> Result<(TcpStream, TcpStream)> {
    let mut viewer = TcpStream::connect(path.proxy)?;
    prepare(&viewer)?;
    if let Some(target) = path.connect {
        write!(viewer, "CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n")?;
        read_head(&mut viewer, " 200 ")?;
    }
    let (machine, _) = path.machine.accept()?;
    prepare(&machine)?;
    Ok((viewer, machine))
}

pub(super) fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(())
}

/// An answer's head, to its empty line and not further.
pub(super) fn read_head(stream: &mut impl std::io::Read, status: &str) -> Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).with_context(|| String::from_utf8_lossy(&head).into_owned())?;
        head.extend_from_slice(&byte);
        ensure!(head.len() < 16 << 10, "an endless head");
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.lines().next().is_some_and(|line| line.contains(status)), "refused: {head}");
    Ok(())
}

/// As many bytes as go through.
pub(crate) fn bulk(path: &Path<'_>, direction: Direction, duration: Duration) -> Result<Bulk> {
    let (viewer, machine) = open(path)?;
    let (source, sink) = match direction {
        Direction::ToViewer => (machine, viewer),
        Direction::ToMachine => (viewer, machine),
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&source, &ended));
        let measured = measure(path.pid, duration, &mut |until| discard(&sink, until));
        ended.store(true, Ordering::Relaxed);
        // Waiting clients are let go.
        let _ = sink.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
        joined(sending)?;
        measured
    })
}

/// The state of the thread that sends.
pub(super) fn joined(sending: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    sending.join().unwrap_or_else(|_| bail!("the sender has panicked"))
}

/// The bytes that `take` returns as taken until an instant, and the proxy's cost for them.
pub(super) fn measure(
    pid: Option<u32>,
    duration: Duration,
    take: &mut dyn FnMut(Instant) -> Result<u64>,
) -> Result<Bulk> {
    take(Instant::now() + WARM_UP)?;
    let cpu = || pid.map(process::cpu_seconds).transpose();
    let (cpu_before, before) = (cpu()?, Instant::now());
    let bytes = take(before + duration)?;
    let (elapsed, cpu_after) = (before.elapsed(), cpu()?);
    let gigabytes = as_float(bytes) / 1e9;
    Ok(Bulk {
        bytes_per_second: as_float(bytes) / elapsed.as_secs_f64(),
        cpu_seconds_per_gigabyte: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| (after - before) / gigabytes),
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a measurement has fewer digits")]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}

pub(super) fn send(source: &TcpStream, ended: &AtomicBool) -> Result<()> {
    let mut pages = tempfile::tempfile()?;
    pages.write_all(&vec![0x5a; PIECE])?;
    while !ended.load(Ordering::Relaxed) {
        match sendfile64(source, &pages, Some(&mut 0), PIECE) {
            Ok(_) | Err(Errno::EINTR) => {}
            // The other end has shut down.
            Err(_) => break,
        }
    }
    Ok(())
}

fn wake_for_many(sink: &TcpStream) -> Result<()> {
    let length = socklen_t::try_from(size_of_val(&AT_ONCE))?;
    // SAFETY: the option takes an int (socket(7)), which lives as long as the program.
    let set =
        unsafe { setsockopt(sink.as_raw_fd(), SOL_SOCKET, SO_RCVLOWAT, (&raw const AT_ONCE).cast(), length) };
    Errno::result(set)?;
    Ok(())
}

/// Counts what comes; the bytes themselves never leave the kernel.
pub(super) fn discard(sink: &TcpStream, until: Instant) -> Result<u64> {
    wake_for_many(sink)?;
    let mut buffer = vec![0; 1 << 20];
    let mut taken = 0;
    while Instant::now() < until {
        match recv(sink.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
            Ok(0) => bail!("the tunnel has ended"),
            Ok(length) => taken += u64::try_from(length)?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// One small message there and back, again and again. One thread is both ends, so it never wakes another.
pub(crate) fn echo(path: &Path<'_>, rounds: usize) -> Result<Latency> {
    let (mut viewer, mut machine) = open(path)?;
    let mut message = [0x5a; MESSAGE];
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let before = Instant::now();
        viewer.write_all(&message)?;
        machine.read_exact(&mut message)?;
        machine.write_all(&message)?;
        viewer.read_exact(&mut message)?;
        samples.push(before.elapsed());
    }
    Latency::of(samples)
}

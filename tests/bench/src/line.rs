//! A long line: a second network that this one reaches through two TUN devices, whose packets arrive after a delay.
//! TCP on it is the kernel's, with its handshakes, windows and slow start. (`netem` does the same where a kernel has
//! it.)

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc::{IFF_NO_PI, IFF_TUN, TUNSETIFF, c_short, ifreq, ioctl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

use crate::network;

/// The address of the proxies on the line.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// How often a pump looks whether the line has ended.
const TICK: u16 = 50;
/// Packets that wait in a device, so that none is lost while a pump does not run.
const QUEUE: &str = "20000";
const LARGEST_PACKET: usize = 64 << 10;

/// It ends when this is dropped.
pub(crate) struct Line {
    /// The network at the far end.
    far: File,
    ended: Arc<AtomicBool>,
    pumps: Vec<JoinHandle<()>>,
}

impl Line {
    /// A line on which a packet takes half of `round_trip`.
    pub(crate) fn start(round_trip: Duration) -> Result<Self> {
        let near = device("bench-near", HERE)?;
        // A network belongs to the thread that enters it.
        let (far, network) = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("a second network needs root")?;
            network::prepare()?;
            let device = device("bench-far", THERE)?;
            anyhow::Ok((device, File::open("/proc/thread-self/ns/net")?))
        })
        .join()
        .map_err(|_| anyhow::anyhow!("the thread of the far network has panicked"))??;
        let mut line = Self { far: network, ended: Arc::default(), pumps: Vec::new() };
        for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
            line.pump(from, to, round_trip / 2);
        }
        Ok(line)
    }

    /// One thread takes packets from a device, and another one delivers each when its time has come.
    fn pump(&mut self, mut from: File, mut to: File, delay: Duration) {
        let (send, due) = mpsc::channel::<(Instant, Vec<u8>)>();
        let ended = Arc::clone(&self.ended);
        self.pumps.push(thread::spawn(move || {
            let mut buffer = vec![0; LARGEST_PACKET];
            while !ended.load(Ordering::Relaxed) {
                match from.read(&mut buffer) {
                    Ok(length) => {
                        let packet = buffer.get(..length).unwrap_or_default().to_vec();
                        let _ = send.send((Instant::now() + delay, packet));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        let wanted = PollFd::new(from.as_fd(), PollFlags::POLLIN);
                        let _ = poll(&mut [wanted], PollTimeout::from(TICK));
                    }
                    Err(_) => return,
                }
            }
        }));
        self.pumps.push(thread::spawn(move || {
            for (at, packet) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                // A device that is down or full drops packets, as a line does.
                let _ = to.write_all(&packet);
            }
        }));
    }

    /// Runs `work` at the far end. Sockets that it makes belong to the network there.
    pub(crate) fn at_the_far_end<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let working = scope.spawn(|| {
                setns(self.far.as_fd(), CloneFlags::CLONE_NEWNET).context("the far network")?;
                work()
            });
            working.join().unwrap_or_else(|_| bail!("the thread at the far end has panicked"))
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for pump in self.pumps.drain(..) {
            let _ = pump.join();
        }
    }
}

/// A TUN device of this thread's network, with packets as they are.
fn device(name: &str, address: Ipv4Addr) -> Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun").context("/dev/net/tun")?;
    // SAFETY: all bytes of this structure may be zero (netdevice(7)).
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = c_short::try_from(IFF_TUN | IFF_NO_PI)?;
    // SAFETY: the call reads and writes this structure, which lives until it returns (the kernel's tuntap.txt).
    Errno::result(unsafe { ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let range = format!("{address}/30");
    for arguments in
        [&["addr", "add", range.as_str(), "dev", name][..], &["link", "set", name, "txqueuelen", QUEUE, "up"]]
    {
        let status = Command::new("ip").args(arguments).status().context("ip (apt-get install iproute2)")?;
        ensure!(status.success(), "ip {arguments:?}: {status}");
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection takes a round trip, and so does an echo.
    #[test]
    fn a_line_delays_what_crosses_it() {
        let round_trip = Duration::from_millis(40);
        let took = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).context("the line needs root")?;
            network::prepare()?;
            let line = Line::start(round_trip)?;
            let listener = TcpListener::bind((HERE, 0))?;
            let address = listener.local_addr()?;
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            });
            line.at_the_far_end(|| {
                let before = Instant::now();
                let mut stream = TcpStream::connect(address)?;
                let connected = before.elapsed();
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0])?;
                Ok([connected, before.elapsed()])
            })
        });
        let [connected, echoed] = took.join().unwrap().unwrap();
        assert!(connected >= round_trip && echoed >= round_trip * 2, "{connected:?}, {echoed:?}");
        assert!(echoed < round_trip * 20, "{echoed:?}");
    }
}

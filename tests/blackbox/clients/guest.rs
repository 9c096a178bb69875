//! A virtual machine with a SPICE port: its guest echoes typed keys on the serial port.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nodegate_standin::{Certificate, KeyKind, now};
use serde_json::{Value, json};

use super::{missing, text};
use crate::support::nodegate::{TIMEOUT, eventually};
use crate::support::{Nodegate, Site};

pub const BANNER: &str = "guest ready>";
const PASSWORD: &str = "secret1";
const FLOPPY_BYTES: usize = 1_474_560;

/// Emulating one takes a core: several at once would keep each other from what they have time for.
static ALONE: Mutex<()> = Mutex::new(());

/// Killed when dropped.
pub struct Guest {
    _alone: MutexGuard<'static, ()>,
    qemu: Child,
    port: u16,
    folder: PathBuf,
    ca: String,
}

impl Guest {
    /// Starts it in this folder, and waits until it has said that it is ready.
    pub fn start(folder: &Path) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let ca = Certificate::ca();
        ca.issue("node1.example.com", &[], KeyKind::Rsa2048).write(folder, "machine");
        fs::write(folder.join("ca.pem"), ca.certificate_pem()).unwrap();
        fs::write(folder.join("guest.img"), floppy()).unwrap();
        let port = free_port();
        let qemu = qemu(folder, port);
        let mut guest =
            Self { _alone: alone, qemu, port, folder: folder.to_owned(), ca: ca.certificate_pem() };
        guest.allow_viewers();
        eventually("the guest is ready", || guest.heard().starts_with(BANNER));
        guest
    }

    /// All that came out of the serial port: the banner, then every key.
    pub fn heard(&self) -> String {
        text(&fs::read(self.folder.join("serial")).unwrap_or_default())
    }

    /// The typed keys.
    pub fn typed(&self) -> String {
        self.heard().strip_prefix(BANNER).unwrap_or_default().to_owned()
    }

    /// The file that the API gives a viewer, with a ticket made then.
    pub fn viewer_file(&self, site: &Site, gate: &Nodegate, made: i64) -> PathBuf {
        self.viewer_file_through(&format!("http://{}", gate.local()), site, made)
    }

    /// The same with another proxy in it.
    pub fn viewer_file_through(&self, proxy: &str, site: &Site, made: i64) -> PathBuf {
        let target = site.keys.spice_target("node1", 100, self.port, made);
        let host = target.strip_suffix(&format!(":{}", self.port)).unwrap();
        let file = format!(
            "[virt-viewer]\ntype=spice\ntitle=VM 100 - test\nsecure-attention=Ctrl+Alt+Ins\n\
             toggle-fullscreen=Shift+F11\nrelease-cursor=Ctrl+Alt+R\ndelete-this-file=0\n\
             host={host}\ntls-port={}\nproxy={proxy}\npassword={PASSWORD}\nca={}\n\
             host-subject=OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=node1.example.com\n",
            self.port,
            self.ca.replace('\n', "\\n"),
        );
        let path = self.folder.join(format!("{}.vv", now() - made));
        fs::write(&path, file).unwrap();
        path
    }

    fn allow_viewers(&mut self) {
        let mut monitor = Monitor::connect(&self.folder.join("monitor"), &mut self.qemu);
        monitor.run("qmp_capabilities", &json!({}));
        monitor.run("set_password", &json!({"protocol": "spice", "password": PASSWORD}));
        monitor.run("expire_password", &json!({"protocol": "spice", "time": "+300"}));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn qemu(folder: &Path, port: u16) -> Child {
    let spice = format!(
        "tls-port={port},addr=127.0.0.1,tls-ciphers=HIGH,seamless-migration=on,\
         x509-cacert-file=ca.pem,x509-cert-file=machine.pem,x509-key-file=machine.key"
    );
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "pc,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-vga", "qxl", "-monitor", "none", "-serial", "file:serial", "-boot", "a"])
        .args(["-drive", "file=guest.img,format=raw,if=floppy,readonly=on"])
        .args(["-qmp", "unix:monitor,server=on,wait=off", "-spice", &spice])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| missing(&command, &error))
}

/// From the far end: the tests with stand-ins for machines begin at the near one. QEMU binds it only later, so no two
/// guests of this process are given the same, and those of another process begin at another port.
fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 400).unwrap();
    let next = || 61_999 - (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % 400;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(next).take(400).find(free).unwrap()
}

/// QEMU's monitor protocol.
struct Monitor {
    stream: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Monitor {
    fn connect(path: &Path, qemu: &mut Child) -> Self {
        let until = Instant::now() + TIMEOUT;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "no monitor: {error}"),
            }
            if let Some(status) = qemu.try_wait().unwrap() {
                panic!("QEMU ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        Self { stream, lines }
    }

    fn run(&mut self, command: &str, arguments: &Value) {
        writeln!(self.stream, "{}", json!({"execute": command, "arguments": arguments})).unwrap();
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer.get("event").is_none() {
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                return;
            }
        }
    }
}

/// A floppy whose boot sector prints the banner, then every key, on the screen and on the serial port.
fn floppy() -> Vec<u8> {
    const START: &[u8] = &[
        0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, // ds = ss = 0, sp = 7C00
        0xB8, 0x03, 0x00, 0xCD, 0x10, // text mode
    ];
    const SAY: &[u8] = &[
        0xB4, 0x0E, 0xCD, 0x10, // al on the screen
        0xBA, 0xF8, 0x03, 0xEE, // and out of COM1
    ];
    // lodsb; or al, al; jz past the loop; say; jump back
    let print = [&[0xAC, 0x08, 0xC0, 0x74, 0x0A][..], SAY, &[0xEB, 0xF1]].concat();
    // read a key; say; jump back
    let echo = [&[0xB4, 0x00, 0xCD, 0x16][..], SAY, &[0xEB, 0xF2]].concat();
    let code_bytes = START.len() + 3 + print.len() + echo.len();
    let banner_at = u16::try_from(0x7C00 + code_bytes).unwrap().to_le_bytes();
    let load_banner = [&[0xBE][..], &banner_at].concat();
    let mut sector = [START, &load_banner, &print, &echo, BANNER.as_bytes(), b"\0"].concat();
    assert!(sector.len() <= 510);
    sector.resize(510, 0);
    sector.extend([0x55, 0xAA]);
    sector.resize(FLOPPY_BYTES, 0);
    sector
}

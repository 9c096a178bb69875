//! noVNC and xterm.js in Chromium, against QEMU's VNC and a stand-in for termproxy; all pages come from nodegate.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nodegate_standin::{Config, Daemon, Product};

use super::client::Console;
use crate::browser_headers;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const KEYS: &str = "typed keys";
const PASTE: usize = 1 << 20;

/// A site whose daemon says that its consoles are on that port.
fn site(port: u16) -> Site {
    let mut site = Site::pve();
    let keys = Arc::clone(&site.keys);
    site.daemon = Daemon::start(Config { keys, console_port: port, ..Config::new(Product::Pve) });
    site
}

/// With everything switched on that makes browsers careful.
fn start(site: &Site) -> Nodegate {
    start_with(site, &[])
}

fn start_with(site: &Site, sets: &[&str]) -> Nodegate {
    let gate = Nodegate::start(site, &[&["console.ping=1"], &browser_headers::ALL[..], sets].concat());
    let pages = ["/novnc/page.html", "/xtermjs/page.html"].map(|page| gate.get(page, ""));
    let page = pages.iter().find(|page| page.status == 200).unwrap();
    assert!(page.header("content-security-policy").is_some());
    gate
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Drives a page in Chromium; what the script says about it.
fn browse(site: &Site, gate: &Nodegate, kind: &str) -> serde_json::Value {
    let origin = format!("https://127.0.0.1:{}", gate.port());
    let csrf = site.keys.csrf("root@pam", nodegate_standin::now());
    let output = Command::new("node")
        .arg(here("tests/e2e/console/browser.mjs"))
        .args([kind, &origin, &site.ticket("root@pam"), &csrf, KEYS, &PASTE.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("nodejs is installed");
    let reported: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("the script ends with JSON");
    assert!(reported["error"].is_null(), "{reported:#}");
    reported
}

/// Copies a package's files below the root, where nodegate serves them.
fn install(site: &Site, package: &str, to: &str) {
    let target = site.path(to);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let from = here("target/browser/node_modules").join(package);
    assert!(from.exists(), "{package} is missing; `make test` installs what the tests need");
    assert!(Command::new("cp").arg("-rT").args([from, target]).status().unwrap().success());
}

fn page(site: &Site, name: &str, to: &str) {
    site.write(to, fs::read(here("tests/e2e/console").join(name)).unwrap());
}

#[test]
fn novnc_shows_a_guest_and_types_into_it() {
    let console = Console::listen();
    let port = console.port;
    drop(console);
    let site = site(port);
    install(&site, "@novnc/novnc", "/usr/share/novnc-pve");
    page(&site, "novnc.html", "/usr/share/novnc-pve/page.html");
    let gate = start(&site);
    let guest = Guest::start(&site, port);
    let reported = browse(&site, &gate, "novnc");
    assert_eq!(reported["events"][0], "connect");
    eventually("the guest got the keys", || guest.typed().contains(KEYS));
}

#[test]
fn xterm_types_and_pastes_a_megabyte() {
    let console = Console::listen();
    let site = site(console.port);
    install(&site, "@xterm/xterm/lib", "/usr/share/pve-xtermjs");
    install(&site, "@xterm/xterm/css/xterm.css", "/usr/share/pve-xtermjs/xterm.css");
    page(&site, "xterm.html", "/usr/share/pve-xtermjs/page.html");
    let gate = start(&site);
    let terminal = std::thread::spawn(move || termproxy(console.accept()));
    let reported = browse(&site, &gate, "xterm");
    assert_eq!(reported["events"], serde_json::json!(["ready", "close 1000"]));
    let (login, heard) = terminal.join().unwrap();
    assert!(login.starts_with("root@pam:PVEVNC:"));
    let line = "0123456789abcdef".repeat(PASTE / 16);
    assert_eq!(heard.len(), KEYS.len() + PASTE);
    assert!(heard == format!("{KEYS}{line}").as_bytes());
}

#[test]
fn http_2_browsers_open_consoles_over_http_1() {
    let console = Console::listen();
    let site = site(console.port);
    install(&site, "@xterm/xterm/lib", "/usr/share/pve-xtermjs");
    install(&site, "@xterm/xterm/css/xterm.css", "/usr/share/pve-xtermjs/xterm.css");
    page(&site, "xterm.html", "/usr/share/pve-xtermjs/page.html");
    let gate = start_with(&site, &["http2=true"]);
    let terminal = std::thread::spawn(move || termproxy(console.accept()));
    let reported = browse(&site, &gate, "xterm");
    assert_eq!(reported["events"], serde_json::json!(["ready", "close 1000"]));
    assert_eq!(terminal.join().unwrap().1.len(), KEYS.len() + PASTE);
    let has = |start: &str, end: &str| {
        site.access_log().lines().any(|line| line.contains(start) && line.contains(end))
    };
    eventually("the page came by HTTP/2", || has("\"GET /xtermjs/page.html", "HTTP/2.0\" 200"));
    eventually("the console was opened by HTTP/1.1", || has("vncwebsocket", "HTTP/1.1\" 101"));
}

/// Echoes what is typed; says how a paste ended instead of sending it back. The first line and all that was typed.
fn termproxy(stream: TcpStream) -> (String, Vec<u8>) {
    let mut output = stream.try_clone().unwrap();
    let mut input = BufReader::new(stream);
    let (mut login, mut heard) = (String::new(), Vec::new());
    input.read_line(&mut login).unwrap();
    output.write_all(b"OK").unwrap();
    loop {
        let mut kind = [0];
        if input.read(&mut kind).unwrap() == 0 {
            return (login, heard);
        }
        match kind[0] {
            b'0' => {
                assert_eq!(until_colon(&mut input), "");
                let mut text = vec![0; until_colon(&mut input).parse().unwrap()];
                input.read_exact(&mut text).unwrap();
                output.write_all(if text.len() > 1000 { b"<pasted>" } else { &text }).unwrap();
                heard.extend(text);
            }
            b'1' => {
                let size = [(); 3].map(|()| until_colon(&mut input));
                assert_eq!(size, ["", "80", "24"]);
            }
            b'2' => (),
            other => panic!("unknown message {other}"),
        }
    }
}

fn until_colon(input: &mut impl std::io::BufRead) -> String {
    let mut bytes = Vec::new();
    input.read_until(b':', &mut bytes).unwrap();
    assert_eq!(bytes.pop(), Some(b':'));
    String::from_utf8(bytes).unwrap()
}

/// A machine without a disk that shows a line and writes each key to its serial port.
struct Guest {
    child: Child,
    serial: PathBuf,
}

impl Guest {
    fn start(site: &Site, port: u16) -> Self {
        let (image, serial) = (site.path("/guest.img"), site.path("/serial"));
        fs::write(&image, boot_image()).unwrap();
        let child = Command::new("qemu-system-x86_64")
            .args([
                "-machine",
                "pc,accel=tcg",
                "-m",
                "32",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
            ])
            .args(["-vga", "std", "-boot", "a", "-monitor", "none"])
            .args(["-drive", &format!("file={},format=raw,if=floppy,readonly=on", image.display())])
            .args(["-serial", &format!("file:{}", serial.display())])
            .args(["-object", "secret,id=vnc,data=PVEVNC12"])
            .args(["-vnc", &format!("127.0.0.1:{},password-secret=vnc", port - 5900)])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86 is installed");
        eventually("QEMU listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, serial }
    }

    fn typed(&self) -> String {
        fs::read_to_string(&self.serial).unwrap_or_default()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A boot sector: text mode, a line, then each key to the screen and to the first serial port.
fn boot_image() -> Vec<u8> {
    const MESSAGE: &[u8] = b"GUEST-OK ready>\0";
    let mut code = b"\x31\xc0\x8e\xd8\x8e\xd0\xbc\x00\x7c\xb8\x03\x00\xcd\x10\xbe".to_vec();
    let rest = b"\xac\x08\xc0\x74\x06\xb4\x0e\xcd\x10\xeb\xf5\xb4\x00\xcd\x16\xb4\x0e\xcd\x10\xba\xf8\x03\xee\xeb\xf2";
    let message_at = 0x7c00 + code.len() + 2 + rest.len();
    code.extend(u16::try_from(message_at).unwrap().to_le_bytes());
    code.extend(rest);
    code.extend(MESSAGE);
    code.resize(510, 0);
    code.extend(b"\x55\xaa");
    code.resize(1_474_560, 0);
    code
}

//! Memory and speed.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::client::{BINARY, Console, FINAL, WebSocket, content, flood, frame, opened, path, read};
use crate::support::{Nodegate, Session, Site};

const CONSOLES: usize = 200;

/// Two hundred consoles whose clients do not read.
#[test]
fn stalled_consoles_fit_into_64_megabytes() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let console = Console::listen();
    let path = path(&site, "root@pam", console.port);
    let cookie = site.cookie("root@pam");
    let mut floods = Vec::new();
    let mut sockets = Vec::new();
    for _ in 0..CONSOLES {
        sockets.push(WebSocket::open(&gate, &path, &cookie).unwrap().0);
        let server: TcpStream = console.accept();
        floods.push(std::thread::spawn(move || flood(&server)));
    }
    let until = Instant::now() + Duration::from_secs(8);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(gate.kilobytes("VmRSS"));
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{CONSOLES} consoles: {most} kB now, {} kB at most", gate.kilobytes("VmHWM"));
    assert!(gate.kilobytes("VmHWM") < 64 << 10);
    // Others are still served, and what waited is unharmed.
    assert_eq!(gate.get("/api2/json/version", &cookie).status, 200);
    let mut socket = sockets.pop().unwrap();
    assert!(socket.data(251 * 4000)[..251 * 4000] == content(251 * 4000));
    drop((socket, sockets));
    assert!(floods.into_iter().all(|flood| flood.join().unwrap() > 0));
}

/// The goal is a release build's; a debug build says nothing about speed.
#[test]
#[ignore = "measures: cargo test --release --test blackbox console::load -- --ignored --nocapture"]
fn a_migration_tunnel_is_fast_both_ways() {
    const SIZE: usize = 2 << 30;
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=1"]);
    std::fs::create_dir_all(site.path("/run/qemu-server")).unwrap();
    let listener = UnixListener::bind(site.path("/run/qemu-server/100.mtunnel")).unwrap();
    let path =
        "/api2/json/nodes/node1/qemu/100/mtunnelwebsocket?socket=/run/qemu-server/100.mtunnel&ticket=x";
    let (mut socket, _) = WebSocket::open(&gate, path, &site.cookie("root@pam")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::Read as _;
        let mut buffer = vec![0; 1 << 20];
        let mut left = SIZE;
        while left > 0 {
            left -= server.read(&mut buffer).unwrap();
        }
        let piece = vec![7; 1 << 20];
        server.write_all(b"x").unwrap();
        for _ in 0..SIZE >> 20 {
            server.write_all(&piece).unwrap();
        }
        server
    });
    let piece = frame(FINAL | BINARY, &content(1 << 20));
    let speed = |since: Instant| (SIZE >> 10) / usize::try_from(since.elapsed().as_millis()).unwrap(); // about MB/s
    let before = Instant::now();
    for _ in 0..SIZE >> 20 {
        socket.send_raw(&piece);
    }
    assert_eq!(socket.receive().payload[0], b'x');
    let up = speed(before);
    let before = Instant::now();
    let mut left = SIZE;
    while left > 40_000 {
        left -= socket.receive().payload.len();
    }
    println!("client to console {up} MB/s, console to client {} MB/s", speed(before));
    server.join().unwrap();
    assert!(up > 300, "the goal");
}

#[test]
fn a_slow_console_does_not_slow_others() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=1"]);
    let (mut stuck, stuck_server) = opened(&site, &gate);
    let filling =
        std::thread::spawn(move || (0..400).for_each(|_| stuck.send(FINAL | BINARY, &content(65_000))));
    let (mut socket, mut server) = opened(&site, &gate);
    for _ in 0..50 {
        socket.send(FINAL | BINARY, b"ping");
        assert_eq!(read(&mut server, 4), b"ping");
        server.write_all(b"pong").unwrap();
        assert_eq!(socket.data(4), b"pong");
    }
    let plain: &mut Session = &mut gate.connect();
    assert_eq!(plain.request("GET", "/api2/json/version", &site.cookie("root@pam"), b"").status, 200);
    drop(stuck_server);
    let _ = filling.join();
}

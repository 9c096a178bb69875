//! Files and pipes that the daemon names instead of sending them.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use nodegate_standin::{Certificate, Config, Daemon, KeyKind, Product};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Reply, Site};
use crate::upload::noise;

const FLAGGED: &str = "/api2/json/nodes/node1/storage/local/file-restore/download";

fn get(site: &Site, gate: &Nodegate, route: &str, file: &str) -> Reply {
    let reply = gate.get(&format!("{route}?path={file}"), &site.cookie("root@pam"));
    assert_eq!(reply.header("pvestreamfile"), None);
    assert!(!reply.text().contains("canary"), "{}", reply.text());
    reply
}

fn fifo(path: &Path) {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

/// The daemon names the file and its type.
#[test]
fn named_files_are_sent_with_their_type() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let content = noise(1_000_000);
    for place in ["/tmp/x/y/file", "/var/tmp/file"] {
        site.write(place, &content);
        let reply = get(&site, &gate, FLAGGED, place);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("content-length"), Some("1000000"));
        assert!(reply.body == content);
    }
    site.write("/tmp/empty", "");
    assert_eq!((get(&site, &gate, FLAGGED, "/tmp/empty").status), 200);
    let head = gate.request("HEAD", &format!("{FLAGGED}?path=/tmp/none"), &site.cookie("root@pam"), b"");
    assert_eq!((head.status, head.header("pvestreamfile")), (200, None));
}

/// The writer may open it late.
#[test]
fn a_pipe_is_sent_while_written() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let path = site.path("/tmp/pipe");
    fifo(&path);
    let content = noise(600_000);
    let writer = {
        let (path, content) = (path.clone(), content.clone());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
            for piece in content.chunks(150_000) {
                pipe.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
        })
    };
    let reply = get(&site, &gate, FLAGGED, "/tmp/pipe");
    writer.join().unwrap();
    assert_eq!((reply.status, reply.header("content-length")), (200, None));
    assert!(reply.body == content);
}

/// The writer notices that the client is gone; the client of a pipe without writer gets an error.
#[test]
fn pipe_ends_learn_of_each_other() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.answer_unprivileged=1"]);
    let path = site.path("/tmp/pipe");
    fifo(&path);
    let mut session = gate.connect();
    let cookie = site.cookie("root@pam");
    session.send(format!("GET {FLAGGED}?path=/tmp/pipe HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
    let mut pipe = OpenOptions::new().write(true).open(&path).unwrap();
    pipe.write_all(b"x").unwrap();
    drop(session);
    eventually("the write fails", || pipe.write_all(&[0; 4096]).is_err());
    let mut session = gate.connect();
    session.send(format!("GET {FLAGGED}?path=/tmp/pipe HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
    // The pipe has no writer: the connection ends in the middle of the body.
    let text = String::from_utf8(session.rest()).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn nothing_else_is_opened() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write("/etc/secret", "root:x");
    site.write("/tmp/real/file", "content");
    symlink(site.path("/etc/secret"), site.path("/tmp/link")).unwrap();
    symlink("real/file", site.path("/tmp/inside")).unwrap();
    symlink("real", site.path("/tmp/way")).unwrap();
    std::os::unix::net::UnixListener::bind(site.path("/tmp/socket")).unwrap();
    let denied = [
        "/etc/secret",
        "/tmp/../etc/secret",
        "/tmp/real/../../etc/secret",
        "/tmp/link",
        "/tmp/inside",
        "/tmp/way/file",
        "/tmp/real",
        "/tmp/",
        "/tmp",
        "/tmp/none",
        "/tmp/socket",
        "/tmpx/file",
        "tmp/real/file",
        "real/file",
        "/dev/null",
        "/proc/self/environ",
    ];
    for file in denied {
        let reply = get(&site, &gate, FLAGGED, file);
        assert_eq!((reply.status, reply.reason.as_str()), (500, "streaming denied"), "{file}");
    }
    // A route that is not flagged, or not known; another method; several names.
    for route in ["/api2/json/standin/streamfile", "/api2/json/nodes/node1/standin/streamfile"] {
        assert_eq!(get(&site, &gate, route, "/tmp/real/file").status, 500, "{route}");
    }
    let cookies = gate.get("/api2/json/standin/cookies?file=/tmp/real/file", &site.cookie("root@pam"));
    assert_eq!((cookies.status, cookies.header("pvestreamfile")), (500, None));
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let posted = gate.request("POST", &format!("{FLAGGED}?path=/tmp/real/file"), &headers, b"");
    assert_eq!(posted.status, 500);
    assert!(gate.stderr().contains("streaming denied"));
    assert_eq!(get(&site, &gate, FLAGGED, "/tmp/real/file").body, b"content");
}

#[test]
fn a_daemon_without_root_cannot_name_a_file() {
    let site = Site::pve();
    let other = Daemon::start(Config { keys: site.keys.clone(), ..Config::new(Product::Pve) });
    let gate = Nodegate::start(&site, &[&format!("backend.unprivileged={}", other.address())]);
    site.write("/tmp/file", "content");
    assert_eq!(get(&site, &gate, "/api2/json/standin/streamfile", "/tmp/file").status, 500);
    assert_eq!(other.requests().len(), 1);
    assert_eq!(get(&site, &gate, FLAGGED, "/tmp/file").body, b"content");
    assert_eq!(other.requests().len(), 1);
}

/// Another node that answers every request with the head given.
fn other_node(site: &Site, head: &'static str) -> u16 {
    let certificate = Certificate::ca().issue("node2", &[], KeyKind::Rsa2048);
    site.write("/etc/pve/nodes/node2/pve-ssl.pem", certificate.chain_pem());
    let members =
        r#"{"nodename":"node1","cluster":{"quorate":1},"nodelist":{"node1":{},"node2":{"ip":"127.0.0.1"}}}"#;
    site.write("/etc/pve/.members", members);
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    let key = PKey::private_key_from_pem(certificate.key_pem().as_ref()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&X509::from_pem(certificate.certificate_pem().as_ref()).unwrap()).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(mut stream) = acceptor.accept(stream) else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.shutdown();
        }
    });
    port
}

#[test]
fn another_node_cannot_name_local_files() {
    let site = Site::pve();
    site.write("/tmp/file", "content");
    let answer = "HTTP/1.1 200 OK\r\npvestreamfile: /tmp/file\r\nContent-Length: 12\r\n\r\nerror canary";
    let port = other_node(&site, answer);
    let gate = Nodegate::start(&site, &[&format!("cluster.port={port}")]);
    let reply = get(&site, &gate, &FLAGGED.replace("node1", "node2"), "/tmp/file");
    assert_eq!((reply.status, reply.reason.starts_with("streaming denied")), (403, true), "{}", reply.text());
    assert!(site.daemon.requests().is_empty());
}

//! Another node's original proxy, between a client and the nodegate of a node: an own stand-in, and one that is built
//! on the originals' client library.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::http::{Reply, Session};

/// The user agent of the originals' client library.
pub const ANY_EVENT: &str = "Referer: https://peer/\r\nTe: trailers\r\nConnection: close, Te\r\n\
    User-agent: Mozilla/5.0 (compatible; U; AnyEvent-HTTP/2.25; +http://software.schmorp.de/pkg/AnyEvent)\r\n";
/// The headers that the originals' proxies add.
pub const FROM_NODE: &str = "PVEDisableProxy: true\r\nPVEClientIP: 192.0.2.7\r\n";

/// Listens in clear HTTP. Stops when dropped.
pub struct OriginalNode {
    address: SocketAddr,
    process: Option<Child>,
}

impl OriginalNode {
    /// A thread that takes chunks apart and copies headers.
    pub fn standin(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !pass_on(stream, peer) {
                    return;
                }
            }
        });
        Self { address, process: None }
    }

    /// A process with `AnyEvent::HTTP`.
    pub fn any_event(peer: SocketAddr) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/original_node.pl");
        let mut command = Command::new("perl");
        let command = command.arg(script).arg(format!("https://{peer}")).stdout(Stdio::piped());
        let mut process = command.spawn().expect("perl is missing; `make test` installs what the tests need");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 =
            line.trim().parse().expect("AnyEvent::HTTP is missing; `make test` installs what the tests need");
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), process: Some(process) }
    }

    /// The response that a client of that node gets.
    pub fn get(&self, path: &str, headers: &str) -> Reply {
        let head = format!("GET {path} HTTP/1.1\r\nHost: node1:8006\r\n{headers}\r\n");
        let mut session = Session::plain(self.address);
        session.send(head);
        session.reply(false)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for OriginalNode {
    fn drop(&mut self) {
        match &mut self.process {
            Some(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
            None => drop(TcpStream::connect(self.address)),
        }
    }
}

/// One request and its answer; false when nothing was asked.
fn pass_on(mut client: TcpStream, peer: SocketAddr) -> bool {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (request, lines) = head.split_once("\r\n").unwrap();
    let lines: String =
        lines.trim_end().split_inclusive("\r\n").filter(|line| !line.starts_with("User-Agent")).collect();
    let mut session = Session::tls(peer);
    session.send(format!("{request}\r\n{}\r\n{ANY_EVENT}{FROM_NODE}\r\n", lines.trim_end()));
    let got = session.reply(false);
    let mut answer = format!("HTTP/1.1 {} {}\r\n", got.status, got.reason);
    let copied = got.headers.iter().filter(|(name, _)| {
        !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("content-length")
    });
    answer.extend(copied.map(|(name, value)| format!("{name}: {value}\r\n")));
    answer.extend([format!("Content-Length: {}\r\nConnection: close\r\n\r\n", got.body.len())]);
    let _ = client.write_all(&[answer.as_bytes(), &got.body].concat());
    true
}

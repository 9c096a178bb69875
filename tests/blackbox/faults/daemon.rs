//! The daemon's process killed, and started again.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const VERSION: &str = "/api2/json/version";
const PIECE: usize = 100_000;

/// Says its port, answers each request with the head of a long answer and a first piece, and then nothing more; but
/// requests for `/version` with a whole one.
const DAEMON: &str = r#"
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(listener.getsockname()[1], flush=True)
def serve(connection):
    head = connection.recv(65536)
    if b"/version" in head:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    else:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
        connection.recv(1)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"#;

struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(port: u16) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", DAEMON, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    /// SIGKILL, and the end.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Once the daemon is back, calls succeed again.
#[test]
fn a_killed_daemon_cuts_its_responses_short() {
    let site = Site::pve();
    let mut daemon = Process::start(0);
    let backend = format!("backend.address=127.0.0.1:{}", daemon.port);
    let gate = Nodegate::start(&site, &[&backend, "backend.keepalive=true"]);
    let cookie = site.cookie("root@pam");
    assert_eq!(gate.get(VERSION, &cookie).status, 200);
    let mut sessions: Vec<_> = (0..10).map(|_| gate.connect()).collect();
    for session in &mut sessions {
        session.send(format!("GET /api2/json/long HTTP/1.1\r\nHost: node1\r\n{cookie}\r\n"));
        let head = String::from_utf8(session.take(15)).unwrap();
        assert_eq!(head, "HTTP/1.1 200 OK");
    }
    daemon.kill();
    for session in &mut sessions {
        let rest = session.rest();
        let body = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(rest.len() - body <= PIECE && rest[body..].iter().all(|byte| *byte == b'x'));
    }
    let reply = gate.get(VERSION, &cookie);
    assert_eq!(reply.status, 595, "{}", reply.text());
    let _again = Process::start(daemon.port);
    eventually("it serves again", || gate.get(VERSION, &cookie).status == 200);
    assert!(gate.stop().success());
}

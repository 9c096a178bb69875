//! A real browser on a cluster of three: login, console and status, also when a node has stopped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nodegate_standin::{Config, Daemon, Product};
use serde_json::Value;

use super::machines::Cluster;
use crate::browser_headers;

const PAGE: &str = "<!doctype html><title>[% nodename %]</title><script>\n\
    Proxmox = { UserName: '[% username %]', CSRFPreventionToken: '[% token %]', NodeName: '[% nodename %]' };\n\
    </script><h1>[% nodename %]</h1>\n";
const GREETING: &str = "RFB 003.008\n";

/// A console that greets; its port lies where consoles may.
fn console() -> u16 {
    let listener = (5900..6000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(GREETING.as_bytes());
            open.push(stream);
        }
    });
    port
}

/// The script, which answers a line for a line.
struct Browser {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Browser {
    fn open(origin: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/cluster.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(origin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nodejs is missing; `make test` installs what the tests need");
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, stdin, stdout: BufReader::new(stdout) }
    }

    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let reported: Value = serde_json::from_str(&line).unwrap();
        assert!(reported["error"].is_null(), "{reported:#}");
        reported
    }

    fn request_again(&mut self) -> Value {
        self.stdin.write_all(b"again\n").unwrap();
        self.says()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn statuses(reported: &Value) -> Vec<u64> {
    reported["nodes"].as_array().unwrap().iter().map(|node| node["status"].as_u64().unwrap()).collect()
}

#[test]
fn a_browser_survives_a_stopping_node() {
    let mut cluster = Cluster::pve(3);
    let first = &mut cluster.nodes[0].site;
    first.write("/usr/share/pve-manager/index.html.tpl", PAGE);
    let keys = std::sync::Arc::clone(&first.keys);
    first.daemon = Daemon::start(Config { keys, console_port: console(), ..Config::new(Product::Pve) });
    let gate = cluster.start(1, &browser_headers::ALL);
    let _second = cluster.start(2, &[]);
    let third = cluster.start(3, &[]);

    let mut browser = Browser::open(&format!("https://127.0.0.1:{}", gate.port()));
    let reported = browser.says();
    assert_eq!(
        (&reported["before"]["UserName"], &reported["before"]["CSRFPreventionToken"]),
        (&"".into(), &"null".into())
    );
    assert_eq!(
        (&reported["after"]["UserName"], &reported["after"]["NodeName"]),
        (&"root@pam".into(), &"node1".into())
    );
    assert_eq!((statuses(&reported), &reported["greeting"]), (vec![200; 3], &GREETING.into()));

    assert_eq!(third.stop().code(), Some(0));
    let reported = browser.request_again();
    assert_eq!((statuses(&reported), &reported["open"]), (vec![200, 200, 595], &true.into()));
    let message = reported["nodes"][2]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Connection refused") && message.contains("node 'node3' at 127.0.0.3:"),
        "{message}"
    );

    let _third = cluster.start(3, &[]);
    let reported = browser.request_again();
    assert_eq!((statuses(&reported), &reported["open"]), (vec![200; 3], &true.into()));
}

//! A page of a stranger in Chromium, whose name begins to lead to nodegate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Site};

/// Reads /metrics of its origin until another server than its own answers.
const PAGE: &str = "<body>waits<script>\n\
    async function read() {\n\
      try {\n\
        const answer = await fetch('/metrics', { cache: 'no-store' });\n\
        const text = await answer.text();\n\
        if (text !== 'not yet') { window.stolen = { status: answer.status, text: text.slice(0, 200) }; return; }\n\
      } catch (error) {}\n\
      setTimeout(read, 100);\n\
    }\n\
    read();\n\
    </script></body>";

/// Chromium on a page, ended when dropped.
struct Browser {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Browser {
    fn open(url: &str, rules: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/rebinding.mjs");
        let mut command = Command::new("node");
        command.arg(script).args([url, rules]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nodejs is installed");
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The attacker's server, until it leaves its address to another one.
fn serve_page(address: SocketAddr, leaves: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        while !leaves.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let is_page = head[..length].starts_with(b"GET / ");
            let (kind, body) = if is_page { ("text/html", PAGE) } else { ("text/plain", "not yet") };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    })
}

#[test]
fn a_page_reads_no_metrics_by_rebinding() {
    let site = Site::pve();
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let leaves = Arc::new(AtomicBool::new(false));
    let stranger = serve_page(address, Arc::clone(&leaves));
    let mut browser = Browser::open(&format!("http://evil.example:{port}/"), "MAP evil.example 127.0.0.1");
    assert_eq!(browser.next()["loaded"], true);
    leaves.store(true, Ordering::Relaxed);
    stranger.join().unwrap();
    let _gate = Nodegate::start(&site, &[&format!("metrics.listen=127.0.0.1:{port}")]);
    let reported = browser.next();
    assert_eq!(reported["read"]["status"], 421, "{reported:#}");
    assert!(!reported.to_string().contains("nodegate_"), "{reported:#}");
}

#[test]
fn chromium_shows_only_pages_of_listed_names() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/pvemanagerlib.js", "// the library");
    let gate = Nodegate::start(&site, &["listen.hosts=pve.example.com", "http2=true"]);
    eventually("it serves", || gate.get("/-/health", "").status == 200);
    let port = gate.port();
    let rules = "MAP pve.example.com 127.0.0.1, MAP evil.example 127.0.0.1";
    for (name, status, text) in
        [("pve.example.com", 200, "// the library"), ("evil.example", 421, "(setting listen.hosts)")]
    {
        let url = format!("https://{name}:{port}/pve2/js/pvemanagerlib.js");
        let reported = Browser::open(&url, rules).next();
        assert_eq!(reported["status"], status, "{reported:#}");
        assert!(reported["text"].as_str().unwrap().contains(text), "{reported:#}");
    }
}

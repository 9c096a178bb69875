//! The page in Chromium: light and dark, desktop and phone, with and without script, by pointer and by keyboard.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::{Page, VERSION};
use crate::cluster::machines::Cluster;
use crate::console::client::opened;
use crate::support::nodegate::eventually;

/// The script, which waits for a line before some of its steps.
struct Browser {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Browser {
    fn open(page: &Page, shots: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/status_page.mjs");
        let mut child = Command::new("node")
            .args([script.to_str().unwrap(), &format!("http://{}/", page.address), shots.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nodejs is missing; `make test` installs what the tests need");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let reported: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(reported["error"].is_null(), "{reported:#}");
        reported
    }

    fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Screenshots stay there after the test.
fn screenshots() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn is_png(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000)
}

#[test]
fn an_operator_reads_the_page_in_a_browser() {
    let cluster = Cluster::pve(3);
    let (page, shots) = (Page::new(), screenshots());
    let site = &cluster.nodes[0].site;
    let _second = cluster.start(2, &[]);
    let gate = cluster.start(1, &[&page.listen, "limits.body=10"]);
    page.wait();
    let mut session = gate.connect();
    for _ in 0..3 {
        assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    assert_eq!(session.request("POST", "/api2/json/access/ticket", "", &[b'x'; 100]).status, 413);
    let console = opened(site, &gate);
    eventually("the request is counted", || page.json()["limits"][0]["total"] == 1);

    let mut browser = Browser::open(&page, &shots);
    for name in ["desktop-light", "desktop-dark", "phone-light", "phone-dark"] {
        let reported = browser.next();
        assert_eq!(reported["view"], name, "{reported:#}");
        for list in ["errors", "violations", "foreign"] {
            assert_eq!(reported[list], serde_json::json!([]), "{reported:#}");
        }
        assert_eq!(reported["overflow"], 0, "{reported:#}");
        assert!(is_png(&shots.join(format!("{name}.png"))), "{name}");
    }
    let without = browser.next();
    let text = without["text"].as_str().unwrap();
    for value in ["pve on node1", "2xx 3", "/nodes/node1/qemu/100/vncwebsocket", "verified", "size of a body"]
    {
        assert!(text.contains(value), "{value}: {text}");
    }
    assert_eq!((&without["controls"], &without["errors"]), (&0.into(), &serde_json::json!([])));
    assert!(without["hint"].as_str().unwrap().contains("Reload this page"));

    let before = browser.next();
    assert!(!before["before"].as_str().unwrap().contains("4xx 7"));
    for _ in 0..6 {
        assert_eq!(session.request("GET", "/nope", "", b"").status, 404);
    }
    browser.go_on();
    assert!(browser.next()["after"].as_str().unwrap().contains("2xx 3, 4xx 7"), "without a reload");
    by_hand(&browser.next());
    let pause = browser.next();
    assert_eq!((&pause["paused"], &pause["resumed"]), (&"Resume".into(), &"Pause".into()));

    drop((console, session));
    let first = gate.pid();
    assert_eq!(gate.stop().code(), Some(0));
    browser.go_on();
    assert_eq!(browser.next()["lost"], true);
    let gate = cluster.start(1, &[&page.listen]);
    browser.go_on();
    let back = browser.next();
    assert_ne!(gate.pid(), first);
    assert_eq!(back["process"], gate.pid().to_string(), "the page shows the new process");
    assert_eq!(back["errors"], serde_json::json!([]));
}

/// The keyboard and the pointer read the values of a chart.
fn by_hand(reported: &Value) {
    let of = |name: &str| reported[name].as_str().unwrap_or_else(|| panic!("{reported:#}"));
    assert_eq!((of("first"), of("label")), ("pause", "Requests: values by time"), "{reported:#}");
    let reading = regex::Regex::new(r"^1\d s ago: all: \d+\.\d, errors \(5xx\): 0\.0$").unwrap();
    assert!(reading.is_match(of("reading")), "{reported:#}");
    assert_eq!(of("spoken"), of("reading"));
    let hovered = regex::Regex::new(r"^\d s ago: median: .*, 99 of 100: ").unwrap();
    assert!(hovered.is_match(of("hovered")), "{reported:#}");
    assert_eq!(of("left"), "");
}

//! Monitoring: metrics, probes, and the fields that connect one log with another.

mod metrics;
mod probes;
mod tracing;

use std::process::Command;

use crate::support::nodegate::free_port;
use crate::support::{Nodegate, Reply, Session, Site};

/// A nodegate with metrics on a separate port.
struct Monitored {
    gate: Nodegate,
    port: u16,
}

impl Monitored {
    fn start(site: &Site, sets: &[&str]) -> Self {
        let port = free_port();
        let listen = format!("metrics.listen=127.0.0.1:{port}");
        let gate = Nodegate::start(site, &[&[listen.as_str()], sets].concat());
        Self { gate, port }
    }

    fn ask(&self, method: &str, path: &str) -> Reply {
        Session::plain(([127, 0, 0, 1], self.port).into()).request(method, path, "", b"")
    }

    fn metrics(&self) -> String {
        let reply = self.ask("GET", "/metrics");
        assert_eq!(reply.status, 200);
        reply.text()
    }

    /// The value of one sample.
    fn sample(&self, name: &str) -> u64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

/// The output of curl for these arguments.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "30"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

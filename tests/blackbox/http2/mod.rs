//! HTTP/2, where it is switched on: what clients see, and what attackers come to.

mod attacks;
mod clients;
mod guesses;
mod life;
mod malformed;
mod request_bodies;
mod streams;
mod targets;
pub mod wire;

use std::process::Command;

use crate::support::{Nodegate, Site};

const VERSION: &str = "/api2/json/version";

fn start(site: &Site, sets: &[&str]) -> Nodegate {
    Nodegate::start(site, &[&["http2=true"], sets].concat())
}

/// The output of curl: the status, the version of HTTP, the head and the body.
#[derive(Debug)]
struct Got {
    status: String,
    version: String,
    head: String,
    body: String,
}

impl Got {
    /// The value of a header, which HTTP/2 has in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    }
}

fn curl(gate: &Nodegate, path: &str, arguments: &[&str]) -> Got {
    let output = Command::new("curl")
        .args(["-sk", "--http2", "--max-time", "60", "-i", "-w", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .arg(format!("https://127.0.0.1:{}{path}", gate.port()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (answer, told) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    let (status, version) = told.split_once(' ').unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{output:?}"));
    Got {
        status: status.to_owned(),
        version: version.to_owned(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

//! The requests of a stranger and their responses: `strangers.py` sends them, in either protocol.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox/attacks/strangers.py");

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Raw sockets.
    Http1,
    /// Python's library `h2`.
    Http2,
}

/// An answer, as far as it came.
#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "what is not looked at is shown where a test fails")]
pub struct Answer {
    pub status: Option<u16>,
    /// until it was whole, or the connection closed
    pub seconds: Option<f64>,
    /// the server ends the connection behind it
    pub closing: bool,
    pub retry: Option<String>,
    pub body: String,
}

/// Requests that are sent in one of the ways that the script describes.
pub struct Job {
    pub protocol: Protocol,
    pub to: SocketAddr,
    pub from: String,
    pub pause: f64,
    /// read behind the last answer as well, to see that the connection ends
    pub until_closed: bool,
    pub requests: Vec<Value>,
}

impl Job {
    pub fn at_once(self) -> Vec<Answer> {
        self.run("at_once")
    }

    pub fn in_turn(self) -> Vec<Answer> {
        self.run("in_turn")
    }

    /// Each is left after the pause, where no answer came.
    pub fn leaving(self) -> Vec<Answer> {
        self.run("leave")
    }

    /// The same, with the connection.
    pub fn closing(self) -> Vec<Answer> {
        self.run("close")
    }

    /// All stay open until they are released; with a pause, their bodies drip.
    pub fn hold(self) -> Held {
        let mut held = Held::start(&self, "hold");
        assert_eq!(held.line().trim(), "held");
        held
    }

    fn run(self, mode: &str) -> Vec<Answer> {
        let mut held = Held::start(&self, mode);
        held.answers()
    }
}

/// A stranger at work; ended when dropped.
pub struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    fn start(job: &Job, mode: &str) -> Self {
        let python = if Path::new(PYTHON).exists() { PYTHON } else { "/usr/bin/python3" };
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python}: {error}; `make test` installs what the tests need"));
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let protocol = if job.protocol == Protocol::Http1 { "http/1.1" } else { "h2" };
        let text = json!({
            "protocol": protocol, "to": [job.to.ip().to_string(), job.to.port()], "from": job.from,
            "mode": mode, "pause": job.pause, "until_closed": job.until_closed, "requests": job.requests,
        });
        writeln!(input, "{text}").unwrap();
        Self { child, input, output: BufReader::new(output) }
    }

    /// The responses so far, once so many are there; the connections close.
    pub fn release(mut self, wanted: usize) -> Vec<Answer> {
        writeln!(self.input, "{wanted}").unwrap();
        self.answers()
    }

    fn answers(&mut self) -> Vec<Answer> {
        serde_json::from_str(&self.line()).unwrap_or_else(|error| panic!("{error}: see what the script said"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole request; `headers` as name and value.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
    json!({ "method": method, "path": path, "headers": headers, "body": body })
}

/// Less of a body than announced, and nothing behind it.
pub fn unfinished(mut request: Value, length: usize, sent: usize) -> Value {
    request["length"] = length.into();
    request["fill"] = sent.into();
    request
}

/// How many answers have that status.
pub fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == Some(status)).count()
}

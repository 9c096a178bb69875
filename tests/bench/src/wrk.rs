//! HTTP load by wrk (Debian), with requests from a file and its figures as one line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::measure::Sample;

/// Reads whole requests, separated by a line of `%%`, and sends them in turn.
const SCRIPT: &str = r#"
local requests, turn = {}, 0
function init(args)
  local file = assert(io.open(args[1], "rb"))
  for one in file:read("*a"):gmatch("(.-)\n%%%%\n") do requests[#requests + 1] = one end
  file:close()
  turn = math.random(#requests)
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"#;

/// Requests that are sent in turn.
pub(crate) struct Load {
    script: PathBuf,
    requests: PathBuf,
}

impl Load {
    /// Writes what wrk needs into `directory`.
    pub(crate) fn new(directory: &Path, name: &str, requests: &[String]) -> Result<Self> {
        let script = directory.join("requests.lua");
        std::fs::write(&script, SCRIPT)?;
        let file = directory.join(format!("{name}.requests"));
        let ended: Vec<_> = requests.iter().map(|request| format!("{request}\n%%\n")).collect();
        std::fs::write(&file, ended.concat())?;
        Ok(Self { script, requests: file })
    }

    /// `connections` at once for `seconds`: `rate` (requests/s), `bytes` (/s), `p50`, `p99`, `p999` (ms), `requests`.
    /// Errors, and answers of another status than 2xx and 3xx, end the bench.
    pub(crate) fn run(&self, to: SocketAddr, connections: usize, seconds: f64) -> Result<Sample> {
        let duration = format!("{}s", seconds.ceil().max(1.0));
        let output = Command::new("wrk")
            .args(["-t1", "-c", &connections.to_string(), "-d", &duration, "--timeout", "30s", "-s"])
            .arg(&self.script)
            .arg(format!("https://{to}/"))
            .arg("--")
            .arg(&self.requests)
            .stderr(Stdio::inherit())
            .output()
            .context("wrk (apt-get install wrk)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("figures "));
        let numbers: Vec<f64> = line
            .with_context(|| format!("wrk said: {text}"))?
            .split(' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        let [requests, micros, bytes, p50, p99, p999, statuses, broken] = numbers[..] else {
            anyhow::bail!("wrk said: {text}");
        };
        let errors = statuses + broken;
        ensure!(errors == 0.0, "{statuses} refused and {broken} broken of {requests} at {to}");
        let seconds = micros / 1e6;
        Ok(Sample::from([
            ("rate", requests / seconds),
            ("bytes", bytes / seconds),
            ("p50", p50 / 1e3),
            ("p99", p99 / 1e3),
            ("p999", p999 / 1e3),
            ("requests", requests),
        ]))
    }
}

//! HTTP load by h2load (Debian's nghttp2-client), over HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::measure::Sample;

/// One request, sent again and again. h2load sends the same headers each time.
pub(crate) struct Load<'a> {
    pub path: &'a str,
    pub header: &'a str,
    pub connections: usize,
    /// Requests at once on a connection; `None` is HTTP/1.1.
    pub streams: Option<usize>,
    pub seconds: f64,
}

/// Seconds beyond its duration after which h2load is ended. With large answers it sometimes reads on for ever.
const GRACE: f64 = 20.0;
const ATTEMPTS: usize = 3;
/// The exit code of `timeout` when it has ended a command.
const TIMED_OUT: i32 = 124;

/// How to read the mean of h2load's times.
const UNITS: [(&str, f64); 3] = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];

impl Load<'_> {
    /// `rate` (requests/s), `mean` (ms), `requests`. Answers of another status than 2xx end the bench.
    pub(crate) fn run(&self, to: SocketAddr) -> Result<Sample> {
        let output = self.output(to)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let sample = parse(&text).with_context(|| format!("h2load said: {text}"))?;
        let wanted = if self.streams.is_some() { "Application protocol: h2" } else { "http/1.1" };
        ensure!(text.contains(wanted), "h2load spoke another protocol to {to}: {text}");
        Ok(sample)
    }

    fn output(&self, to: SocketAddr) -> Result<Output> {
        let seconds = self.seconds.ceil().max(1.0);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &(seconds + GRACE).to_string(), "h2load"]);
        command.args(["-t1", "-c", &self.connections.to_string(), "-D", &seconds.to_string()]);
        command.args(["-H", self.header]);
        match self.streams {
            Some(streams) => command.args(["-m", &streams.to_string()]),
            None => command.arg("--h1"),
        };
        command.arg(format!("https://{to}{}", self.path)).stderr(Stdio::inherit());
        for _ in 0..ATTEMPTS {
            let output = command.output().context("h2load (apt-get install nghttp2-client)")?;
            if output.status.code() != Some(TIMED_OUT) {
                return Ok(output);
            }
            eprintln!("bench: h2load did not end, once more");
        }
        bail!("h2load did not end {ATTEMPTS} times")
    }
}

/// `requests: … total, … started, … done, … succeeded, … failed, …`, `finished in 1.00s, … req/s, …` and
/// `time for request: least greatest mean …`.
fn parse(text: &str) -> Result<Sample> {
    let line = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no '{name}'"))
    };
    let counts: Vec<f64> =
        line("requests: ")?.split(", ").filter_map(|count| count.split(' ').next()?.parse().ok()).collect();
    let [_, _, _, succeeded, failed, ..] = counts[..] else { bail!("no counts") };
    let refused = line("status codes: ")?.split(", ").skip(1);
    let refused: f64 = refused.filter_map(|count| count.split(' ').next()?.parse::<f64>().ok()).sum();
    ensure!(succeeded > 0.0, "no answer");
    ensure!(failed == 0.0 && refused == 0.0, "{failed} failed, {refused} were refused");
    let rate = line("finished in ")?.split(", ").nth(1).and_then(|rate| rate.split(' ').next());
    let mean = line("time for request: ")?.split_whitespace().nth(2).context("no mean")?;
    Ok(Sample::from([
        ("rate", rate.context("no rate")?.parse()?),
        ("mean", milliseconds(mean).context("no time")?),
        ("requests", succeeded),
    ]))
}

fn milliseconds(time: &str) -> Option<f64> {
    UNITS.iter().find_map(|(unit, factor)| Some(time.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    const TEXT: &str = "\
finished in 1.00s, 40123.00 req/s, 45.01MB/s
requests: 40123 total, 40187 started, 40123 done, 40123 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 40123 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 45.01MB (47196544) total, 4.05MB (4246732) headers (space savings 0.00%), 39.18MB (41086976) data
                     min         max         mean         sd        +/- sd
time for request:      325us     30.20ms      1.58ms       512us    78.60%
";

    #[test]
    fn the_figures_are_read() {
        let sample = parse(TEXT).unwrap();
        assert_eq!(sample["rate"], 40123.0);
        assert_eq!(sample["mean"], 1.58);
        assert!(parse(&TEXT.replace("0 failed", "1 failed")).is_err());
        assert!(parse(&TEXT.replace("0 4xx", "7 4xx")).is_err());
    }
}

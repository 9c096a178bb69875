//! `nodegate shadow PROFILE`: asks the original and a nodegate beside it the same, and tells what differs.

pub(super) mod client;
mod difference;
mod requests;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use self::client::{Seen, Server};
use self::requests::Rules;
use super::{fail, load, say};
use crate::config::{Config, Options};

/// What changes by itself may do so once a second.
const CHANGE: Duration = Duration::from_millis(1100);

/// What is compared, and how fast.
#[derive(Args, Debug)]
pub struct Comparison {
    /// Access log to take GETs from, the newest first [default: that of the profile]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The original [default: the product's own port on this machine]
    #[arg(long, value_name = "URL")]
    against: Option<String>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests a second, to each of the two
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// File with the header to log in by: `Authorization: …` or `Cookie: …`
    #[arg(long, value_name = "FILE", conflicts_with = "credential_variable")]
    credential_file: Option<PathBuf>,
    /// Environment variable with the same
    #[arg(long, value_name = "NAME")]
    credential_variable: Option<String>,
}

/// The two that are asked.
struct Pair {
    original: Server,
    ours: Server,
    /// a whole header line, or nothing
    credential: String,
}

/// What came of one question.
enum Verdict {
    Equal,
    ChangesByItself,
    Differs(Vec<String>),
}

pub fn run(profile: &str, options: &Options, shadow: &Comparison) -> ExitCode {
    let config = match load(profile, options) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let prepared = pair(&config, shadow).and_then(|pair| {
        let log = shadow.log.clone().or_else(|| config.settings.access_log.clone());
        let log = log.ok_or("the profile names no access log: give one with --log")?;
        let requests = requests::of_log(&log, &Rules::of(&config)?);
        let requests = requests.map_err(|error| format!("{}: {error}", log.display()))?;
        if requests.targets.is_empty() {
            return Err(format!("{}: holds no GET that may be asked again", log.display()));
        }
        Ok((pair, requests))
    });
    match prepared {
        Ok((pair, requests)) => compare(&pair, &requests, shadow),
        Err(message) => fail(&message),
    }
}

fn pair(config: &Config, shadow: &Comparison) -> Result<Pair, String> {
    let port = config.settings.listen.port;
    if shadow.against.is_none() && port == config.own_port {
        return Err(format!(
            "the original and nodegate cannot both be on port {port}: start a trial with `--set listen.port=…`, and \
             give the same here"
        ));
    }
    let original = shadow.against.clone().unwrap_or_else(|| format!("https://127.0.0.1:{}", config.own_port));
    Ok(Pair {
        original: Server::parse(&original)?,
        ours: Server::parse(&format!("https://127.0.0.1:{port}"))?,
        credential: credential(shadow)?,
    })
}

/// From where nobody who lists processes sees it. Error texts do not repeat it.
fn credential(shadow: &Comparison) -> Result<String, String> {
    let (text, place) = match (&shadow.credential_file, &shadow.credential_variable) {
        (Some(path), _) => {
            let place = path.display().to_string();
            (std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?, place)
        }
        (None, Some(name)) => {
            (std::env::var(name).map_err(|error| format!("{name}: {error}"))?, name.clone())
        }
        (None, None) => return Ok(String::new()),
    };
    let line = text.trim();
    let known = line.split_once(':').is_some_and(|(name, _)| {
        ["authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known))
    });
    if !known || line.contains(['\r', '\n']) {
        return Err(format!("{place}: must hold one line, `Authorization: …` or `Cookie: …`"));
    }
    Ok(format!("{line}\r\n"))
}

fn compare(pair: &Pair, requests: &requests::Requests, shadow: &Comparison) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(shadow.seconds);
    let (mut equal, mut changing, mut differing, mut failed) = (0, 0, 0, 0);
    for target in &requests.targets {
        if Instant::now() > until {
            break;
        }
        match pair.ask(target) {
            Ok(Verdict::Equal) => equal += 1,
            Ok(Verdict::ChangesByItself) => changing += 1,
            Ok(Verdict::Differs(lines)) => {
                differing += 1;
                say(&format!("GET {target}\n    {}", lines.join("\n    ")));
            }
            Err(error) => {
                failed += 1;
                let _ = writeln!(io::stderr(), "GET {target}: {error}");
            }
        }
        sleep(Duration::from_secs(1) / shadow.rate);
    }
    let asked = equal + changing + differing + failed;
    say(&format!(
        "{asked} asked: {equal} equal, {differing} differ (original | nodegate), {changing} change by themselves, \
         {failed} without an answer; {} left out",
        requests.left_out
    ));
    if differing + failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Pair {
    fn ask(&self, target: &str) -> Result<Verdict, String> {
        let (original, ours) = self.both(target)?;
        let lines = difference::between(&original, &ours);
        if lines.is_empty() {
            return Ok(Verdict::Equal);
        }
        if !difference::is_of_bodies_alone(&lines) {
            return Ok(Verdict::Differs(lines));
        }
        sleep(CHANGE);
        let (later, ours) = self.both(target)?;
        if later.body != original.body || later.body == ours.body {
            return Ok(Verdict::ChangesByItself);
        }
        Ok(Verdict::Differs(lines))
    }

    /// Both are asked by the original's name, which may stand in the answer.
    fn both(&self, target: &str) -> Result<(Seen, Seen), String> {
        let authority = self.original.authority();
        let ask = |server: &Server, who: &str| {
            let seen = server.get(target, &authority, &self.credential);
            seen.map_err(|error| format!("{who} ({}): {error}", server.authority()))
        };
        Ok((ask(&self.original, "the original")?, ask(&self.ours, "nodegate")?))
    }
}

//! The GETs of an access log that may be asked again: they change nothing, end by themselves, and bring no secret.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;

use crate::config::Config;
use crate::engine;
use crate::pattern::Pattern;
use crate::route::Routes;
use crate::route_table::Kind;
use crate::target::Target;

/// Bytes of a log that are looked at, from its end.
const TAIL: u64 = 16 << 20;
/// Requests that are kept, the newest.
const MOST: usize = 2000;

/// What the profile says may not be repeated.
pub(super) struct Rules {
    routes: Routes,
    side_effects: Vec<Pattern>,
}

/// The targets to ask for, the newest first, and how many GETs were left out.
pub(super) struct Requests {
    pub(super) targets: Vec<String>,
    pub(super) left_out: usize,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let patterns = config.product.side_effects.iter().map(|text| Pattern::parse(text));
        Ok(Self { routes: engine::routes(config)?, side_effects: patterns.collect::<Result<_, _>>()? })
    }

    /// Consoles never end, uploads and downloads are large, secrets are not in the log.
    fn allow(&self, target: &str) -> bool {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if query.contains("=***") {
            return false;
        }
        match Target::parse(path) {
            Ok(Target::Api(api)) => {
                let found = self.routes.table.find("GET", &api.joined()).map(|found| found.method.kind);
                let has_effect = self.side_effects.iter().any(|it| it.matches("GET", api.segments()));
                matches!(found, None | Some(Kind::Call)) && !has_effect
            }
            Ok(Target::Path(_) | Target::NoSuchUri) => true,
            Err(_) => false,
        }
    }
}

pub(super) fn of_log(path: &Path, rules: &Rules) -> io::Result<Requests> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(of_text(&String::from_utf8_lossy(&bytes), rules))
}

fn of_text(text: &str, rules: &Rules) -> Requests {
    let mut seen = HashSet::new();
    let mut requests = Requests { targets: Vec::new(), left_out: 0 };
    for target in text.lines().rev().filter_map(target) {
        if requests.targets.len() >= MOST || !seen.insert(target.clone()) {
            continue;
        }
        if rules.allow(&target) {
            requests.targets.push(target);
        } else {
            requests.left_out += 1;
        }
    }
    requests
}

/// What a line of either form asked for, if it was a GET.
fn target(line: &str) -> Option<String> {
    let object: Option<Value> = line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten();
    let request = match &object {
        Some(object) => object.get("request")?.as_str()?,
        None => line.split('"').nth(1)?,
    };
    let target = request.strip_prefix("GET ")?.split(' ').next()?;
    target.starts_with('/').then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Options;

    #[test]
    fn only_gets_that_change_nothing_are_asked_again() {
        let config = Config::load("pmg", &Options::default()).unwrap();
        let rules = Rules::of(&config).unwrap();
        let line =
            |request: &str| format!("192.0.2.7 - - [22/11/2026:00:34:50 +0000] \"{request}\" 200 12\n");
        let text: String = [
            "GET /api2/json/version HTTP/1.1",
            "POST /api2/json/access/ticket HTTP/1.1",
            "GET /api2/json/quarantine/sendlink?mail=a HTTP/1.1",
            "GET /api2/json/nodes/n/vncwebsocket?port=5900&vncticket=*** HTTP/1.1",
            "GET /quarantine?ticket=*** HTTP/1.1",
            "GET /pve2/css/x.css HTTP/1.1",
            "GET /api2/json/version HTTP/1.1",
            "-",
        ]
        .map(line)
        .concat();
        let json = r#"{"client":"::1","request":"GET /json?a=%22 HTTP/1.1","status":200}"#;
        let requests = of_text(&(text + json + "\nrubbish\n{rubbish\n"), &rules);
        assert_eq!(requests.targets, ["/json?a=%22", "/api2/json/version", "/pve2/css/x.css"]);
        assert_eq!(requests.left_out, 3);
    }
}

//! The GETs of an access log that may be replayed: they change nothing, end by themselves, and have no secret.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::structure::UnorderedLists;
use crate::config::Config;
use crate::config::route_table::MethodKind;
use crate::http::api_grammar::ApiGrammar;
use crate::http::path_pattern::PathPattern;
use crate::http::target::RequestTarget;
use crate::os::log_text;
use crate::proxy::router::RouteRules;

/// Limit of bytes that are read from the end of a log.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Requests that are kept, the newest.
const MAX_REQUESTS: usize = 2000;

/// The reason why a line of the log is not replayed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum LeftOut {
    NoGet,
    Repeated,
    Masked,
    Cut,
    Console,
    SideEffect,
    Unreadable,
    Probe,
    TooMany,
}

impl LeftOut {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoGet => "no GET",
            Self::Repeated => "repeated",
            Self::Masked => "with a secret that the log masks",
            Self::Cut => "cut by the log (log.target)",
            Self::Console => "consoles",
            Self::SideEffect => "with a side effect or a high cost (side_effects of the profile)",
            Self::Unreadable => "with a path that cannot be read",
            Self::Probe => "probes that nodegate answers itself",
            Self::TooMany => "beyond the newest 2000",
        }
    }
}

/// The rules of the profile for calls that are repeated.
pub(crate) struct RepeatRules {
    api: ApiGrammar,
    routes: RouteRules,
    side_effects: Vec<PathPattern>,
    unordered: Vec<(PathPattern, Vec<String>)>,
    /// paths that only nodegate answers; empty: none
    probes: [String; 2],
}

/// The targets to request, the newest first, and the number of lines that were left out for each reason.
pub(crate) struct LoggedRequests {
    pub(crate) targets: Vec<String>,
    pub(crate) left_out: BTreeMap<LeftOut, usize>,
}

impl RepeatRules {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let product = &config.product;
        let patterns = product.side_effects.iter().map(|text| PathPattern::parse(text));
        let unordered = product
            .compare
            .unordered
            .iter()
            .map(|(call, lists)| Ok((PathPattern::parse(call)?, lists.clone())));
        Ok(Self {
            api: ApiGrammar::new(product)?,
            routes: RouteRules::new(config),
            side_effects: patterns.collect::<Result<_, _>>()?,
            unordered: unordered.collect::<Result<_, String>>()?,
            probes: [config.settings.monitoring.health.clone(), config.settings.monitoring.ready.clone()],
        })
    }

    /// The lists without order in the answer to this target.
    pub(crate) fn unordered(&self, target: &str) -> UnorderedLists {
        let path = target.split('?').next().unwrap_or_default();
        let Ok(RequestTarget::Api(api)) = RequestTarget::parse(path, &self.api) else {
            return UnorderedLists::new();
        };
        let matching = self.unordered.iter().filter(|(pattern, _)| pattern.matches("GET", api.segments()));
        matching.flat_map(|(_, lists)| lists.iter().cloned()).collect()
    }

    /// Whether the target is a call of the API; otherwise it is a page or a file.
    pub(crate) fn is_call(&self, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        matches!(RequestTarget::parse(path, &self.api), Ok(RequestTarget::Api(_)))
    }

    fn check(&self, target: &str) -> Result<(), LeftOut> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if query.contains("=***") {
            return Err(LeftOut::Masked);
        }
        if log_text::is_shortened(target) {
            return Err(LeftOut::Cut);
        }
        if self.probes.iter().any(|probe| probe == path) {
            return Err(LeftOut::Probe);
        }
        let RequestTarget::Api(api) =
            RequestTarget::parse(path, &self.api).map_err(|_| LeftOut::Unreadable)?
        else {
            return Ok(());
        };
        if self.side_effects.iter().any(|it| it.matches("GET", api.segments())) {
            return Err(LeftOut::SideEffect);
        }
        match self.routes.table.find("GET", &api.joined()).map(|found| found.method.kind) {
            Some(MethodKind::Websocket | MethodKind::Upload) => Err(LeftOut::Console),
            Some(MethodKind::Call | MethodKind::Download) | None => Ok(()),
        }
    }
}

pub(crate) fn read_log(path: &Path, rules: &RepeatRules) -> io::Result<LoggedRequests> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_LOG_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(select(&String::from_utf8_lossy(&bytes), rules))
}

fn select(text: &str, rules: &RepeatRules) -> LoggedRequests {
    let mut seen = HashSet::new();
    let mut requests = LoggedRequests { targets: Vec::new(), left_out: BTreeMap::new() };
    for request in text.lines().rev().filter_map(request) {
        let admitted = match target(&request) {
            None => Err(LeftOut::NoGet),
            Some(target) if !seen.insert(target.to_owned()) => Err(LeftOut::Repeated),
            Some(target) => rules.check(target).map(|()| target),
        };
        match admitted {
            Ok(target) if requests.targets.len() < MAX_REQUESTS => requests.targets.push(target.to_owned()),
            Ok(_) => *requests.left_out.entry(LeftOut::TooMany).or_default() += 1,
            Err(reason) => *requests.left_out.entry(reason).or_default() += 1,
        }
    }
    requests
}

/// The request of a line of either form, if it holds one.
fn request(line: &str) -> Option<String> {
    let object: Option<Value> = line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten();
    let request = match &object {
        Some(object) => object.get("request")?.as_str()?,
        None => line.split('"').nth(1)?,
    };
    (request.split(' ').count() > 1).then(|| request.to_owned())
}

fn target(request: &str) -> Option<&str> {
    let target = request.strip_prefix("GET ")?.split(' ').next()?;
    target.starts_with('/').then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;

    fn rules(profile: &str) -> RepeatRules {
        RepeatRules::new(&Config::load(profile, &ConfigSources::default()).unwrap()).unwrap()
    }

    #[test]
    fn only_safe_gets_are_replayed() {
        let line =
            |request: &str| format!("192.0.2.7 - - [22/11/2026:00:34:50 +0000] \"{request}\" 200 12\n");
        let text: String = [
            "GET /api2/json/version HTTP/1.1",
            "POST /api2/json/access/ticket HTTP/1.1",
            "GET /api2/json/quarantine/sendlink?mail=a HTTP/1.1",
            "GET /api2/json/nodes/n/vncwebsocket?port=5900&vncticket=x HTTP/1.1",
            "GET /quarantine?ticket=*** HTTP/1.1",
            "GET /api2/json/nodes/n/journal HTTP/1.1",
            "GET /%ff HTTP/1.1",
            "GET /-/ready HTTP/1.1",
            "GET /api2/json/nodes/n/tasks?x=aaaa...<+7168> HTTP/1.1",
            "GET /pve2/css/x.css HTTP/1.1",
            "GET /api2/json/version HTTP/1.1",
            "-",
        ]
        .map(line)
        .concat();
        let json = r#"{"client":"::1","request":"GET /json?a=%22 HTTP/1.1","status":200}"#;
        let requests = select(&(text + json + "\nrubbish\n{rubbish\n"), &rules("pmg"));
        let expected = ["/json?a=%22", "/api2/json/version", "/pve2/css/x.css", "/api2/json/nodes/n/journal"];
        assert_eq!(requests.targets, expected);
        let reasons: Vec<_> = requests.left_out.into_iter().collect();
        let each = [
            LeftOut::NoGet,
            LeftOut::Repeated,
            LeftOut::Masked,
            LeftOut::Cut,
            LeftOut::Console,
            LeftOut::SideEffect,
            LeftOut::Unreadable,
            LeftOut::Probe,
        ];
        assert_eq!(reasons, each.map(|reason| (reason, 1)));
    }

    #[test]
    fn the_newest_are_kept() {
        let lines: Vec<_> =
            (0..MAX_REQUESTS + 3).map(|number| format!("x \"GET /{number} HTTP/1.1\"")).collect();
        let requests = select(&lines.join("\n"), &rules("pve"));
        assert_eq!(requests.targets.len(), MAX_REQUESTS);
        assert_eq!(requests.targets.first().unwrap(), &format!("/{}", MAX_REQUESTS + 2));
        assert_eq!(requests.left_out.get(&LeftOut::TooMany), Some(&3));
    }

    #[test]
    fn the_profiles_name_lists_without_order() {
        let pve = rules("pve");
        for format in ["json", "extjs"] {
            let lists = pve.unordered(&format!("/api2/{format}/cluster/resources?type=vm"));
            assert!(lists.contains("data"), "{format}");
        }
        assert!(pve.unordered("/api2/json/cluster/firewall/rules").is_empty(), "rules have an order");
        assert!(pve.unordered("/cluster/resources").is_empty());
        for (profile, calls) in [("pve", 60), ("pmg", 25)] {
            let rules = rules(profile);
            assert!(rules.unordered.len() >= calls, "{profile}: {}", rules.unordered.len());
            let config = Config::load(profile, &ConfigSources::default()).unwrap();
            for call in config.product.compare.unordered.keys() {
                let path = call.strip_prefix("GET ").unwrap();
                assert!(rules.routes.table.find("GET", path).is_some(), "{call} is no call of {profile}");
            }
        }
    }
}

//! Metrics as Prometheus reads them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Monitored, curl};
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Outcome, Session, Site};

const VERSION: &str = "/api2/json/version";
const PROBES: &str = "nodegate_requests_total{route=\"probe\",status=\"2xx\"}";

/// Names of the families in the text, as the reader of Prometheus' own library for Python finds them.
const READER: &str = "import sys\n\
from prometheus_client.parser import text_string_to_metric_families as read\n\
for family in read(sys.stdin.read()):\n    \
    assert family.documentation and family.type != 'unknown' and family.samples, family.name\n    \
    print('\\n'.join(sorted({sample.name for sample in family.samples})))\n";

fn families(text: &str) -> BTreeSet<String> {
    let mut reader = Command::new("/usr/bin/python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "python3-prometheus-client cannot read it: {text}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The metrics contain no secret.
#[test]
fn prometheus_reads_every_metric() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &[]);
    let ticket = site.ticket("root@pam");
    assert_eq!(monitored.gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    assert_eq!(monitored.gate.get("/secret-path", "").status, 404);
    let text = curl(&[&format!("http://127.0.0.1:{}/metrics", monitored.port)]);
    let names = families(&text);
    for name in ["nodegate_requests_total", "nodegate_request_duration_seconds_bucket", "nodegate_build_info"]
    {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    for secret in ["root@pam", "secret-path", "version\"", &ticket, "127.0.0.1"] {
        let reported = text.replace("{version=\"", "");
        assert!(!reported.contains(secret), "{secret} is in {text}");
    }
}

/// The rows that `docs/reference/metrics.md` has to have: name, type and labels of each family.
fn rows(text: &str) -> BTreeSet<String> {
    let families = text.split("# TYPE ").skip(1).map(|family| {
        let (first, samples) = family.split_once('\n').unwrap();
        let (name, kind) = first.split_once(' ').unwrap();
        let sample = samples.lines().find(|line| line.starts_with(name)).unwrap();
        let (_, labels) = sample.split(' ').next().unwrap().split_once('{').unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        let labels = labels.filter(|label| *label != "le").map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        format!("| `{name}` | {kind} | {labels} |").replace("|  |", "| |")
    });
    families.collect()
}

#[test]
fn every_metric_is_documented() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &[]);
    let text = curl(&[&format!("http://127.0.0.1:{}/metrics", monitored.port)]);
    let documented = documented().map(|cells| format!("| {} | {} | {} |", cells[0], cells[1], cells[2]));
    assert_eq!(rows(&text), documented.map(|row| row.replace("|  |", "| |")).collect());
}

/// The cells of each metric's row in the reference: name, type, labels, and the new name if this one is deprecated.
fn documented() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = include_str!("../../../docs/reference/metrics.md").lines();
    let rows = lines.filter(|line| line.starts_with("| `nodegate_"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// The deprecated names, each with the name that replaces it.
fn renamed() -> Vec<(&'static str, &'static str)> {
    let cells = documented().filter(|cells| cells.len() == 4);
    cells.map(|cells| (cells[0].trim_matches('`'), cells[3].trim_matches('`'))).collect()
}

/// The help of each deprecated name says what replaces it.
#[test]
fn deprecated_names_have_the_same_values() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &["limits.body=10"]);
    let mut session = monitored.gate.connect();
    assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    assert_eq!(session.request("POST", "/api2/json/access/ticket", "", &[b'x'; 100]).status, 413);
    assert_eq!(monitored.gate.get(VERSION, "").status, 401);
    eventually("all is counted", || monitored.sample("nodegate_unauthorized_responses_total") == 1);
    let text = monitored.metrics();
    let samples = |name: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter(|rest| rest.starts_with(['{', ' ', '_'])).map(str::to_owned).collect()
    };
    assert_eq!(renamed().len(), 8);
    for (former, name) in renamed() {
        assert!(!samples(name).is_empty(), "{name}");
        assert_eq!(samples(former), samples(name), "{former}");
        assert!(text.contains(&format!("# HELP {former} Deprecated: use {name}.\n")), "{former}: {text}");
    }
    for limit in ["nodegate_limits_hit_total", "nodegate_limit_rejections_total"] {
        assert_eq!(monitored.sample(&format!("{limit}{{limit=\"body\"}}")), 1);
    }
}

#[test]
fn what_happens_is_counted_by_route_and_status() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &["acl.deny_from=127.0.0.9", "limits.body=10"]);
    let mut session = monitored.gate.connect();
    for _ in 0..3 {
        assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    assert_eq!(session.request("GET", "/nope", "", b"").status, 404);
    assert_eq!(session.request("GET", "/-/health", "", b"").status, 200);
    assert_eq!(session.request("POST", "/api2/json/access/ticket", "", &[b'x'; 100]).status, 413);
    assert_eq!(monitored.gate.get(VERSION, "").status, 401);
    eventually("all is counted", || {
        monitored.sample("nodegate_requests_total{route=\"none\",status=\"4xx\"}") == 2
    });
    for (name, value) in [
        ("nodegate_requests_total{route=\"daemon\",status=\"2xx\"}", 3),
        ("nodegate_requests_total{route=\"daemon\",status=\"4xx\"}", 1),
        ("nodegate_requests_total{route=\"probe\",status=\"2xx\"}", 1),
        ("nodegate_request_duration_seconds_count{route=\"daemon\"}", 4),
        ("nodegate_request_duration_seconds_bucket{route=\"daemon\",le=\"+Inf\"}", 4),
        ("nodegate_upstream_response_header_seconds_count", 3),
        ("nodegate_upstream_errors_total{phase=\"connect\"}", 0),
        ("nodegate_unauthorized_responses_total", 1),
        ("nodegate_limit_rejections_total{limit=\"body\"}", 1),
        ("nodegate_tls_handshakes_total{version=\"1.3\",resumed=\"false\"}", 2),
        ("nodegate_connections_total", 2),
        ("nodegate_draining", 0),
    ] {
        assert_eq!(monitored.sample(name), value, "{name}");
    }
    assert!(monitored.sample("nodegate_response_body_bytes_total") > 0);
    let expiry = monitored.sample("nodegate_certificate_expiry_timestamp_seconds{certificate=\"1\"}");
    assert!(expiry > monitored.sample("nodegate_start_time_seconds"));
}

#[test]
fn a_stopped_daemon_counts_in_its_phase() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &["backend.address=127.0.0.1:1"]);
    assert_eq!(monitored.gate.get(VERSION, &site.cookie("root@pam")).status, 595);
    eventually("it is counted", || {
        monitored.sample("nodegate_requests_total{route=\"daemon\",status=\"5xx\"}") == 1
    });
    assert_eq!(monitored.sample("nodegate_upstream_errors_total{phase=\"connect\"}"), 1);
}

/// A reload keeps all counts. It also moves the metrics listener.
#[test]
fn reloads_are_counted_by_outcome() {
    let site = Site::pve();
    let mut monitored = Monitored::start(&site, &[]);
    let port = format!("listen.port={}", monitored.gate.port());
    let reload = || Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert_eq!(monitored.gate.get("/-/health", "").status, 200);
    eventually("it is counted", || monitored.sample(PROBES) == 1);
    assert_eq!(reload().code, 0);
    assert_eq!(monitored.gate.get("/-/health", "").status, 200);
    eventually("it is counted as well", || monitored.sample(PROBES) == 2);
    site.write("/etc/nodegate/pve.toml", "workers = \"x\"\n[log]\nformat = \"xml\"\n");
    assert_eq!(reload().code, 1);
    assert_eq!(monitored.sample("nodegate_reloads_total{outcome=\"done\"}"), 1);
    assert_eq!(monitored.sample("nodegate_reloads_total{outcome=\"refused\"}"), 1);
    site.write("/etc/nodegate/pve.toml", "");
    assert_eq!(Outcome::ask(&site, &["--set", &port, "reload", "pve", "--confirm", "1"]).code, 0);
    for outcome in ["reverted", "taken_back"] {
        let name = format!("nodegate_reloads_total{{outcome=\"{outcome}\"}}");
        eventually("nobody confirms it", || monitored.sample(&name) == 1);
    }
    drop(monitored.gate);

    let (first, second) = (free_port(), free_port());
    let settings = |port: u16| format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    site.write("/etc/nodegate/pve.toml", settings(first));
    monitored = Monitored { gate: Nodegate::start(&site, &[]), port: first };
    let is_there = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("it listens", || is_there(first));
    site.write("/etc/nodegate/pve.toml", settings(second));
    monitored.gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it has moved", || is_there(second) && !is_there(first));
}

/// Methods that write are rejected.
#[test]
fn only_listed_addresses_read_metrics() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &["metrics.allow_from=192.0.2.1"]);
    let mut turned_away = Session::plain(([127, 0, 0, 1], monitored.port).into());
    let _ = turned_away.try_send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(turned_away.try_reply(false).is_none());
    drop(monitored);

    let monitored = Monitored::start(&site, &[]);
    let reply = monitored.ask("POST", "/metrics");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(monitored.ask("GET", "/metric").status, 404);
    let head = monitored.ask("HEAD", "/metrics");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(monitored.gate.get("/metrics", "").status, 404, "not where everybody asks");
}

#[test]
fn metrics_socket_serves_curl_and_is_removed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["metrics.listen=unix:/run/metrics.sock"]);
    let socket = site.path("/run/metrics.sock");
    eventually("it is there", || socket.exists());
    let text = curl(&["--unix-socket", socket.to_str().unwrap(), "http://localhost/metrics"]);
    assert!(text.contains("\nnodegate_connections_open 0\n"), "{text}");
    assert_eq!(gate.stop().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn the_dashboard_shows_only_existing_metrics() {
    let site = Site::pve();
    let monitored = Monitored::start(&site, &[]);
    let names = families(&monitored.metrics());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let text = dashboard.to_string();
    let used: BTreeSet<_> = regex::Regex::new("nodegate_[a-z0-9_]+")
        .unwrap()
        .find_iter(&text)
        .map(|found| found.as_str().to_owned())
        .collect();
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<_> = used.difference(&names).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let deprecated: Vec<_> = renamed().into_iter().filter(|(former, _)| text.contains(former)).collect();
    assert!(deprecated.is_empty(), "{deprecated:?}");
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}

#[test]
fn a_file_at_the_sockets_path_stays() {
    let site = Site::pve();
    site.write("/run/metrics.sock", "mine");
    let gate = Nodegate::start(&site, &["metrics.listen=unix:/run/metrics.sock"]);
    eventually("it is logged", || gate.stderr().contains("metrics.listen: unix:"));
    assert_eq!(gate.get("/-/health", "").status, 200);
    assert_eq!(gate.stop().code(), Some(0));
    assert_eq!(fs::read_to_string(site.path("/run/metrics.sock")).unwrap(), "mine");
}

/// What starts or reloads nodegate need not wait before it asks for metrics.
#[test]
fn metrics_are_served_when_a_start_is_reported() {
    let site = Site::pve();
    let ports = [free_port(), free_port()];
    let serves = |port: u16| {
        let reply = Session::plain(([127, 0, 0, 1], port).into()).request("GET", "/metrics", "", b"");
        assert_eq!(reply.status, 200);
    };
    let move_to = |port: u16| {
        site.write("/etc/nodegate/pve.toml", format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n"));
    };
    move_to(ports[0]);
    for _ in 0..5 {
        let _gate = Nodegate::start(&site, &[]);
        serves(ports[0]);
    }
    let gate = Nodegate::start(&site, &[]);
    for port in [ports[1], ports[0], ports[1], ports[0]] {
        move_to(port);
        let listen = format!("listen.port={}", gate.port());
        assert_eq!(Outcome::ask(&site, &["--set", &listen, "reload", "pve"]).code, 0);
        serves(port);
    }
}

/// A successor meets the socket of its predecessor for a moment, which is no news.
#[test]
fn a_taken_address_is_named_after_a_while() {
    let site = Site::pve();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.write("/etc/nodegate/pve.toml", format!("[metrics]\nlisten = \"{address}\"\n"));
    let gate = Nodegate::start(&site, &[]);
    let warning = format!("metrics.listen: {address}: Address already in use");
    assert!(!gate.stderr().contains(&warning), "{}", gate.stderr());
    eventually("the warning", || gate.stderr().contains(&warning));
    drop(taken);
    eventually("the metrics", || std::net::TcpStream::connect(address).is_ok());
    assert_eq!(gate.stderr().matches(&warning).count(), 1);
}

//! The access log as JSON, and the number of a request that leads from an answer to what was logged of it.

use std::fs;

use serde_json::{Value, json};

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Site};

const VERSION: &str = "/api2/json/version";
const JSON: &str = "log.format=json";

/// The objects in the log, once there are so many.
fn lines(site: &Site, count: usize) -> Vec<Value> {
    eventually("the lines are there", || site.access_log().lines().count() >= count);
    let log = site.access_log();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn json_lines_name_upstream_time_and_protocol() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[JSON]);
    let reply = gate.get(&format!("{VERSION}?vncticket=SECRET"), &site.cookie("root@pam"));
    let line = &lines(&site, 1)[0];
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["user"], "root@pam");
    assert_eq!(line["request"], format!("GET {VERSION}?vncticket=*** HTTP/1.1"));
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(reply.body.len())));
    assert_eq!(line["upstream"], site.daemon.address().to_string());
    let (all, upstream) = (line["latency"].as_f64().unwrap(), line["upstream_latency"].as_f64().unwrap());
    assert!(upstream > 0.0 && upstream <= all, "{line}");
    assert_eq!(line["tls"], "TLSv1.3");
    assert!(line["cipher"].as_str().unwrap().starts_with("TLS_"), "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(
        regex::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$").unwrap().is_match(time)
    );
}

#[test]
fn what_is_not_known_is_null() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[JSON]);
    assert_eq!(gate.get("/no\"pe", "").status, 404);
    let line = &lines(&site, 1)[0];
    assert_eq!(
        (&line["user"], &line["upstream"], &line["upstream_latency"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(line["request"], "GET /no%22pe HTTP/1.1");
    let mut plain = crate::support::Session::plain(gate.local());
    plain.send("rubbish\r\n\r\n");
    plain.rest();
    let line = &lines(&site, 2)[1];
    assert_eq!((&line["request"], &line["status"]), (&json!("-"), &json!(400)));
    assert_eq!((&line["tls"], &line["request_id"]), (&Value::Null, &Value::Null));
}

#[test]
fn daemon_errors_carry_the_logged_request_number() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[JSON, "backend.address=127.0.0.1:1"]);
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_eq!(reply.status, 595);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    let id = message.split(", request ").nth(1).unwrap();
    let line = &lines(&site, 1)[0];
    assert_eq!(line["request_id"], id);
    assert_eq!(line["upstream"], "127.0.0.1:1");
    eventually("the debug log has it", || {
        gate.stderr()
            .lines()
            .any(|line| line.contains("request failed") && line.ends_with(&format!("request={id}")))
    });
    let other = gate.get(VERSION, &site.cookie("root@pam"));
    assert!(!other.json()["message"].as_str().unwrap().ends_with(id), "each request has one of its own");
}

#[test]
fn the_form_can_be_changed_by_a_reload() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(gate.get("/first", "").status, 404);
    site.write("/etc/nodegate/pve.toml", "[log]\nformat = \"json\"\n");
    let port = format!("listen.port={}", gate.port());
    let reload = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert_eq!(reload.stdout, "reloaded; changed: log.format\n", "{reload:?}");
    assert_eq!(gate.get("/second", "").status, 404);
    eventually("both are there", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    let (first, second) = log.split_once('\n').unwrap();
    assert!(first.ends_with("\"GET /first HTTP/1.1\" 404 22"), "{first}");
    assert!(second.starts_with('{'), "{second}");
    let wrong = Outcome::check(&site, &["log.format=xml"]);
    wrong.complains("--set: log.format: must be text or json, not 'xml'");
}

#[test]
fn a_moved_log_reopens_without_signal() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let log = site.path("/var/log/pveproxy/access.log");
    gate.get("/before", "");
    eventually("the first line is there", || site.access_log().contains("/before"));
    fs::rename(&log, site.path("/var/log/pveproxy/access.log.1")).unwrap();
    eventually("a new file has later lines", || {
        gate.get("/after", "");
        site.access_log().contains("/after")
    });
    fs::remove_file(&log).unwrap();
    eventually("so it is after it was removed", || {
        gate.get("/again", "");
        site.access_log().contains("/again")
    });
}

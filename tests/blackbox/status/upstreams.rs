//! The number in an error of a daemon or a node: the log has it at warning level, and `status` names the upstream.

use serde_json::Value;

use super::{ask, report};
use crate::cluster::machines::Cluster;
use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Reply, Site};

const VERSION: &str = "/api2/json/version";

/// The number at the end of an error.
fn request_number(reply: &Reply) -> String {
    let json = reply.json();
    json["message"].as_str().unwrap().split(", request ").nth(1).unwrap().to_owned()
}

/// The warnings that hold a text; the debug log has more lines.
fn warnings(gate: &Nodegate, text: &str) -> Vec<String> {
    gate.stderr()
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains(text))
        .map(str::to_owned)
        .collect()
}

fn upstream(site: &Site, gate: &Nodegate, name: &str) -> Value {
    let report = report(site, gate, "pve");
    let found = report["upstreams"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn a_failing_daemon_is_in_log_and_status() {
    let site = Site::pve();
    let address = format!("127.0.0.1:{}", free_port());
    let gate = Nodegate::start(&site, &[&format!("backend.address={address}")]);
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    let number = request_number(&reply);
    eventually("the log has it", || {
        warnings(&gate, "Connection refused").iter().any(|line| line.ends_with(&format!("request={number}")))
    });
    let daemon = upstream(&site, &gate, "daemon");
    assert_eq!((&daemon["address"], &daemon["unreachable"]), (&address.into(), &"Connection refused".into()));
    assert_eq!((&daemon["answered"], &daemon["failed"]), (&0.into(), &1.into()));
    assert_eq!(daemon["last_answer"], Value::Null);
    assert_eq!(daemon["last_failure"]["request"], number);
    assert!(daemon["last_failure"]["cause"].as_str().unwrap().starts_with("Connection refused (connecting"));
    let shown = ask(&site, &gate, &["status"]).stdout;
    let line = shown.lines().find(|line| line.starts_with("  daemon ")).unwrap();
    assert!(
        line.contains("not reachable at 127.0.0.1:") && line.contains("; 0 answered; 1 failed"),
        "{line}"
    );
    assert!(line.contains(&format!("request {number}: Connection refused")), "{line}");
}

#[test]
fn many_failures_are_a_few_warnings() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    for _ in 0..40 {
        assert_eq!(session.request("GET", "/api2/json/standin/rubbish", &cookie, b"").status, 599);
    }
    assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
    let daemon = upstream(&site, &gate, "daemon");
    assert_eq!(
        (&daemon["failed"], &daemon["answered"], &daemon["unreachable"]),
        (&40.into(), &1.into(), &Value::Null)
    );
    let lines = warnings(&gate, "Invalid server response").len();
    assert!((10..=30).contains(&lines), "{lines} warnings of 40 failures");
}

#[test]
fn an_unreachable_worker_is_reported() {
    let site = Site::pve();
    let gone = format!("127.0.0.1:{}", free_port());
    let gate = Nodegate::start(&site, &[&format!("backend.unprivileged={gone}")]);
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    eventually("the log has it", || {
        warnings(&gate, &format!("using {} instead", site.daemon.address())).len() == 1
    });
    let (worker, daemon) = (upstream(&site, &gate, "worker"), upstream(&site, &gate, "daemon"));
    assert_eq!((&worker["answered"], &worker["failed"]), (&0.into(), &1.into()));
    assert_eq!((&daemon["answered"], &daemon["failed"]), (&1.into(), &0.into()));
    assert_eq!(
        (&worker["unreachable"], &daemon["unreachable"]),
        (&"Connection refused".into(), &Value::Null)
    );
}

#[test]
fn each_other_node_has_a_line() {
    let cluster = Cluster::pve(3);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let cookie = site.cookie("root@pam");
    let call = |node: &str| first.get(&format!("/api2/json/nodes/{node}/status"), &cookie);
    assert_eq!(call("node2").status, 200);
    let (down, unseen) = (call("node3"), call("unseen"));
    assert_eq!((down.status, unseen.status), (595, 595));
    let reported = report(site, &first, "pve");
    let names: Vec<_> =
        reported["upstreams"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["daemon", "node node2", "node node3", "node unseen"]);
    let [second, third, unknown] =
        ["node node2", "node node3", "node unseen"].map(|name| upstream(site, &first, name));
    assert_eq!(
        (&second["answered"], &second["failed"], &second["unreachable"]),
        (&1.into(), &0.into(), &Value::Null)
    );
    assert_eq!((&third["answered"], &third["failed"]), (&0.into(), &1.into()));
    assert_eq!(third["last_failure"]["request"], request_number(&down));
    assert_eq!((&unknown["address"], &unknown["failed"]), (&Value::Null, &1.into()));
    assert_eq!(unknown["last_failure"]["request"], request_number(&unseen));
    for number in [request_number(&down), request_number(&unseen)] {
        eventually("the log has it", || {
            warnings(&first, "got no answer").iter().any(|line| line.ends_with(&format!("request={number}")))
        });
    }
}

#[test]
fn an_interrupted_response_is_reported() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    session.send(format!("GET /api2/json/standin/short?size=9000000 HTTP/1.1\r\nHost: x\r\n{cookie}\r\n"));
    assert!(session.rest().len() < 9_000_000);
    eventually("the log has it", || warnings(&gate, "the response body of the daemon broke off").len() == 1);
    let line = &warnings(&gate, "broke off")[0];
    let number = line.split(", request ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let daemon = upstream(&site, &gate, "daemon");
    assert_eq!((&daemon["answered"], &daemon["failed"]), (&1.into(), &1.into()));
    assert_eq!(daemon["last_failure"]["request"], number);
}

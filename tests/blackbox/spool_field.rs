//! nodegate refuses each call that names a spool file, in every place and for every daemon.

use std::process::Command;

use crate::cluster::machines::Cluster;
use crate::support::{Nodegate, Site};

const SPOOL: &str = "/var/tmp/pveupload-0123456789abcdef0123456789abcdef";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const PARTS: &str = "multipart/form-data; boundary=b";

/// Calls that are no uploads in the route table, and calls that are not in it.
const CALLS: [(&str, &str); 12] = [
    ("PUT", "/nodes/node1/storage/local/upload"),
    ("POST", "/nodes/node1/storage/local/upload;"),
    ("POST", "/nodes/node1/storage/local/upload%3B"),
    ("POST", "/nodes/node1/storage/lo%2fcal/upload"),
    ("POST", "/nodes/node1/storage/local/upload/x"),
    ("POST", "/nodes/node1/storage/local/uploads"),
    ("POST", "/nodes/node1/qemu/100/status/start"),
    ("POST", "/no/such/call"),
    ("POST", "/access/ticket"),
    ("PUT", "/cluster/options"),
    ("DELETE", "/access/users/bob@pve"),
    ("DELETE", "/nodes/node1/storage/local/upload"),
];

fn queries() -> Vec<String> {
    ["tmpfilename", "a=1&tmpfilename", "a=1;tmpfilename", "%74mpfilenam%65", "TmpFileName", "&;tmpfilename"]
        .map(|name| format!("{name}={SPOOL}"))
        .into_iter()
        .chain(["tmpfilename".to_owned(), "a&tmpfilename".to_owned()])
        .collect()
}

/// Content types and bodies.
fn bodies() -> Vec<(&'static str, String)> {
    let part =
        |head: &str| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{SPOOL}\r\n--b--\r\n");
    let mut bodies: Vec<_> = queries().into_iter().map(|query| (FORM, query)).collect();
    bodies.extend([
        ("", format!("tmpfilename={SPOOL}")),
        ("application/x-www-form-urlencoded; charset=utf-8", format!("x=1;tmpfilename={SPOOL}")),
        (JSON, format!(r#"{{"tmpfilename":"{SPOOL}"}}"#)),
        (JSON, format!(r#"{{"a":{{}},"\u0074mpfilename":["{SPOOL}"]}}"#)),
        (JSON, format!(r#"{{"tmpfilename":1,"tmpfilename":"{SPOOL}"}}"#)),
        ("application/json;charset=UTF-8", format!(r#"{{"tmpfilename":"{SPOOL}"}}"#)),
        ("text/plain", format!("tmpfilename={SPOOL}")),
        (PARTS, part("name=\"tmpfilename\"")),
        (PARTS, part("name=tmp\\filename")),
        (PARTS, part("name*=utf-8''tmp%66ilename")),
    ]);
    bodies
}

fn line(kind: &str) -> String {
    if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") }
}

#[test]
fn no_call_names_a_spool_file() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let known = site.cookie("root@pam") + &site.csrf("root@pam");
    let mut session = gate.connect();
    let mut refused = |method: &str, path: &str, headers: &str, body: &[u8]| {
        let reply = session.request(method, path, headers, body);
        let what = format!("{method} {path} {headers}{}", String::from_utf8_lossy(body));
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(
            reply.text().contains("parameter 'tmpfilename' is set only by the server"),
            "{}",
            reply.text()
        );
        session = gate.connect();
    };
    for (method, path) in CALLS {
        let path = format!("/api2/json{path}");
        for query in queries() {
            refused(method, &format!("{path}?{query}"), &known, b"");
        }
        for (kind, body) in bodies() {
            refused(method, &path, &(known.clone() + &line(kind)), body.as_bytes());
        }
    }
    let reads =
        ["version", "nodes/node1/storage/local/upload", "nodes/node1/qemu/100/vncwebsocket", "access/ticket"];
    for path in reads {
        for query in queries() {
            refused("GET", &format!("/api2/extjs/{path}?{query}"), &known, b"");
            refused("GET", &format!("/api2/html/{path}?{query}"), &known, b"");
        }
    }
    assert!(site.daemon.requests().is_empty(), "{:?}", site.daemon.requests());
}

#[test]
fn no_call_over_http2_names_one() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["http2=true"]);
    let ticket = format!("PVEAuthCookie={}", site.ticket("root@pam"));
    let csrf = site.csrf("root@pam");
    let ask = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-sk",
                "--http2",
                "--max-time",
                "60",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{http_version}",
            ])
            .args(["-b", &ticket, "-H", csrf.trim_end()])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "400 2", "{arguments:?}");
    };
    for (method, path) in CALLS {
        let url = format!("https://127.0.0.1:{}/api2/json{path}", gate.port());
        ask(&["-X", method, &format!("{url}?tmpfilename={SPOOL}")]);
        ask(&["-X", method, "--data", &format!("a=1&tmpfilename={SPOOL}"), &url]);
        let json = format!(r#"{{"tmpfilename":"{SPOOL}"}}"#);
        ask(&["-X", method, "-H", "Content-Type: application/json", "--data", &json, &url]);
    }
    assert!(site.daemon.requests().is_empty(), "{:?}", site.daemon.requests());
}

#[test]
fn no_call_to_another_node_names_one() {
    let cluster = Cluster::pve(2);
    let first = cluster.start(1, &[]);
    let _second = cluster.start(2, &[]);
    let site = &cluster.nodes[0].site;
    let known = site.cookie("root@pam") + &site.csrf("root@pam");
    let path = "/api2/json/nodes/node2/qemu/100/status/start";
    for query in queries() {
        assert_eq!(first.request("POST", &format!("{path}?{query}"), &known, b"").status, 400, "{query}");
    }
    for (kind, body) in bodies() {
        let headers = known.clone() + &line(kind);
        assert_eq!(first.request("POST", path, &headers, body.as_bytes()).status, 400, "{kind} {body}");
    }
    for node in &cluster.nodes {
        assert!(node.site.daemon.requests().is_empty());
    }
    assert_eq!(first.request("POST", path, &known, b"a=tmpfilename").status, 200);
}

#[test]
fn calls_that_only_mention_the_field_pass() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let known = site.cookie("root@pam") + &site.csrf("root@pam");
    let path = "/api2/json/nodes/node1/standin/echo";
    for (method, query, kind, body) in [
        ("GET", "note=tmpfilename&b=x%26tmpfilename%3D1", "", ""),
        ("PUT", "a=tmpfilename=1", FORM, "description=tmpfilename&b=the+tmpfilename%3Dx%3Btmpfilename=y"),
        ("POST", "", JSON, r#"{"description":"a&tmpfilename=b","list":["tmpfilename"],"x":"\u00fc"}"#),
        ("POST", "xtmpfilename=1", FORM, "tmpfilenames=1&tmp_filename=2&tmpfilename.=3"),
        ("DELETE", "", FORM, "note=tmpfilename"),
    ] {
        let headers = known.clone() + &line(kind);
        let reply = gate.request(method, &format!("{path}?{query}"), &headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{method} {query} {body}: {}", reply.text());
        if method != "DELETE" {
            assert_eq!(site.daemon.last().text(), body);
        }
    }
}

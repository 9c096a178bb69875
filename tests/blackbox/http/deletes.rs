//! DELETE with a body. The daemon refuses one; client libraries send it all the same.

use std::path::Path;
use std::process::Command;

use super::VERSION;
use crate::support::{Nodegate, Site};

const USER: &str = "/api2/json/access/users/joe@pve";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

#[test]
fn body_parameters_are_forwarded_as_query() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let cases = [
        ("", "", "a=1&b=x+y", "a=1&b=x%20y"),
        ("?c=3", FORM, "a=1;b", "c=3&a=1&b"),
        ("?a=3&d=<", FORM, "a=1&b=2", "a=3&d=%3C&b=2"),
        ("", JSON, r#"{"purge":true,"ids":["x",7],"note":"\u00fc&"}"#, "ids=x&ids=7&note=%C3%BC%26&purge=1"),
        ("?x", JSON, "{}", "x"),
        ("", JSON, "null", ""),
        ("", "", "", ""),
    ];
    let mut session = gate.connect();
    for (query, kind, body, expected) in cases {
        let before = site.daemon.requests().len();
        let path = format!("{USER}{query}");
        let reply = session.request("DELETE", &path, &(headers.clone() + kind), body.as_bytes());
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        let seen = site.daemon.last();
        assert_eq!((site.daemon.requests().len(), seen.query()), (before + 1, expected), "{body}");
        assert_eq!((seen.path(), seen.body.as_slice()), (USER, &b""[..]), "{body}");
        assert!(seen.header("content-length").is_none() && seen.header("content-type").is_none());
    }
    session.send(format!(
        "DELETE {USER} HTTP/1.1\r\nHost: node1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n0\r\n\r\n"
    ));
    assert_eq!(session.reply(false).status, 200);
    assert_eq!(site.daemon.last().query(), "a=1");
    assert_eq!(session.request("GET", VERSION, &headers, b"").status, 200);
}

#[test]
fn parameters_that_fit_no_query_are_refused() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let many = "a=1&".repeat(257);
    let long = format!("a={}", "%25".repeat(20_000));
    let cases = [
        (JSON, r#"{"ok":1,"deep":{"a":1}}"#, 400, "the parameter 'deep' in the body is nested"),
        (JSON, r#"[{"a":1}]"#, 400, "must be one JSON object"),
        (JSON, r#"{"a":"#, 400, "the body is not JSON: line 1, column 5"),
        (FORM, &many, 400, "too many parameters in the body (limit 256)"),
        (FORM, &long, 400, "do not fit into the URL (limit 32768 bytes)"),
        ("Content-Type: text/plain\r\n", "a=1", 501, "Unexpected content for method 'DELETE'"),
    ];
    for (kind, body, status, message) in cases {
        let reply = gate.request("DELETE", USER, &(headers.clone() + kind), body.as_bytes());
        assert_eq!(reply.status, status, "{}", reply.text());
        let reported = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(reported.contains(message), "{reported}");
    }
    let large = "a".repeat(524_289);
    assert_eq!(gate.request("DELETE", USER, &(headers.clone() + FORM), large.as_bytes()).status, 413);
    let reply = gate.request("DELETE", USER, &site.cookie("root@pam"), b"a=1");
    assert_eq!((reply.status, reply.reason.as_str()), (401, "Permission denied - invalid csrf token"));
    assert_eq!(site.daemon.requests().len(), 0);
}

#[test]
fn secrets_of_a_body_stay_out_of_logs() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["log.access=/var/log/pveproxy/access.log"]);
    let headers = site.cookie("root@pam") + &site.csrf("root@pam") + JSON;
    let body = br#"{"password":"hunter2-secret"}"#;
    assert_eq!(gate.request("DELETE", &format!("{USER}?x=1"), &headers, body).status, 200);
    assert_eq!(site.daemon.last().query(), "x=1&password=hunter2-secret");
    let nested = br#"{"password":{"a":"hunter2-secret"}}"#;
    let refused = gate.request("DELETE", USER, &headers, nested);
    assert!(refused.status == 400 && !refused.text().contains("hunter2"), "{}", refused.text());
    let said = gate.stderr();
    assert!(gate.stop().success());
    let log = site.access_log();
    assert!(log.contains(&format!("\"DELETE {USER}?x=1 HTTP/1.1\" 200")), "{log}");
    assert!(!log.contains("hunter2") && !said.contains("hunter2"), "{log}{said}");
}

/// Runs a client with the address, a cookie and a token, and returns the query that the daemon has seen.
fn deleted_by(program: &Path, arguments: &[&str]) -> String {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let value = |line: String| line.trim().split_once(": ").map(|(_, value)| value.to_owned()).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .env("DOOR", format!("https://127.0.0.1:{}{USER}", gate.port()))
        .env("TICKET", value(site.cookie("root@pam")))
        .env("TOKEN", value(site.csrf("root@pam")))
        .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
        .env("PYTHONWARNINGS", "ignore")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(said, "200", "{}", String::from_utf8_lossy(&output.stderr));
    let seen = site.daemon.last();
    assert_eq!((seen.method.as_str(), seen.body.len()), ("DELETE", 0));
    seen.query().to_owned()
}

#[test]
fn curl_deletes_with_a_form_or_json() {
    let curl = r#"curl -ks --max-time 20 -o /dev/null -w '%{http_code}' -b "$TICKET" -H "CSRFPreventionToken: $TOKEN" "#;
    let form = format!("{curl} -X DELETE -d purge=1 --data-urlencode 'note=a b&c' \"$DOOR\"");
    assert_eq!(deleted_by(Path::new("sh"), &["-c", &form]), "purge=1&note=a%20b%26c");
    let json = format!("{curl} -X DELETE -H 'Content-Type: application/json' -d '{{\"purge\":1}}' \"$DOOR\"");
    assert_eq!(deleted_by(Path::new("sh"), &["-c", &json]), "purge=1");
}

#[test]
fn python_requests_deletes_with_a_body() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin/python");
    for (argument, query) in
        [("data={'purge': 1, 'x': 'ü'}", "purge=1&x=%C3%BC"), ("json={'purge': True}", "purge=1")]
    {
        let script = format!(
            "import os, requests\nheaders = {{'Cookie': os.environ['TICKET'], 'CSRFPreventionToken': os.environ['TOKEN']}}\n\
             print(requests.delete(os.environ['DOOR'], headers=headers, verify=False, timeout=20, {argument}).status_code)"
        );
        assert_eq!(deleted_by(&python, &["-c", &script]), query);
    }
}

#[test]
fn nodes_fetch_deletes_with_a_body() {
    for (body, query) in
        [("new URLSearchParams({ purge: 1 })", "purge=1"), ("JSON.stringify({ ids: [1, 2] })", "ids=1&ids=2")]
    {
        let kind =
            if body.starts_with("JSON") { "headers['Content-Type'] = 'application/json';" } else { "" };
        let script = format!(
            "const headers = {{ Cookie: process.env.TICKET, CSRFPreventionToken: process.env.TOKEN }}; {kind}
             fetch(process.env.DOOR, {{ method: 'DELETE', headers, body: {body} }}).then((answer) => console.log(answer.status));"
        );
        assert_eq!(deleted_by(Path::new("node"), &["-e", &script]), query);
    }
}

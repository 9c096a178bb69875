//! Answers of nodegate's own: status, reason and form.

use super::VERSION;
use crate::support::{Nodegate, Site, all_at_once};

#[test]
fn errors_keep_the_form_clients_expect() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let version = |format: &str| format!("/api2/{format}/version");
    let text = "method 'PATCH' not available";
    let reply = gate.request("PATCH", &version("json"), &cookie, b"");
    assert_eq!((reply.status, reply.reason.as_str()), (501, text));
    assert_eq!(reply.header("content-type"), Some("application/json;charset=UTF-8"));
    assert_eq!(reply.text(), format!(r#"{{"data":null,"message":"{text}"}}"#));
    let reply = gate.request("PATCH", &version("extjs"), &cookie, b"");
    assert_eq!((reply.status, reply.reason.as_str()), (200, "OK"));
    assert_eq!(reply.header("content-type"), Some("application/json;charset=UTF-8"));
    assert_eq!(reply.text(), format!(r#"{{"data":null,"message":"{text}","status":501,"success":0}}"#));
    let reply = gate.request("PATCH", &version("html"), &cookie, b"");
    assert_eq!((reply.status, reply.text()), (501, format!("{text}\n")));
    assert_eq!(reply.header("content-type"), Some("text/plain;charset=UTF-8"));
    for header in ["cache-control", "date", "server", "content-length"] {
        assert!(reply.header(header).is_some(), "{header}");
    }
}

/// RFC 9110 section 11.6.1. Browsers ask for a password only for schemes that they know.
#[test]
fn unauthorized_answers_name_a_scheme() {
    for (site, scheme) in [(Site::pve(), "PVEAPIToken"), (Site::pmg(), "PMGAuthCookie")] {
        let gate = Nodegate::start(&site, &[]);
        let reply = gate.get("/api2/json/version", "");
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(scheme)));
        assert_eq!(gate.get("/nope", "").header("www-authenticate"), None);
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for path in ["/nope", "/pve2/js/nope.js", "/pve2/", "/pve2/js/", "/index.html", "/x/api2/json/version"] {
        let reply = gate.get(path, "");
        let message = format!("no such file '{path}'");
        assert_eq!((reply.status, reply.reason.as_str()), (404, message.as_str()));
        assert_eq!(reply.text(), message + "\n");
        assert!(!reply.text().contains("/usr/share"));
    }
    assert_eq!(gate.request("POST", "/nope", "", b"a=1").status, 404);
}

#[test]
fn api_lookalike_errors_have_no_uri() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for path in ["/api2", "/api2/", "/api2x", "/api2/JSON/version", "/api2/j", "/api2/9x/version"] {
        let reply = gate.get(path, "");
        assert_eq!((reply.status, reply.reason.as_str()), (501, "no such uri"), "{path}");
    }
}

#[test]
fn methods_that_do_not_belong_are_refused() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/a.js", "1");
    let gate = Nodegate::start(&site, &[]);
    for method in ["PATCH", "TRACE", "FOO", "get", "PROPFIND", "M-SEARCH"] {
        let reply = gate.request(method, VERSION, &site.cookie("root@pam"), b"");
        let reason = format!("method '{method}' not available");
        assert_eq!((reply.status, reply.reason.as_str()), (501, reason.as_str()));
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "FOO"] {
        for path in ["/pve2/js/a.js", "/"] {
            let reply = gate.request(method, path, "", b"");
            assert_eq!(
                (reply.status, reply.header("allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {path}"
            );
        }
    }
    let mut session = gate.connect();
    session.send("CONNECT node1:22 HTTP/1.1\r\nHost: node1:22\r\n\r\n");
    assert_eq!(session.reply(false).status, 400);
    assert!(site.daemon.requests().is_empty());
}

/// No other part of the daemon's response gets through.
#[test]
fn only_the_daemons_message_is_passed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let cases = [
        (400, "Parameter%20verification%20failed.", "Parameter verification failed."),
        (403, "Permission%20check%20failed%20(/,%20Sys.Audit)", "Permission check failed (/, Sys.Audit)"),
        (500, "VM%20100%20not%20running", "VM 100 not running"),
        (596, "no%20such%20thing", "no such thing"),
        (200, "Fine", "Fine"),
        (599, "a%0d%0aSet-Cookie:%20evil=1", "a"),
        (400, "no%20such%20user%20('m%C3%BCller@pve')", "no such user ('müller@pve')"),
        (500, "a%00b%1B%5B31m%0Dc%7F", "a b [31m c"),
        (500, "100%25%20%E2%82%AC", "100% €"),
    ];
    for (status, text, reason) in cases {
        let reply = gate.get(&format!("/api2/json/standin/reason?status={status}&text={text}"), &cookie);
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason));
    }
    for status in [500, 597] {
        let reply = gate.get(&format!("/api2/json/standin/reason?status={status}&text="), &cookie);
        assert_eq!((reply.status, reply.reason.as_str()), (status, ""));
    }
}

#[test]
fn a_path_cannot_write_into_the_answer() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let paths = ["/x%0d%0aSet-Cookie:%20a=b", "/x%00", "/%0a", "/x%7f", "/%c2%85", "/x%ff", "/api2/json/%00"];
    all_at_once(&paths, |path| {
        let mut session = gate.connect();
        let reply = session.request("GET", path, "", b"");
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{path}");
        assert!(reply.header("set-cookie").is_none());
        assert!(session.is_closed());
    });
    let reply = gate.get("/%C3%BC%3Cscript%3E%22", "");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.header("content-type"), Some("text/plain;charset=UTF-8"));
    let long = gate.get(&format!("/{}", "x".repeat(5000)), "");
    assert!(long.reason.len() <= 512);
}

#[test]
fn an_unknown_node_lists_the_known_ones() {
    let site = Site::pve();
    let members = r#"{"nodename":"node1","version":1,"cluster":{"name":"c","version":1,"nodes":2,"quorate":1},
        "nodelist":{"node1":{"id":1,"online":1,"ip":"127.0.0.1"},"node2":{"id":2,"online":1,"ip":"127.0.0.2"}}}"#;
    site.write("/etc/pve/.members", members);
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get("/api2/json/nodes/nosuch/status", &cookie);
    assert_eq!(reply.status, 500);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("'nosuch'") && message.contains("node1, node2"), "{message}");
    assert!(reply.reason.starts_with("no such node 'nosuch'"), "{}", reply.reason);
    let reply = gate.get("/api2/json/nodes/node2/status", &(cookie.clone() + "pvedisableproxy: 1\r\n"));
    assert_eq!((reply.status, reply.reason.as_str()), (500, "proxy loop detected"));
    for here in ["localhost", "node1"] {
        let path = format!("/api2/json/nodes/{here}/status");
        assert_eq!(gate.get(&path, &(cookie.clone() + "PVEDisableProxy: true\r\n")).status, 200, "{here}");
    }
    assert_eq!(site.daemon.requests().len(), 2);
}

#[test]
fn every_answer_has_the_headers_that_it_had() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for (path, status) in [(VERSION, 200), ("/nope", 404)] {
        let reply = gate.get(path, &site.cookie("root@pam"));
        let names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["Cache-Control", "Content-Length", "Content-Type", "Date", "Server"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert_eq!((reply.status, reply.header("expires")), (status, None));
        assert_eq!(reply.header("cache-control"), Some("max-age=0"));
        assert_eq!(reply.header("pragma"), None);
        assert_eq!(reply.header("server"), Some("pve-api-daemon/3.0"));
    }
}

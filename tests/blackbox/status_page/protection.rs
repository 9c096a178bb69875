//! The protection of the page: its readers, hostile values, and pages of other sites.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Page, words};
use crate::cluster::machines::Cluster;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const PATHS: [&str; 3] = ["/", "/status.json", "/status/events"];

fn content<'t>(text: &'t str, name: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
    rest.split_once(&format!("</{name}>")).unwrap().0
}

#[test]
fn the_policy_allows_this_script_and_no_other() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &[]);
    let reply = page.ask("GET", "/", "");
    assert_eq!(reply.header("content-type"), Some("text/html;charset=UTF-8"));
    let (policy, text) = (reply.header("content-security-policy").unwrap(), reply.text());
    let directives: Vec<_> = policy.split("; ").collect();
    for (directive, name) in [("style-src", "style"), ("script-src", "script")] {
        let hash = openssl::sha::sha256(content(&text, name).as_bytes());
        let expected = format!("{directive} 'sha256-{}'", BASE64_STANDARD.encode(hash));
        assert!(directives.contains(&expected.as_str()), "{expected}: {policy}");
        assert_eq!(text.matches(&format!("<{name}")).count(), 1);
    }
    for directive in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(directives.contains(&directive), "{directive}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !text.contains(" style=\"") && !text.contains("http-equiv"));
    let third_parties = regex::Regex::new(r#"(?:src|href)="https?:"#).unwrap();
    assert!(!third_parties.is_match(&text));
    for path in PATHS {
        let reply = page.ask("HEAD", path, "");
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
    }
}

#[test]
fn nothing_there_changes_state() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &[]);
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let reply = page.ask(method, path, "");
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    assert_eq!(page.ask("GET", "/status", "").status, 404);
    assert_eq!(page.ask("GET", "/nothing", "").status, 404);
}

#[test]
fn foreign_names_and_foreign_pages_are_rejected() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &[]);
    for path in PATHS {
        assert_eq!(page.ask("HEAD", path, "Host: localhost\r\n").status, 200, "{path}");
        for host in ["evil.example", "localhost.evil.example"] {
            assert_eq!(page.ask("GET", path, &format!("Host: {host}\r\n")).status, 421, "{path} {host}");
        }
        for from in ["cross-site", "same-site"] {
            let fetch = format!("Sec-Fetch-Site: {from}\r\nSec-Fetch-Mode: no-cors\r\n");
            assert_eq!(page.ask("HEAD", path, &fetch).status, 403, "{path} {from}");
            let link = format!("Sec-Fetch-Site: {from}\r\nSec-Fetch-Mode: navigate\r\n");
            let expected = if path == "/" { 200 } else { 403 };
            assert_eq!(page.ask("HEAD", path, &link).status, expected, "{path} {from}");
        }
        assert_eq!(page.ask("HEAD", path, "Sec-Fetch-Site: same-origin\r\n").status, 200, "{path}");
    }
}

/// Monitors of another machine may read the metrics. They do not see users and addresses by that.
#[test]
fn the_page_has_its_own_access_list() {
    let site = Site::pve();
    let page = Page::new();
    let _gate = page.start(&site, &["metrics.status_allow_from=127.0.0.1"]);
    for path in PATHS {
        assert_eq!(page.ask("HEAD", path, "").status, 200, "{path}");
        let reply = Session::plain_from("127.0.0.5", page.address).request("GET", path, "", b"");
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.text().contains("metrics.status_allow_from"), "{}", reply.text());
    }
    for path in ["/metrics", "/-/health"] {
        let reply = Session::plain_from("127.0.0.5", page.address).request("GET", path, "", b"");
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[test]
fn a_socket_serves_the_page_to_its_users() {
    let site = Site::pve();
    let _gate = Nodegate::start(
        &site,
        &["metrics.listen=unix:/run/metrics.sock", "metrics.status_allow_from=192.0.2.1"],
    );
    let socket = site.path("/run/metrics.sock");
    eventually("it is there", || socket.exists());
    let output = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "30", "--unix-socket"])
        .arg(&socket)
        .arg("http://localhost/")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(words(&text).contains("pve on node1"), "{text}");
}

#[test]
fn hostile_names_stay_text() {
    let cluster = Cluster::pve(1);
    let page = Page::new();
    let site = &cluster.nodes[0].site;
    let hostile = "<img src=x onerror=alert(1)>";
    let members = Cluster::members(1).replace("unseen", hostile);
    site.write("/etc/pve/.members", members);
    let gate = cluster.start(1, &[&page.listen]);
    page.wait();
    assert_eq!(gate.get("/<script>alert(2)</script>", "").status, 404);
    eventually("the list of nodes is read", || page.json().to_string().contains(hostile));
    let text = page.text();
    assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;"), "{text}");
    assert!(!text.contains("<img") && !text.contains("alert(2)"), "{text}");
}

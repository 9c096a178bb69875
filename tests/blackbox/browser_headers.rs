//! Response headers for browsers: headers for safety, and origins that may call the API.

use std::path::Path;
use std::process::Command;

use crate::support::{Nodegate, Outcome, Reply, Site};

const VERSION: &str = "/api2/json/version";
const PANEL: &str = "https://panel.example";
/// Everything that makes browsers careful.
pub const ALL: [&str; 4] =
    ["headers.hsts=31536000", "headers.frames=sameorigin", "headers.referrer=same-origin", "headers.csp=1"];
const NAMES: [&str; 5] = [
    "x-content-type-options",
    "strict-transport-security",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
];

fn reported(reply: &Reply) -> [Option<&str>; 5] {
    NAMES.map(|name| reply.header(name))
}

/// Settings enable the other headers.
#[test]
fn nosniff_is_always_sent() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/index.html.tpl", "<!doctype html><title>[% nodename %]</title>");
    let gate = Nodegate::start(&site, &[]);
    for path in ["/", VERSION, "/nope"] {
        assert_eq!(reported(&gate.get(path, "")), [Some("nosniff"), None, None, None, None], "{path}");
    }
    drop(gate);
    let gate = Nodegate::start(&site, &[&ALL[..], &["headers.nosniff=0"]].concat());
    let reply = gate.get(VERSION, &site.cookie("root@pam"));
    assert_eq!(
        reported(&reply),
        [None, Some("max-age=31536000"), Some("SAMEORIGIN"), Some("same-origin"), None]
    );
    let page = gate.get("/", "");
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'self'; ") && policy.ends_with("; frame-ancestors 'self'"),
        "{policy}"
    );
    let mut plain = crate::support::Session::plain(gate.local());
    let redirect = plain.request("GET", "/", "", b"");
    assert_eq!((redirect.status, redirect.header("strict-transport-security")), (301, None));
}

fn sharing(reply: &Reply) -> [Option<&str>; 3] {
    ["access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods"]
        .map(|name| reply.header(name))
}

#[test]
fn only_a_listed_origin_may_call_the_api() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[&format!("cors.origins={PANEL}")]);
    let ask = "Access-Control-Request-Method: DELETE\r\n";
    let preflight = gate.request("OPTIONS", VERSION, &format!("Origin: {PANEL}\r\n{ask}"), b"");
    let methods = Some("GET, HEAD, POST, PUT, DELETE");
    assert_eq!((preflight.status, sharing(&preflight)), (204, [Some(PANEL), Some("true"), methods]));
    let headers = preflight.header("access-control-allow-headers");
    assert_eq!(headers, Some("Authorization, Content-Type, CSRFPreventionToken"));
    let origin = format!("{}Origin: {PANEL}\r\n", site.cookie("root@pam"));
    let reply = gate.get(VERSION, &origin);
    assert_eq!((reply.status, sharing(&reply)), (200, [Some(PANEL), Some("true"), None]));
    assert!(reply.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "Origin"));
    let refused = gate.get(VERSION, &format!("Origin: {PANEL}\r\n"));
    assert_eq!((refused.status, sharing(&refused)), (401, [Some(PANEL), Some("true"), None]));
    for other in ["https://panel.example.evil", "https://panel.example:8443", "http://panel.example", "null"]
    {
        let reply = gate.request("OPTIONS", VERSION, &format!("Origin: {other}\r\n{ask}"), b"");
        assert_eq!(sharing(&reply), [None; 3], "{other}");
    }
    let file = gate.get("/nope", &format!("Origin: {PANEL}\r\n"));
    assert_eq!(sharing(&file), [None; 3], "only the API is shared");
    drop(gate);

    let gate = Nodegate::start(&site, &["cors.origins=*"]);
    let reply = gate.get(VERSION, &origin);
    assert_eq!(sharing(&reply), [Some("*"), None, None], "never with credentials");
    Outcome::check(&site, &["cors.origins=https://panel.example/"]).complains(
        "--set: cors.origins: 'https://panel.example/' is not an origin: \
         write https://HOST or https://HOST:PORT in small letters, as browsers send it, or *",
    );
}

#[test]
fn chromium_reads_from_listed_origins_only() {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/other.html", "<!doctype html><title>other</title>");
    let other = Nodegate::start(&site, &[]);
    let origin = format!("https://127.0.0.1:{}", other.port());
    let page = format!("{origin}/pve2/js/other.html");
    let listed = Nodegate::start(&site, &[&format!("cors.origins={origin}")]);
    let unlisted = Nodegate::start(&site, &[&format!("cors.origins={PANEL}")]);
    let urls = [&listed, &unlisted].map(|gate| format!("https://127.0.0.1:{}{VERSION}", gate.port()));
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/cors.mjs"))
        .args([&page, &urls[0], &urls[1]])
        .output()
        .expect("nodejs is missing; `make test` installs what the tests need");
    let reported: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reported, serde_json::json!([200, "TypeError: Failed to fetch"]), "{output:?}");
    assert_eq!(site.daemon.requests().len(), 1, "the other one was not even asked");
}

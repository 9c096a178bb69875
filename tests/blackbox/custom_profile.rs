//! A fourth product, given only as a file: its own port, names, paths and backend, served by the same binary.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use nodegate_standin::{Certificate, KeyKind, now};

use crate::support::nodegate::{command, eventually};
use crate::support::{Nodegate, Outcome, Reply, Site};

/// The machine has no file of any built-in product where this profile would look.
const PROFILE: &str = r#"
[listen]
address = "127.0.0.1"
port = 0

[node]
name = "solo"

[backend]
address = "BACKEND"

[log]
access = "/srv/acme/access.log"

[product]
name = "acme"
daemon = "acmeproxy"
protocol = "https"
legacy_file = "/srv/acme/defaults"
pid_file = "/srv/acme/acme.pid"
server = "acme/1"

[[product.certificate]]
file = "/srv/acme/tls.crt"
key = "/srv/acme/tls.key"

[product.backend]
client_header = "X-Acme-Client"
loop_header = "X-Acme-Local"

[product.api]
prefix = "/api2"
formats = { json = "json" }

[product.gate]
cookie = "AcmeSession"
invalid = "acme does not know you"
schemes = ["pkcs1-sha1"]
user_length = 64
open = ["POST /login"]

[product.gate.ticket_form]
fields = ["prefix", "user", "time"]
separator = ":"
time = "hex8"
signature_separator = "::"
signature = "base64"
half_logins = []

[product.gate.csrf]
header = "X-Acme-Token"
secret = "/srv/acme/csrf.key"
key = "hmac-of-file"
mac = "hmac-sha256"
encoding = "base64"
separator = ":"
time = "hex8"
min_age = -300
max_age = 7200

[[product.gate.ticket]]
prefix = "ACME"
key = "/srv/acme/ticket.pub"
min_age = -300
max_age = 7200

[[product.page]]
url = "/"
template = [{ file = "/srv/acme/index.tt" }]

[product.variable.node]
kind = "word"
from = ["node_name"]

[[product.directory]]
url = "/assets/"
path = "/srv/acme/assets"
"#;

/// Answers everything with 200 and hands over what it got.
fn backend() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
            while !is_complete(&got) {
                match stream.read(&mut chunk) {
                    Ok(count) if count > 0 => got.extend(&chunk[..count]),
                    _ => break,
                }
            }
            let body = r#"{"data":"acme"}"#;
            let head = "HTTP/1.1 200 fine\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            if sender.send(String::from_utf8(got).unwrap()).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn is_complete(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= length.map_or(0, |length| length.parse().unwrap())
    })
}

/// A machine with nothing but the product's own files.
fn acme() -> (Site, String, Receiver<String>) {
    let site = Site::pve();
    std::fs::remove_dir_all(site.path("/etc")).unwrap();
    let (address, requests) = backend();
    site.write("/srv/acme/profile.toml", PROFILE.replace("BACKEND", &address));
    let pair = Certificate::ca().issue("acme.example.com", &[], KeyKind::EcP256);
    site.write("/srv/acme/tls.crt", pair.certificate_pem());
    site.write("/srv/acme/tls.key", pair.key_pem());
    site.write("/srv/acme/ticket.pub", site.keys.public_pem());
    site.write("/srv/acme/csrf.key", site.keys.secret_file());
    site.write("/srv/acme/assets/app.js", "acme();");
    site.write("/srv/acme/index.tt", "welcome to [% node %]");
    let profile = site.path("/srv/acme/profile.toml").to_str().unwrap().to_owned();
    (site, profile, requests)
}

/// Nothing but the profile: no setting on the command line.
fn start(site: &Site, profile: &str) -> Nodegate {
    Nodegate::spawn(&mut command(&["--root", site.root().to_str().unwrap(), "--debug", "run", profile]))
}

fn verdict(reply: &Reply) -> (u16, &str) {
    (reply.status, &reply.reason)
}

#[test]
fn a_custom_product_is_served_end_to_end() {
    let (site, profile, requests) = acme();
    let gate = start(&site, &profile);
    let asset = gate.get("/assets/app.js", "");
    assert_eq!(
        (asset.status, asset.text().as_str(), asset.header("server")),
        (200, "acme();", Some("acme/1"))
    );
    assert_eq!(gate.get("/", "").text(), "welcome to solo");
    assert_eq!(gate.get("/pve2/js/pvemanagerlib.js", "").status, 404, "no other product's directory");

    let cookie = format!("Cookie: AcmeSession={}\r\n", site.keys.ticket("ACME", "ann@acme", now()));
    let reply = gate.get("/api2/json/things", &cookie);
    assert_eq!(
        (reply.status, reply.reason.as_str(), reply.json()["data"].as_str()),
        (200, "fine", Some("acme"))
    );
    let sent = requests.recv().unwrap();
    assert!(sent.starts_with("GET /api2/json/things HTTP/1.1\r\n"), "{sent}");
    assert!(sent.to_lowercase().contains("\r\nx-acme-client: 127.0.0.1\r\n"), "{sent}");
    assert!(sent.contains("AcmeSession=ACME"), "{sent}");

    let reply = gate.request("POST", "/api2/json/things", &cookie, b"a=1");
    assert_eq!(verdict(&reply), (401, "Permission denied - invalid csrf token"));
    let token = format!("{cookie}X-Acme-Token: {}\r\n", site.keys.csrf("ann@acme", now()));
    assert_eq!(gate.request("POST", "/api2/json/things", &token, b"a=1").status, 200);
    assert!(requests.recv().unwrap().ends_with("\r\n\r\na=1"));
    assert_eq!(gate.request("POST", "/api2/json/login", "", b"who=ann").status, 200, "open without a ticket");
    assert!(requests.recv().unwrap().ends_with("who=ann"));
    let log = || std::fs::read_to_string(site.path("/srv/acme/access.log")).unwrap_or_default();
    eventually("the request in the log", || log().contains("127.0.0.1 - ann@acme ["));
}

#[test]
fn tickets_of_another_product_are_foreign_to_it() {
    let (site, profile, requests) = acme();
    let gate = start(&site, &profile);
    for foreign in ["PVE", "PMG", "ACM", "ACMEX"] {
        let cookie = format!("Cookie: AcmeSession={}\r\n", site.keys.ticket(foreign, "ann@acme", now()));
        let reply = gate.get("/api2/json/things", &cookie);
        assert_eq!(verdict(&reply), (401, "acme does not know you"), "{foreign}");
    }
    let cookie = format!("Cookie: PVEAuthCookie={}\r\n", site.keys.ticket("ACME", "ann@acme", now()));
    assert_eq!(gate.get("/api2/json/things", &cookie).status, 401, "another cookie name");
    assert!(requests.try_recv().is_err(), "nothing reached the backend");
}

#[test]
fn its_site_file_defaults_and_pid_file_apply() {
    let (site, profile, _requests) = acme();
    site.write("/etc/nodegate/acme.toml", "workers = 2\n");
    site.write("/srv/acme/defaults", "POLICY=deny\n");
    let outcome = Outcome::ask(&site, &["check", &profile]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let place = |path: &str| site.path(path).display().to_string();
    let workers = format!("workers = 2  ({}:1)", place("/etc/nodegate/acme.toml"));
    assert_eq!(outcome.setting("workers"), workers);
    let policy = format!("acl.policy = deny  ({}:1)", place("/srv/acme/defaults"));
    assert_eq!(outcome.setting("acl.policy"), policy);
    assert_eq!(outcome.setting("listen.port"), "listen.port = 0  (profile)");
    assert_eq!(outcome.setting("node.name"), "node.name = solo  (profile)");
    let gate = start(&site, &profile);
    let pid = site.path("/srv/acme/acme.pid");
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), format!("{}\n", gate.pid()));
    assert_eq!(gate.stop().code(), Some(0));
    assert!(!pid.exists());
}

#[test]
fn profile_errors_name_file_and_key() {
    let (site, profile, _requests) = acme();
    let text = std::fs::read_to_string(&profile).unwrap();
    site.write("/srv/acme/profile.toml", format!("limits.bodyy = 3\n{text}"));
    let outcome = Outcome::ask(&site, &["check", &profile]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!("{profile}:1: limits.bodyy: unknown key; did you mean limits.body?"));
    site.write(
        "/srv/acme/profile.toml",
        format!("limits.body = -1\n{text}").replace("url = \"/assets/\"", "url = \"assets\""),
    );
    let outcome = Outcome::ask(&site, &["check", &profile]);
    assert_eq!(outcome.code, 1);
    outcome
        .complains(&format!("{profile}: limits.body: must be a whole number from 0 to 1073741824, not '-1'"));
    outcome.complains(&format!("{profile}: product.directory: url 'assets' must begin and end with /"));
}

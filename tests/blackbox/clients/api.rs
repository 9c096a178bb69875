//! curl, wget and two generations of proxmoxer: log in, read, and write with the token only.

use std::path::Path;
use std::process::Command;

use nodegate_standin::{Certificate, KeyKind, Product, now};

use super::{PYTHON, in_repository, run, text};
use crate::support::{Nodegate, Site, debian};

/// A call as a user would make it.
struct Call<'a> {
    method: &'static str,
    path: &'static str,
    form: &'static str,
    cookie: Option<&'a str>,
    token: Option<&'a str>,
}

/// The arguments of a command-line client: the URL and the CA it has to trust.
struct Door<'a> {
    gate: &'a Nodegate,
    ca: &'a Path,
}

impl Door<'_> {
    fn url(&self, path: &str) -> String {
        format!("https://{}/api2/json{path}", self.gate.local())
    }
}

/// A site whose certificate comes from a CA that the client can trust.
pub fn site_with_ca(product: Product) -> (Site, std::path::PathBuf) {
    let site = Site::of(product);
    let ca = Certificate::ca();
    let node = ca.issue("node1.example.com", &[], KeyKind::Rsa2048);
    match product {
        Product::Pve => {
            site.write("/etc/pve/local/pve-ssl.pem", node.certificate_pem());
            site.write("/etc/pve/local/pve-ssl.key", node.key_pem());
        }
        Product::Pmg => site.write("/etc/pmg/pmg-api.pem", node.combined_pem()),
    }
    site.write("/ca.pem", ca.certificate_pem());
    let path = site.path("/ca.pem");
    (site, path)
}

fn curl(door: &Door, call: &Call) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "--write-out",
        "\n%{http_code}",
        "--cacert",
    ]);
    command.arg(door.ca).args(["--request", call.method]);
    if !call.form.is_empty() {
        command.args(["--data", call.form]);
    }
    if let Some(cookie) = call.cookie {
        command.args(["--cookie", cookie]);
    }
    if let Some(token) = call.token {
        command.arg("--header").arg(format!("CSRFPreventionToken: {token}"));
    }
    let output = run(command.arg(door.url(call.path)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (body, status) =
        text(&output.stdout).rsplit_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    (status.parse().unwrap(), body)
}

fn wget(door: &Door, call: &Call) -> (u16, String) {
    let mut command = Command::new("wget");
    command.args(["--no-config", "--no-hsts", "--no-verbose", "--server-response", "--content-on-error"]);
    command.args(["--tries=1", "--timeout=60", "--output-document=-", "--ca-certificate"]).arg(door.ca);
    command.arg(format!("--method={}", call.method));
    if !call.form.is_empty() {
        command.arg(format!("--body-data={}", call.form));
        command.arg("--header=Content-Type: application/x-www-form-urlencoded");
    }
    if let Some(cookie) = call.cookie {
        command.arg(format!("--header=Cookie: {cookie}"));
    }
    if let Some(token) = call.token {
        command.arg(format!("--header=CSRFPreventionToken: {token}"));
    }
    let output = run(command.arg(door.url(call.path)));
    let log = text(&output.stderr);
    let status = log.lines().find_map(|line| line.trim().strip_prefix("HTTP/1.1 "));
    let (status, reason) =
        status.and_then(|status| status.split_once(' ')).unwrap_or_else(|| panic!("{log}"));
    // It never shows the body of a 401.
    let body = if status == "401" { reason.to_owned() } else { text(&output.stdout) };
    (status.parse().unwrap(), body)
}

/// The write that both the product and its stand-in know.
fn a_write(product: Product) -> Call<'static> {
    let (path, form) = match product {
        Product::Pve => ("/cluster/options", "keyboard=de"),
        Product::Pmg => ("/access/users/bob@pmg", "comment=hello"),
    };
    Call { method: "PUT", path, form, cookie: None, token: None }
}

/// Login, version, a write with the token, and none without it.
fn a_session_works(product: Product, client: impl Fn(&Door, &Call) -> (u16, String) + Sync) {
    let (site, ca) = site_with_ca(product);
    let gate = Nodegate::start(&site, &[]);
    let door = Door { gate: &gate, ca: &ca };
    let call = |method, path, form| Call { method, path, form, cookie: None, token: None };

    let (status, body) = client(&door, &call("POST", "/access/ticket", "username=root@pam&password=demo"));
    assert_eq!(status, 200, "{body}");
    let login: serde_json::Value = serde_json::from_str(&body).unwrap();
    let ticket = login["data"]["ticket"].as_str().unwrap();
    let token = login["data"]["CSRFPreventionToken"].as_str().unwrap();
    let name = if product == Product::Pve { "PVEAuthCookie" } else { "PMGAuthCookie" };
    let cookie = format!("{name}={ticket}");

    let (status, body) = client(&door, &Call { cookie: Some(&cookie), ..call("GET", "/version", "") });
    assert!(status == 200 && body.contains("\"version\":\"9."), "{status} {body}");

    let write = |token| client(&door, &Call { cookie: Some(&cookie), token, ..a_write(product) });
    assert_eq!(write(Some(token)).0, 200);
    let recorded = site.daemon.last();
    assert_eq!((recorded.method.as_str(), recorded.text().as_str()), ("PUT", a_write(product).form));

    let reached = site.daemon.requests().len();
    let stale = site.keys.csrf("root@pam", now() - 7300);
    let other = site.keys.csrf("bob@pve", now());
    std::thread::scope(|scope| {
        for token in [None, Some(stale.as_str()), Some(other.as_str())] {
            let write = &write;
            scope.spawn(move || {
                let (status, body) = write(token);
                assert!(status == 401 && body.contains("invalid csrf token"), "{token:?}: {status} {body}");
            });
        }
    });
    assert_eq!(site.daemon.requests().len(), reached, "a refused write reached the daemon");
}

#[test]
fn curl_works_with_both_products() {
    a_session_works(Product::Pve, curl);
    a_session_works(Product::Pmg, curl);
}

#[test]
fn wget_works_with_both_products() {
    a_session_works(Product::Pve, wget);
    a_session_works(Product::Pmg, wget);
}

/// The same session by `tests/e2e/api_client.py`, with the proxmoxer that this Python finds.
fn proxmoxer_works(python: &Path, generation: &str) {
    for (product, service) in [(Product::Pve, "PVE"), (Product::Pmg, "PMG")] {
        let (site, ca) = site_with_ca(product);
        let gate = Nodegate::start(&site, &[]);
        let mut command = Command::new(python);
        command
            .arg(in_repository("tests/e2e/api_client.py"))
            .arg(gate.port().to_string())
            .arg(&ca)
            .arg(service);
        command.arg(site.keys.csrf("root@pam", now() - 7300)).arg(site.keys.csrf("bob@pve", now()));
        let output = run(&mut command);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error} (`make test` installs proxmoxer)\n{}", text(&output.stderr))
        });
        assert!(said["proxmoxer"].as_str().unwrap().starts_with(generation), "{said}");
        assert!(said["version"].as_str().unwrap().starts_with("9."), "{said}");
        assert_eq!((said["own"].as_u64(), said["none"].as_u64()), (Some(200), Some(401)), "{said}");
        assert_eq!((said["stale"].as_u64(), said["other"].as_u64()), (Some(401), Some(401)), "{said}");
        let writes = site.daemon.requests().into_iter().filter(|request| request.method == "PUT").count();
        assert_eq!(writes, 1, "only the write with the right token reaches the daemon");
    }
}

#[test]
fn proxmoxer_of_debian_works_with_both_products() {
    proxmoxer_works(Path::new(PYTHON), if debian() < 13 { "1.2." } else { "2." });
}

#[test]
fn proxmoxer_of_pypi_works_with_both_products() {
    proxmoxer_works(&in_repository("target/clients/bin/python"), "2.");
}

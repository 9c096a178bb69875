//! A fourth product, given only as a file: its own port, names, paths and backend, served by the same binary.

use nodegate_standin::now;

use crate::support::nodegate::eventually;
use crate::support::product::usual_grammar;
use crate::support::{CustomProduct, Outcome};

/// The machine has no file of any built-in product where this profile would look.
const PROFILE: &str = r#"
[product]
name = "acme"
daemon = "acmeproxy"
protocol = "https"
legacy_file = "/srv/acme/defaults"
pid_file = "/srv/acme/acme.pid"
server = "acme/1"

[product.backend]
client_header = "X-Acme-Client"
loop_header = "X-Acme-Local"

[product.api]
prefix = "/api2"
formats = { json = "json" }

[product.auth]
cookie = "AcmeSession"
invalid = "acme does not know you"
schemes = ["pkcs1-sha1"]
user_length = 64
open = ["POST /login"]

[[product.auth.ticket]]
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

/// A machine with the product's own files.
fn acme() -> CustomProduct {
    let profile = PROFILE.to_owned() + &usual_grammar("X-Acme-Token", "/srv/acme/csrf.key");
    let acme = CustomProduct::new("acme", &profile, |_| r#"{"data":"acme"}"#.to_owned());
    let site = &acme.site;
    site.write("/srv/acme/ticket.pub", site.keys.public_pem());
    site.write("/srv/acme/csrf.key", site.keys.secret_file());
    site.write("/srv/acme/assets/app.js", "acme();");
    site.write("/srv/acme/index.tt", "welcome to [% node %]");
    acme
}

#[test]
fn a_custom_product_is_served_end_to_end() {
    let acme = acme();
    let (site, requests, gate) = (&acme.site, &acme.requests, acme.start());
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
    assert_eq!(reply.status_and_reason(), (401, "Permission denied - invalid csrf token"));
    let token = format!("{cookie}X-Acme-Token: {}\r\n", site.keys.csrf("ann@acme", now()));
    assert_eq!(gate.request("POST", "/api2/json/things", &token, b"a=1").status, 200);
    assert!(requests.recv().unwrap().ends_with("\r\n\r\na=1"));
    assert_eq!(gate.request("POST", "/api2/json/login", "", b"who=ann").status, 200, "open without a ticket");
    assert!(requests.recv().unwrap().ends_with("who=ann"));
    eventually("the request in the log", || acme.log().contains("127.0.0.1 - ann@acme ["));
}

#[test]
fn a_reload_names_a_changed_profile() {
    let acme = acme();
    let (site, profile) = (&acme.site, &acme.profile);
    let gate = acme.start();
    assert_eq!(Outcome::ask(site, &["reload", profile]).stdout, "reloaded; changed: nothing\n");
    assert_eq!(gate.get("/about", "").status, 404);
    site.write("/srv/acme/about.tt", "about [% node %]");
    let text = std::fs::read_to_string(profile).unwrap();
    let page = "\n[[product.page]]\nurl = \"/about\"\ntemplate = [{ file = \"/srv/acme/about.tt\" }]\n";
    std::fs::write(profile, text + page).unwrap();
    let reloaded = Outcome::ask(site, &["reload", profile]);
    assert_eq!((reloaded.code, reloaded.stdout.as_str()), (0, "reloaded; changed: product\n"));
    assert_eq!(gate.get("/about", "").text(), "about solo");
}

#[test]
fn tickets_of_another_product_are_foreign_to_it() {
    let acme = acme();
    let (site, requests, gate) = (&acme.site, &acme.requests, acme.start());
    for foreign in ["PVE", "PMG", "ACM", "ACMEX"] {
        let cookie = format!("Cookie: AcmeSession={}\r\n", site.keys.ticket(foreign, "ann@acme", now()));
        let reply = gate.get("/api2/json/things", &cookie);
        assert_eq!(reply.status_and_reason(), (401, "acme does not know you"), "{foreign}");
    }
    let cookie = format!("Cookie: PVEAuthCookie={}\r\n", site.keys.ticket("ACME", "ann@acme", now()));
    assert_eq!(gate.get("/api2/json/things", &cookie).status, 401, "another cookie name");
    assert!(requests.try_recv().is_err(), "nothing reached the backend");
}

#[test]
fn its_site_file_defaults_and_pid_file_apply() {
    let acme = acme();
    let (site, profile) = (&acme.site, &acme.profile);
    site.write("/etc/nodegate/acme.toml", "workers = 2\n");
    site.write("/srv/acme/defaults", "POLICY=deny\n");
    let outcome = Outcome::ask(site, &["check", profile]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let place = |path: &str| site.path(path).display().to_string();
    let workers = format!("workers = 2  ({}:1)", place("/etc/nodegate/acme.toml"));
    assert_eq!(outcome.setting("workers"), workers);
    let policy = format!("acl.policy = deny  ({}:1)", place("/srv/acme/defaults"));
    assert_eq!(outcome.setting("acl.policy"), policy);
    assert_eq!(outcome.setting("listen.port"), "listen.port = 0  (profile)");
    assert_eq!(outcome.setting("node.name"), "node.name = solo  (profile)");
    let gate = acme.start();
    let pid = site.path("/srv/acme/acme.pid");
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), format!("{}\n", gate.pid()));
    assert_eq!(gate.stop().code(), Some(0));
    assert!(!pid.exists());
}

#[test]
fn profile_errors_name_file_and_key() {
    let acme = acme();
    let (site, profile) = (&acme.site, &acme.profile);
    let text = std::fs::read_to_string(profile).unwrap();
    site.write("/srv/acme/profile.toml", format!("limits.bodyy = 3\n{text}"));
    let outcome = Outcome::ask(site, &["check", profile]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!("{profile}:1: limits.bodyy: unknown key; did you mean limits.body?"));
    site.write(
        "/srv/acme/profile.toml",
        format!("limits.body = -1\n{text}").replace("url = \"/assets/\"", "url = \"assets\""),
    );
    let outcome = Outcome::ask(site, &["check", profile]);
    assert_eq!(outcome.code, 1);
    outcome.complains(&format!(
        "{profile}:1: limits.body: must be a whole number from 0 to 1073741824, not '-1'"
    ));
    outcome.complains(&format!("{profile}: product.directory: url 'assets' must begin and end with /"));

    let weak = text.replace("\"AcmeSession\"", "\"Acme Session\"").replace("[\"pkcs1-sha1\"]", "[]");
    site.write("/srv/acme/profile.toml", weak.replace("X-Acme-Token", "Cookie"));
    let outcome = Outcome::ask(site, &["check", profile]);
    assert_eq!(outcome.code, 1);
    for key in ["auth.cookie", "auth.schemes", "auth.csrf.header"] {
        let start = format!("{profile}: product.{key}: ");
        assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{key}: {outcome:?}");
    }
}

//! Pages of other origins in Chromium: a panel that shows consoles, and pages that must not.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nodegate_standin::{API_TOKEN, Config, Daemon, Product, now};
use serde_json::{Value, json};

use super::client::{Console, echo};
use crate::support::{Nodegate, Site};

const OTHER: &str = "console.origins=https://other.example.com";

/// A page at `host` that acts on a nodegate with these settings; `{panel}` stands for its origin.
struct Stage {
    site: Site,
    pages: Nodegate,
}

impl Stage {
    fn new() -> Self {
        let console = Console::listen();
        let mut site = Site::pve();
        let keys = Arc::clone(&site.keys);
        let root = site.root().to_owned();
        site.daemon =
            Daemon::start(Config { keys, root, console_port: console.port, ..Config::new(Product::Pve) });
        std::thread::spawn(move || {
            loop {
                let machine = console.accept();
                std::thread::spawn(move || echo(machine));
            }
        });
        site.write("/usr/share/pve-manager/js/panel.html", include_str!("../../e2e/console/panel.html"));
        let pages = Nodegate::start(&site, &[]);
        Self { site, pages }
    }

    fn origin(&self, host: &str) -> String {
        format!("https://{host}:{}", self.pages.port())
    }

    /// The result: `console`, and the statuses that the access log has for the console and the upload.
    fn act(&self, host: &str, credential: &str, sets: &[&str]) -> Value {
        let (site, panel) = (&self.site, self.origin(host));
        let sets: Vec<_> = sets.iter().map(|set| set.replace("{panel}", &panel)).collect();
        let sets: Vec<_> = sets.iter().map(String::as_str).collect();
        let gate = Nodegate::start(site, &sets);
        let before = site.access_log().len();
        let target = format!("https://pve.example.com:{}", gate.port());
        let csrf = site.keys.csrf("root@pam", now());
        let output = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/console/panel.mjs"))
            .args([&panel, &target, credential, &site.ticket("root@pam"), &csrf, API_TOKEN])
            .output()
            .expect("nodejs is missing; `make test` installs what the tests need");
        let mut reported: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let log = site.access_log()[before..].to_owned();
        for (name, call) in [("socket", "vncwebsocket"), ("upload", "/upload")] {
            let lines = log.lines().filter(|line| line.contains(call) && !line.contains("\"OPTIONS"));
            let status = |line: &str| line.rsplit(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            reported[name] = json!(lines.filter_map(status).next_back());
        }
        let opened = |line: &&str| line.contains("opened a console") && line.contains(&panel);
        reported["logged"] = json!(gate.stderr().lines().filter(opened).count());
        reported
    }
}

#[test]
fn a_panel_of_another_origin_shows_consoles() {
    let stage = Stage::new();
    let opened = "from the panel";
    let panel = "panel.example.com";
    let shared = "cors.origins={panel}";
    // With the console's own ticket and the cookie of the same domain.
    let reported = stage.act(panel, "cookie", &[shared]);
    assert_eq!(reported, json!({ "console": opened, "socket": 101, "upload": 200, "logged": 1 }));
    let reported = stage.act(panel, "cookie", &[shared, "console.origins={panel}"]);
    assert_eq!(reported, json!({ "console": opened, "socket": 101, "upload": 200, "logged": 0 }));
    let reported = stage.act(panel, "cookie", &[shared, OTHER]);
    assert_eq!(reported, json!({ "console": "closed 1006", "socket": 403, "upload": 200, "logged": 0 }));
    // With an API token.
    let reported = stage.act(panel, "token", &[shared, OTHER]);
    assert_eq!(reported, json!({ "console": opened, "socket": 101, "upload": 200, "logged": 0 }));
}

#[test]
fn foreign_pages_get_neither_console_nor_upload() {
    let stage = Stage::new();
    // Of the same site: the browser sends the cookie.
    let reported = stage.act("evil.example.com", "cookie", &[]);
    assert_eq!(reported, json!({ "console": "closed 1006", "socket": 401, "upload": 403, "logged": 0 }));
    let reported = stage.act("evil.example.com", "none", &[]);
    assert_eq!(reported, json!({ "console": "closed 1006", "socket": 403, "upload": 403, "logged": 0 }));
    // Of another site: `SameSite` keeps it back.
    let reported = stage.act("evil.example.net", "cookie", &[]);
    assert_eq!(reported, json!({ "console": "closed 1006", "socket": 401, "upload": 401, "logged": 0 }));
}

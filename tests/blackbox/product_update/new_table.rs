//! One setting puts the installed product's route table in effect.

use std::process::Command;

use nodegate_standin::{Config, Daemon, Product};

use super::{InstalledSite, protected};
use crate::doctor::{Found, doctor};
use crate::reload::reload;
use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

const CALL: &str = "/cluster/ceph/health-mute/{code}";
const SETTINGS: &str = "/etc/nodegate/pve.toml";
const TABLE: &str = "/etc/nodegate/pve.routes";
const SETTING: &str = "[routes]\nfile = \"/etc/nodegate/pve.routes\"\n";

/// Calls the new method by curl, and returns the daemon that got it.
fn called(site: &Site, worker: &Daemon, gate: &Nodegate) -> &'static str {
    site.daemon.clear();
    worker.clear();
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["-X", "PUT", "--data", "value=1"])
        .args(["-H", site.cookie("root@pam").trim_end(), "-H", site.csrf("root@pam").trim_end()])
        .arg(format!("https://127.0.0.1:{}/api2/json/cluster/ceph/health-mute/OSD_DOWN", gate.port()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    match (site.daemon.requests().len(), worker.requests().len()) {
        (1, 0) => "daemon",
        (0, 1) => "worker",
        other => panic!("{other:?} {output:?}"),
    }
}

fn ask(site: &Site, gate: &Nodegate, verb: &[&str]) -> Outcome {
    let (root, port) = (site.root().to_str().unwrap(), format!("listen.port={}", gate.port()));
    Outcome::of(&mut command(&[&["--root", root, "--set", &port], verb].concat()))
}

/// A machine whose product has a new call, which a nodegate with both daemons serves.
fn served() -> (InstalledSite, Daemon, Nodegate) {
    let installed = InstalledSite::new(Product::Pve);
    installed.update(|lines| lines.push(protected("PUT", CALL)), "");
    let config = Config { keys: installed.site.keys.clone(), ..Config::new(Product::Pve) };
    let worker = Daemon::start(config);
    let gate = Nodegate::start(&installed.site, &[&format!("backend.unprivileged={}", worker.address())]);
    (installed, worker, gate)
}

#[test]
fn the_new_table_decides_where_calls_go() {
    let (installed, worker, gate) = served();
    let site = &installed.site;
    assert_eq!(called(site, &worker, &gate), "worker", "the general rule");
    let file = site.path(TABLE);
    site.write(SETTINGS, "");
    let outcome = installed.diff(&["--write", file.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for line in
        ["  [routes]", "  file = \"/etc/nodegate/pve.routes\"", "  nodegate check pve && nodegate reload pve"]
    {
        assert!(outcome.stdout.lines().any(|shown| shown == line), "{line}: {outcome:?}");
    }
    assert_eq!(called(site, &worker, &gate), "worker", "the file is not set yet");
    site.write(SETTINGS, SETTING);
    reload(&gate, "reloaded changed=\"routes.file\"");
    assert_eq!(called(site, &worker, &gate), "daemon", "the new table");
    assert_eq!(installed.diff(&[]).code, 0, "nothing differs from the table in use");
    site.write(SETTINGS, "");
    reload(&gate, "reloaded changed=\"routes.file\"");
    assert_eq!(called(site, &worker, &gate), "worker", "the built-in table again");
}

/// The status and the body of a file by curl.
fn fetched(gate: &Nodegate, url: &str) -> (String, String) {
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "30", "-w", "\\n%{http_code}"])
        .arg(format!("https://127.0.0.1:{}{url}", gate.port()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn new_directories_are_served_by_the_setting() {
    let installed = InstalledSite::new(Product::Pve);
    let site = &installed.site;
    installed.update(
        |_| (),
        "directory /pve2/new/ /usr/share/new\nfile /new.js /usr/share/new/one.js\ndirectory /pve2/js/ /usr/share/js\n",
    );
    site.write("/usr/share/new/a.js", "a");
    site.write("/usr/share/new/one.js", "one");
    site.write("/usr/share/js/moved.js", "moved");
    let gate = Nodegate::start(site, &[]);
    let urls = [("/pve2/new/a.js", "a"), ("/new.js", "one"), ("/pve2/js/moved.js", "moved")];
    for (url, _) in urls {
        assert_eq!(fetched(&gate, url).0, "404", "{url}");
    }
    let (code, report) = installed.diff_json(&["--write", site.path(TABLE).to_str().unwrap()]);
    assert_eq!((code, report["differences"].as_array().unwrap().len()), (0, 3), "{report:#}");
    site.write(SETTINGS, SETTING);
    reload(&gate, "reloaded changed=\"routes.file\"");
    for (url, body) in urls {
        assert_eq!(fetched(&gate, url), ("200".to_owned(), body.to_owned()), "{url}");
    }
    let (code, report) = installed.diff_json(&[]);
    assert_eq!((code, &report["differences"]), (0, &serde_json::json!([])), "{report:#}");
    let route = ask(site, &gate, &["route", "pve", "GET", "/pve2/new/a.js"]).stdout;
    assert!(route.ends_with(&format!("(added by {})\n", site.path(TABLE).display())), "{route}");
    let written = std::fs::read(site.path(TABLE)).unwrap();
    site.write(TABLE, "/version GET\ndirectory / /usr/share/new\n");
    let route = |url: &str| ask(site, &gate, &["route", "pve", "GET", url]).stdout;
    assert!(
        route("/one.js").contains("(added by ") && !route("/").contains("added"),
        "a page is the profile's"
    );
    std::fs::write(site.path(TABLE), written).unwrap();
    let status = ask(site, &gate, &["status", "pve"]).stdout;
    assert!(status.contains("of routes.file; adds 3 directories and files\n"), "{status}");
    std::fs::remove_dir_all(site.path("/usr/share/new")).unwrap();
    let missing = format!(
        "{}: routes.file: warning: /pve2/new/ is served from {}, which is missing",
        site.path(TABLE).display(),
        site.path("/usr/share/new").display()
    );
    Outcome::check(site, &[]).complains(&missing);
}

#[test]
fn commands_name_the_table_in_use() {
    let (installed, _worker, gate) = served();
    let site = &installed.site;
    let path = "/api2/json/cluster/ceph/health-mute/OSD_DOWN";
    let line = |arguments: &[&str]| ask(site, &gate, arguments).stdout;
    let before = line(&["route", "pve", "PUT", path]);
    assert_eq!(
        before,
        "daemon login answered by the daemon of this node (general rule: not in the built-in route table)\n"
    );
    let known = line(&["route", "pve", "GET", "/api2/json/version"]);
    assert!(known.ends_with("(GET /version, by the built-in route table)\n"), "{known}");
    assert!(
        line(&["status", "pve"]).contains("\n  routes       679 methods, built in (pve-manager 9.2.11)\n")
    );

    let file = site.path(TABLE);
    site.write(SETTINGS, SETTING);
    assert_eq!(installed.diff(&["--write", file.to_str().unwrap(), "--set", "routes.file="]).code, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("# made from pve-manager 9.2.12\n{text}")).unwrap();
    reload(&gate, "reloaded changed=");
    let file = file.display();
    let after = line(&["route", "pve", "PUT", path]);
    assert!(after.ends_with(&format!("(PUT {CALL}, by {file})\n")), "{after}");
    let described = format!("680 methods, {file} of routes.file (pve-manager 9.2.12)");
    assert!(line(&["status", "pve"]).contains(&format!("\n  routes       {described}\n")));
    let report: serde_json::Value = serde_json::from_str(&line(&["status", "pve", "--json"])).unwrap();
    assert_eq!(report["routes"]["file"], file.to_string());
    let checked = line(&["check", "pve"]);
    assert!(checked.lines().any(|line| line == format!("routes: {described}")), "{checked}");
    let set = format!("routes.file = /etc/nodegate/pve.routes  ({}:2)", site.path(SETTINGS).display());
    assert!(checked.lines().any(|line| line == set), "{checked}");
    let found = Found::of(&mut doctor(site, gate.port(), &[]));
    found.one("ok", "product", &format!("the route table: {described}"));
}

#[test]
fn a_broken_table_keeps_the_previous_one() {
    let (installed, worker, gate) = served();
    let site = &installed.site;
    site.write(SETTINGS, SETTING);
    assert_eq!(
        installed.diff(&["--write", site.path(TABLE).to_str().unwrap(), "--set", "routes.file="]).code,
        0
    );
    reload(&gate, "reloaded changed=");
    assert_eq!(called(site, &worker, &gate), "daemon");
    let (table, settings) = (site.path(TABLE), site.path(SETTINGS));
    for (text, problem) in [
        (
            "/a GET\n/b FETCH\n",
            format!(
                "{}:2: routes.file: 'FETCH': the method must be GET, POST, PUT, DELETE (the file is set by {}:2)",
                table.display(),
                settings.display()
            ),
        ),
        (
            "",
            format!(
                "{}:1: routes.file: the file has no route (the file is set by {}:2)",
                table.display(),
                settings.display()
            ),
        ),
    ] {
        site.write(TABLE, text);
        reload(&gate, &format!("reload refused, serving as before: {problem}"));
        assert_eq!(called(site, &worker, &gate), "daemon", "the table from before");
        let shown = ask(site, &gate, &["status", "pve"]);
        assert!(shown.stdout.contains(&format!("refused: {problem}")), "{shown:?}");
        assert!(shown.stdout.contains("\n  routes       680 methods, "), "{shown:?}");
        let checked = Outcome::check(site, &[]);
        assert_eq!(checked.code, 1);
        checked.complains(&problem);
    }
    std::fs::remove_file(&table).unwrap();
    let missing = format!(
        "{}:2: routes.file: {} cannot be read: No such file or directory (os error 2)",
        settings.display(),
        table.display()
    );
    reload(&gate, &format!("reload refused, serving as before: {missing}"));
    assert_eq!(called(site, &worker, &gate), "daemon");
}

#[test]
fn a_broken_table_prevents_a_start() {
    let site = Site::pve();
    site.write(TABLE, "/nodes/{node}/x GET:q\n");
    let run = Outcome::ask(
        &site,
        &["--set", "listen.port=0", "--set", "routes.file=/etc/nodegate/pve.routes", "run", "pve"],
    );
    assert_eq!(run.code, 1, "{run:?}");
    let problem = format!(
        "{}:1: routes.file: 'GET:q': unknown flag 'q' (the file is set by --set)",
        site.path(TABLE).display()
    );
    assert!(run.stderr.contains(&problem), "{run:?}");
    let relative = Outcome::check(&site, &["routes.file=pve.routes"]);
    relative.complains("--set: routes.file: 'pve.routes' is not an absolute path");
}

#[test]
fn a_profile_without_an_api_has_no_table() {
    let site = Site::pve();
    site.write(TABLE, "/a GET\n");
    let checked = Outcome::ask(&site, &["check", "spice", "--set", &format!("routes.file={TABLE}")]);
    assert_eq!(checked.code, 1, "{checked:?}");
    checked.complains("--set: routes.file: this profile has no [product.api], so it has no routes");
}

//! `status`, `reload` and `confirm`: what a running nodegate tells at its control socket, and does when asked there.

mod upstreams;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::nodegate::{TIMEOUT, command, eventually};
use crate::support::{Nodegate, Outcome, Site};

const VERSION: &str = "/api2/json/version";
const SITE_FILE: &str = "/etc/nodegate/pve.toml";

/// A command of the site's nodegate: `status`, `reload`, `confirm`.
fn command_for(site: &Site, gate: &Nodegate, profile: &str, arguments: &[&str]) -> Command {
    let port = format!("listen.port={}", gate.port());
    let (verb, rest) = arguments.split_first().unwrap();
    let root = site.root().to_str().unwrap();
    command(&[&["--root", root, "--set", &port, verb, profile], rest].concat())
}

fn ask(site: &Site, gate: &Nodegate, arguments: &[&str]) -> Outcome {
    Outcome::of(&mut command_for(site, gate, "pve", arguments))
}

pub fn report(site: &Site, gate: &Nodegate, profile: &str) -> Value {
    let outcome = Outcome::of(&mut command_for(site, gate, profile, &["status", "--json"]));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn socket_of(site: &Site, gate: &Nodegate) -> PathBuf {
    site.path(&format!("/run/pveproxy/nodegate-pve-{}.sock", gate.port()))
}

#[test]
fn status_reports_responses_and_latencies() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["acl.deny_from=127.0.0.9"]);
    let mut session = gate.connect();
    for _ in 0..3 {
        assert_eq!(session.request("GET", VERSION, &site.cookie("root@pam"), b"").status, 200);
    }
    assert_eq!(session.request("GET", "/nope", "", b"").status, 404);
    assert_eq!(gate.get(VERSION, "").status, 401);
    eventually("all is counted", || report(&site, &gate, "pve")["requests"]["total"] == 5);
    let report = report(&site, &gate, "pve");
    assert_eq!(report["requests"]["classes"], serde_json::json!([0, 3, 0, 2, 0]));
    assert_eq!(report["requests"]["refused"], 1);
    assert_eq!(report["connections"]["total"], 2);
    assert_eq!(report["pid"], gate.pid());
    assert_eq!(report["listening"][0], gate.address().to_string());
    assert_eq!(report["latency"]["count"], 4, "a refused login is held back on purpose");
    assert!(report["latency"]["p99_ms"].as_f64() >= report["latency"]["p50_ms"].as_f64());
    assert!(report["certificate_expires"].as_i64().unwrap() > report["since"].as_i64().unwrap());
    assert_eq!(report["last_reload"], Value::Null);

    let shown = ask(&site, &gate, &["status"]);
    assert_eq!(shown.code, 0);
    for text in [
        "pve is running",
        "  connections  ",
        "5 answered, 2xx 3, 4xx 2, 1 refused (401)",
        "half within",
        "  last reload  none",
    ] {
        assert!(shown.stdout.contains(text), "{text} is missing in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains('\x1b'), "colours are for terminals");
    drop(session);
    eventually("the connection is gone", || report_open(&site, &gate) == 0);
}

fn report_open(site: &Site, gate: &Nodegate) -> u64 {
    report(site, gate, "pve")["connections"]["open"].as_u64().unwrap()
}

#[test]
fn clients_that_the_access_list_denies_are_counted() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["acl.policy=deny"]);
    assert!(crate::support::Session::try_tls(gate.local()).is_err());
    eventually("it is counted", || report(&site, &gate, "pve")["connections"]["denied"] == 1);
}

#[test]
fn status_of_a_stopped_service_exits_3() {
    let site = Site::pve();
    let status = Outcome::ask(&site, &["status", "pve"]);
    assert_eq!(status.code, 3);
    assert!(status.stdout.starts_with("nodegate does not run for pve (/"), "{status:?}");
    let json = Outcome::ask(&site, &["status", "pve", "--json"]);
    assert_eq!((json.code, json.stdout.trim()), (3, r#"{"profile":"pve","running":false}"#));
    for verb in ["reload", "confirm"] {
        let outcome = Outcome::ask(&site, &[verb, "pve"]);
        assert_eq!(outcome.code, 3, "{outcome:?}");
        assert!(outcome.stderr.contains("nodegate does not run for pve"), "{outcome:?}");
    }
}

/// The original has a pid file, and no control socket. It gets no signal.
#[test]
fn the_original_is_no_running_nodegate() {
    let site = Site::pve();
    let script = site.path("/bin/pveproxy");
    site.write("/bin/pveproxy", "#!/bin/sh\ntrap 'exit 7' HUP\necho ready\nwhile :; do sleep 0.1; done\n");
    let mut original = Command::new("sh").arg(&script).stdout(Stdio::piped()).spawn().unwrap();
    original.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    site.write("/run/pveproxy/pveproxy.pid", format!("{}\n", original.id()));
    let served_by = format!("the original pveproxy (pid {})", original.id());
    let text = format!("nodegate does not run for pve: {served_by} serves port 8006\n");
    let status = Outcome::ask(&site, &["status", "pve"]);
    assert_eq!((status.code, status.stdout), (3, text.clone()));
    let json = Outcome::ask(&site, &["status", "pve", "--json"]);
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (json.code, &value["running"], &value["served_by"]),
        (3, &Value::Bool(false), &Value::from(served_by))
    );
    for arguments in [&["reload", "pve"][..], &["reload", "pve", "--confirm", "9"], &["confirm", "pve"]] {
        let outcome = Outcome::ask(&site, arguments);
        assert_eq!((outcome.code, outcome.stderr), (3, text.clone()), "{arguments:?}");
    }
    assert!(original.try_wait().unwrap().is_none(), "it got no signal");
    original.kill().unwrap();
    original.wait().unwrap();
}

#[test]
fn status_repeats_until_the_end() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut watch = command_for(&site, &gate, "pve", &["status", "--watch", "--json"]);
    let mut child = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    assert_eq!(next()["requests_per_second"], Value::Null, "there is nothing to compare with yet");
    gate.get("/nope", "");
    let mut later = next();
    while later["requests_per_second"].as_f64().unwrap() == 0.0 {
        later = next();
    }
    assert!(gate.stop().success());
    while later["running"] == true {
        later = next();
    }
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// It is removed with its process.
#[test]
fn the_control_socket_is_private() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let other = Nodegate::start(&site, &[]);
    let path = socket_of(&site, &gate);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(report(&site, &other, "pve")["pid"], other.pid(), "two trials do not collide");
    assert_eq!(report(&site, &gate, "pve")["pid"], gate.pid());
    assert!(gate.stop().success());
    assert!(!path.exists());
    assert_eq!(report(&site, &other, "pve")["pid"], other.pid());
}

/// The socket of a new process stays.
#[test]
fn stale_control_sockets_are_replaced() {
    let site = Site::pve();
    let first = Nodegate::start(&site, &[]);
    let (port, path) = (first.port(), socket_of(&site, &first));
    first.signal(Signal::SIGKILL);
    drop(first);
    assert!(path.exists(), "nobody could remove it");
    let gate = Nodegate::start(&site, &[&format!("listen.port={port}")]);
    assert_eq!(report(&site, &gate, "pve")["pid"], gate.pid());
    fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    assert!(gate.stop().success());
    assert!(path.exists(), "it is somebody else's by now");
    drop(successor);
}

/// Their number is bounded, and so is the length of their requests.
#[test]
fn control_clients_are_bounded() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let path = socket_of(&site, &gate);
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    for question in ["rubbish\n", "{\"command\":\"stop\"}\n", "{\"command\":\"reload\",\"confirm\":-1}\n"] {
        let mut stream = connect();
        stream.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("{\"malformed\":"), "{answer}");
    }
    let mut long = connect();
    long.write_all(&[b' '; 2000]).unwrap();
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert!(answer.starts_with(b"{\"malformed\":"), "{}", String::from_utf8_lossy(&answer));
    // Silent clients are closed after a while, and no other client waits for them.
    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    assert_eq!(gate.get("/nope", "").status, 404);
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(report(&site, &gate, "pve")["pid"], gate.pid());
}

#[test]
fn reload_applies_and_names_new_settings() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let same = ask(&site, &gate, &["reload"]);
    assert_eq!((same.code, same.stdout.as_str()), (0, "reloaded; changed: nothing\n"), "{same:?}");
    site.write(SITE_FILE, "[limits]\nbody = 1000\n");
    let reload = ask(&site, &gate, &["reload"]);
    assert_eq!((reload.code, reload.stdout.as_str()), (0, "reloaded; changed: limits.body\n"), "{reload:?}");
    let headers = [site.cookie("root@pam"), site.csrf("root@pam")].concat();
    assert_eq!(gate.request("POST", "/api2/json/nodes", &headers, &[b'x'; 1001]).status, 413);
    let report = report(&site, &gate, "pve");
    assert_eq!(report["last_reload"]["problems"], serde_json::json!([]));
}

#[test]
fn a_rejected_reload_names_every_problem() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write(SITE_FILE, "[limits]\nbody = \"much\"\nheaders = 1000\n");
    let reload = ask(&site, &gate, &["reload"]);
    assert_eq!(reload.code, 1);
    let place = site.path(SITE_FILE).display().to_string();
    for (line, key) in [(2, "limits.body"), (3, "limits.headers")] {
        let start = format!("{place}:{line}: {key}: ");
        assert!(reload.stderr.lines().any(|line| line.starts_with(&start)), "{start}\n{reload:?}");
    }
    reload.complains("nothing was changed");
    assert_eq!(gate.get("/nope", "").status, 404, "it serves as before");
    let status = ask(&site, &gate, &["status"]);
    assert_eq!(status.code, 0, "mistakes in the settings do not hide what runs");
    assert!(status.stdout.contains("refused: "), "{status:?}");
}

#[test]
fn an_unconfirmed_reload_is_reverted() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write(SITE_FILE, "[acl]\npolicy = \"deny\"\n");
    let reload = ask(&site, &gate, &["reload", "--confirm", "2"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    assert!(reload.stdout.contains("nodegate confirm pve"), "{reload:?}");
    let is_open = || crate::support::Session::try_tls(gate.local()).is_ok();
    assert!(!is_open(), "the new settings are in force, and nobody gets in");
    eventually("it is taken back", is_open);
    let status = ask(&site, &gate, &["status"]);
    assert!(status.stdout.contains("refused: reverted: it was not confirmed"), "{status:?}");
}

/// `reload --confirm` was reverted; the files still deny all clients. The next reload must not lock them out.
#[test]
fn a_reverted_configuration_stays_rejected() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let early = ask(&site, &gate, &["confirm"]);
    assert_eq!(early.code, 1);
    assert!(early.stderr.contains("no reload waits for a confirmation"), "{early:?}");
    let denies = "[acl]\npolicy = \"deny\"\n";
    site.write(SITE_FILE, denies);
    let reload = ask(&site, &gate, &["reload", "--confirm", "1"]);
    assert!(reload.stdout.contains("the files keep these settings even then"), "{reload:?}");
    let is_open = || crate::support::Session::try_tls(gate.local()).is_ok();
    let taken_back = || gate.stderr().contains("reload reverted; the files still hold acl.policy (");
    eventually("it is taken back", || is_open() && taken_back());
    let place = format!("{}:2", site.path(SITE_FILE).display());
    let held = format!("acl.policy ({place})");

    let status = ask(&site, &gate, &["status"]);
    assert!(
        status.stdout.contains(&format!("reverted     {held}: not in effect, and still in")),
        "{status:?}"
    );
    assert_eq!(report(&site, &gate, "pve")["reverted"], serde_json::json!([held]));
    let late = ask(&site, &gate, &["confirm"]);
    assert_eq!(late.code, 1);
    late.complains(&format!("too late: the reload was reverted; the files still hold {held}"));

    let refusal = format!(
        "{place}: acl.policy: was reverted because the reload was not confirmed, and the files still hold it: \
         correct it, or put it in effect with `nodegate reload pve --root "
    );
    let again = ask(&site, &gate, &["reload"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains(&refusal) && again.stderr.contains(" --force`"), "{again:?}");
    crate::reload::reload(&gate, &format!("reload refused, serving as before: {refusal}"));
    site.write(SITE_FILE, format!("{denies}[limits]\nbody = 1000\n"));
    assert_eq!(ask(&site, &gate, &["reload"]).code, 1, "another setting does not make these better");
    assert!(is_open());

    site.write(SITE_FILE, "[limits]\nbody = 1000\n");
    let corrected = ask(&site, &gate, &["reload"]);
    assert_eq!(corrected.stdout, "reloaded; changed: limits.body\n", "{corrected:?}");
    assert_eq!(report(&site, &gate, "pve")["reverted"], serde_json::json!([]));
    site.write(SITE_FILE, denies);
    assert_eq!(ask(&site, &gate, &["reload"]).code, 0, "the memory ends with the correction");
    assert!(!is_open());
}

/// The other one may be what locks the admin out.
#[test]
fn each_reverted_value_has_to_be_corrected() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let denied = "[acl]\ndeny_from = \"127.0.0.1\"\n";
    site.write(SITE_FILE, format!("{denied}policy = \"deny\"\n"));
    assert_eq!(ask(&site, &gate, &["reload", "--confirm", "1"]).code, 0);
    eventually("it is taken back", || gate.stderr().contains("reload reverted"));
    site.write(SITE_FILE, denied);
    let half = ask(&site, &gate, &["reload"]);
    let line = format!("{}:2: acl.deny_from: was reverted because", site.path(SITE_FILE).display());
    assert!(half.code == 1 && half.stderr.starts_with(&line), "{half:?}");
    assert!(!half.stderr.contains("acl.policy") && crate::support::Session::try_tls(gate.local()).is_ok());
    site.write(SITE_FILE, "workers = 2\n");
    assert_eq!(ask(&site, &gate, &["reload"]).stdout, "reloaded; changed: workers\n");
}

#[test]
fn a_revert_without_a_change_is_no_problem() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(ask(&site, &gate, &["reload", "--confirm", "1"]).code, 0);
    eventually("its time is over", || gate.stderr().contains("the unconfirmed reload had changed nothing"));
    let report = report(&site, &gate, "pve");
    let last = &report["last_reload"];
    assert_eq!((&last["problems"], &last["unconfirmed_until"]), (&serde_json::json!([]), &Value::Null));
    assert_eq!(report["reverted"], serde_json::json!([]));
}

/// The value in effect again overrides another one, and the files have neither.
#[test]
fn a_revert_warns_of_no_old_lines() {
    let site = Site::pve();
    site.legacy("DENY_FROM=192.0.2.7\n");
    site.write(SITE_FILE, "[acl]\ndeny_from = \"192.0.2.8\"\n");
    let gate = Nodegate::start(&site, &[]);
    let warns = || report(&site, &gate, "pve")["problems"].to_string().contains("is overridden by");
    assert!(warns());
    std::fs::remove_file(site.path(SITE_FILE)).unwrap();
    assert_eq!(ask(&site, &gate, &["reload", "--confirm", "1"]).code, 0);
    eventually("it is taken back", || gate.stderr().contains("reload reverted"));
    assert!(!warns());
}

/// Its own values have not changed.
#[test]
fn an_inheriting_listener_is_not_blamed() {
    let site = Site::pve();
    let table = "[[listener]]\nname = \"x\"\nport = 0\n";
    site.write(SITE_FILE, table);
    let gate = Nodegate::start(&site, &[]);
    site.write(SITE_FILE, format!("[acl]\ndeny_from = \"192.0.2.7\"\n{table}"));
    let reload = ask(&site, &gate, &["reload", "--confirm", "1"]);
    assert!(reload.stdout.contains("changed: acl.deny_from\n"), "{reload:?}");
    eventually("it is taken back", || gate.stderr().contains("reload reverted"));
    let again = ask(&site, &gate, &["reload"]);
    assert!(again.code == 1 && !again.stderr.contains(" listener: "), "{again:?}");
    let line = format!("{}:2: acl.deny_from: was reverted because", site.path(SITE_FILE).display());
    assert!(again.stderr.starts_with(&line), "{again:?}");
}

#[test]
fn force_and_a_confirmation_put_it_in_effect() {
    for arguments in [&["reload", "--force"][..], &["reload", "--confirm", "60"]] {
        let site = Site::pve();
        let gate = Nodegate::start(&site, &[]);
        site.write(SITE_FILE, "[acl]\npolicy = \"deny\"\n[[listener]]\nname = \"x\"\nport = 0\n");
        assert_eq!(ask(&site, &gate, &["reload", "--confirm", "1"]).code, 0);
        eventually("it is taken back", || gate.stderr().contains("reload reverted"));
        assert_eq!(ask(&site, &gate, &["reload"]).code, 1);
        let outcome = ask(&site, &gate, arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {outcome:?}");
        assert!(outcome.stdout.starts_with("reloaded; changed: acl.policy, listener\n"), "{outcome:?}");
        if arguments.contains(&"--confirm") {
            assert_eq!(ask(&site, &gate, &["confirm"]).code, 0);
        }
        assert!(crate::support::Session::try_tls(gate.local()).is_err());
        assert_eq!(ask(&site, &gate, &["reload"]).code, 0, "it is in effect for good");
        assert_eq!(report(&site, &gate, "pve")["reverted"], serde_json::json!([]));
    }
}

#[test]
fn a_confirmed_reload_stays() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write(SITE_FILE, "[acl]\npolicy = \"deny\"\n");
    assert_eq!(ask(&site, &gate, &["reload", "--confirm", "5"]).code, 0);
    let waits = || report(&site, &gate, "pve")["last_reload"]["unconfirmed_until"].is_u64();
    assert!(waits());
    let confirm = ask(&site, &gate, &["confirm"]);
    assert_eq!((confirm.code, confirm.stdout.as_str()), (0, "confirmed\n"));
    assert!(!waits());
    std::thread::sleep(Duration::from_secs(6));
    assert!(crate::support::Session::try_tls(gate.local()).is_err(), "it was not taken back");
    for wrong in [&["reload", "--confirm", "0"][..], &["reload", "--confirm", "soon"]] {
        assert_eq!(ask(&site, &gate, wrong).code, 2, "{wrong:?}");
    }
}

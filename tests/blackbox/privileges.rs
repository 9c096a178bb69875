//! Started as root on the system itself, nodegate serves as the user of its settings, in every thread.

use std::path::Path;
use std::process::Command;

use crate::support::nodegate::{command, eventually};
use crate::support::{Nodegate, Outcome, Site};

/// A profile whose absolute paths lie below the site's directory, so that no `--root` is needed.
fn profile(site: &Site) -> String {
    let root = site.root().to_str().unwrap();
    let text = format!(
        r#"
        [listen]
        address = "127.0.0.1"
        port = 0
        [backend]
        address = "{}"
        [log]
        access = "{root}/log/access.log"
        [product]
        name = "trial"
        daemon = "trial"
        protocol = "https"
        server = "trial"
        [[product.certificate]]
        file = "{root}/etc/pve/local/pve-ssl.pem"
        key = "{root}/etc/pve/local/pve-ssl.key"
        [product.gate]
        cookie = "PVEAuthCookie"
        csrf_header = "CSRFPreventionToken"
        csrf_secret = "{root}/etc/pve/pve-www.key"
        invalid = "no"
        schemes = ["pkcs1-sha1"]
        user_length = 64
        open = []
        [[product.gate.ticket]]
        prefix = "PVE"
        key = "{root}/etc/pve/authkey.pub"
        "#,
        site.daemon.address()
    );
    site.write("/trial.toml", text);
    site.path("/trial.toml").to_str().unwrap().to_owned()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: only root can become somebody else");
    }
    root
}

fn run(site: &Site, user: &str) -> Command {
    let mut command = command(&["--debug", "run", &profile(site), "--set", &format!("user={user}")]);
    command.current_dir("/");
    command
}

/// The four user ids of each thread.
fn users(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |thread: &Path| std::fs::read_to_string(thread.join("status")).unwrap_or_default();
    let line = |text: String| text.lines().find(|line| line.starts_with("Uid:")).map(str::to_owned);
    threads.filter_map(|thread| line(status(&thread.unwrap().path()))).collect()
}

#[test]
fn root_is_given_up_in_every_thread_and_what_needed_it_is_open() {
    if !is_root() {
        return;
    }
    let site = Site::pve();
    let key = site.path("/etc/pve/local/pve-ssl.key");
    Command::new("chmod").arg("0600").arg(&key).status().unwrap();
    Command::new("chmod").arg("0755").arg(site.root()).status().unwrap();
    let gate = Nodegate::spawn(&mut run(&site, "nobody"));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    let all = users(gate.pid());
    assert!(all.len() >= 4, "{all:?}");
    assert!(
        all.iter().all(|line| line.split_whitespace().skip(1).all(|id| id == nobody.to_string())),
        "{all:?}"
    );
    let reply = gate.get("/api2/json/version", &site.cookie("root@pam"));
    assert_eq!(reply.status, 200);
    let log = site.path("/log/access.log");
    let logged = |what: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(what);
    eventually("the line in the log", || logged("GET /api2/json/version"));
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the log after it was opened again", || {
        gate.get("/again", "");
        logged("GET /again")
    });
    assert!(!gate.stderr().contains("cannot be written"), "{}", gate.stderr());
    assert_eq!(gate.stop().code(), Some(0));
}

#[test]
fn a_user_that_does_not_exist_is_said_so() {
    if !is_root() {
        return;
    }
    let site = Site::pve();
    let outcome = Outcome::of(&mut run(&site, "nosuchuser"));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("--set: user: there is no user 'nosuchuser' on this machine"),
        "{}",
        outcome.stderr
    );
}

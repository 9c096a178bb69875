//! Started as root on the system itself, nodegate serves as the user of its settings, in every thread.

use std::path::Path;
use std::process::Command;

use crate::reload::reload;
use crate::reload::upgrade::Installed;
use crate::support::nodegate::{command, eventually};
use crate::support::product::profile_without_root;
use crate::support::{Nodegate, Outcome, Site, require, require_root};

fn profile(site: &Site) -> String {
    let listen = "[listen]\naddress = \"127.0.0.1\"\nport = 0\n";
    profile_without_root(site, listen, "daemon = \"trial\"")
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

/// The files and sockets that needed root are open by then.
#[test]
fn every_thread_gives_up_root() {
    if !require_root("become another user") {
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

/// A field of each thread's status.
fn of_each_thread(pid: u32, field: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |thread: &Path| std::fs::read_to_string(thread.join("status")).unwrap_or_default();
    let value = |text: String| {
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t").map(str::to_owned))
    };
    threads.filter_map(|thread| value(status(&thread.unwrap().path()))).collect()
}

/// A reload and an upgrade need none of them.
#[test]
fn dropped_privileges_never_return() {
    if !require_root("become another user") {
        return;
    }
    let site = Site::pve();
    Command::new("chmod").arg("0755").arg(site.root()).status().unwrap();
    Command::new("chmod").arg("0644").arg(site.path("/etc/pve/local/pve-ssl.key")).status().unwrap();
    let mut installed = Installed::new(&site);
    let settings = site.path("/trial.toml");
    let mut gate = Nodegate::spawn(installed.command(&run(&site, "nobody")).current_dir("/"));
    for (field, value) in [
        ("NoNewPrivs", "1"),
        ("CapBnd", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
    ] {
        let all = of_each_thread(gate.pid(), field);
        assert!(all.len() >= 4 && all.iter().all(|own| own == value), "{field}: {all:?}");
    }
    if !require(gate.stderr().contains("landlock: confined"), "a kernel with landlock") {
        return;
    }
    let text = std::fs::read_to_string(&settings).unwrap();
    let log = format!("{}/log/access.log", site.root().display());
    std::fs::write(&settings, text.replace(&log, "/etc/access.log")).unwrap();
    reload(
        &gate,
        "log.access: /etc/access.log is outside the directories that the running process may write to",
    );
    let elsewhere = format!("{}/log/elsewhere.log", site.root().display());
    std::fs::write(&settings, text.replace(&log, &elsewhere)).unwrap();
    reload(&gate, " reloaded");
    installed.replace();
    reload(&gate, "the successor serves");
    let successor = installed.successor(&gate);
    assert!(gate.wait().success());
    assert_eq!(gate.get("/successor", "").status, 404);
    let logged = || std::fs::read_to_string(&elsewhere).unwrap_or_default().contains("/successor");
    eventually("its line in the log", logged);
    let all = of_each_thread(successor.as_raw().try_into().unwrap(), "NoNewPrivs");
    assert!(all.len() >= 4 && all.iter().all(|own| own == "1"), "{all:?}");
    assert!(!gate.stderr().contains("cannot be written"), "{}", gate.stderr());
}

#[test]
fn an_unknown_user_is_reported() {
    if !require_root("become another user") {
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

#[test]
fn check_names_keys_the_user_cannot_read() {
    if !require_root("become another user") {
        return;
    }
    let site = Site::pve();
    Command::new("chmod").arg("0755").arg(site.root()).status().unwrap();
    let (key, secret) = (site.path("/etc/pve/local/pve-ssl.key"), site.path("/etc/pve/pve-www.key"));
    let profile = profile(&site);
    let check = |key_mode: &str, secret_mode: &str| {
        Command::new("chmod").arg(key_mode).arg(&key).status().unwrap();
        Command::new("chmod").arg(secret_mode).arg(&secret).status().unwrap();
        Outcome::of(&mut command(&["check", &profile, "--set", "user=nobody"]))
    };
    let outcome = check("0600", "0640");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for (path, mode, consequence) in [
        (&key, "0600", "a reload is refused, and a renewed file is not served"),
        (&secret, "0640", "requests fail within a minute of the start"),
    ] {
        outcome.complains(&format!(
            "{}: user 'nobody' cannot read it (mode {mode}): {consequence}",
            path.display()
        ));
    }
    let outcome = check("0644", "0644");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.complains(&format!(
        "{}: warning: every user of this machine can read this private key: remove the permission with chmod o-r",
        key.display()
    ));
    assert!(!outcome.stderr.contains("cannot read"), "{outcome:?}");
    Command::new("chmod").arg("0700").arg(site.path("/etc/pve")).status().unwrap();
    let outcome = check("0644", "0644");
    assert!(outcome.stderr.contains("etc/pve is closed to it)"), "{outcome:?}");
}

/// A file that is read while serving, besides keys: with the route scope that a listener serves.
#[test]
fn check_names_product_files_the_user_cannot_read() {
    if !require_root("become another user") {
        return;
    }
    let site = Site::pve();
    Command::new("chmod").arg("0755").arg(site.root()).status().unwrap();
    let profile = profile(&site);
    let root = site.root().to_str().unwrap();
    let text = std::fs::read_to_string(&profile).unwrap();
    let more = format!(
        r#"
        [[product.auth.ticket]]
        prefix = "QUAR"
        key = "{root}/etc/pve/authkey.pub"
        min_age = -20
        lifetime = {{ file = "{root}/product.conf", section = "spam", key = "lifetime", default = 7 }}
        [product.nodes]
        file = "{root}/etc/members"
        format = "members"
        certificates = ["{root}/etc/{{node}}/custom.pem", "{root}/etc/{{node}}/ssl.pem"]
        [product.route_scope.quarantine]
        calls = ["POST /access/ticket"]
        login = {{ call = "POST /access/ticket", realm = "quarantine", realm_file = "{root}/realms.conf" }}
        [product.variable.consent]
        kind = "encoded"
        from = [{{ section = {{ file = "{root}/consent.conf", section = "a", key = "b" }} }}]
        [product.variable.language]
        kind = "word"
        from = [{{ match = {{ file = "{root}/datacenter.cfg", pattern = "^language: (.*)$" }} }}]
        [[product.file]]
        url = "/favicon.ico"
        path = "{root}/favicon.ico"
        "#
    );
    let member = r#"{"nodename":"node1","nodelist":{"node1":{"id":1},"node2":{"id":2}}}"#;
    site.write("/etc/members", member);
    let listener = "\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
    let check = |listener: &str| {
        std::fs::write(&profile, format!("{text}{more}{listener}")).unwrap();
        Outcome::of(&mut command(&["check", &profile, "--set", "user=nobody"]))
    };
    let realms = "/realms.conf";
    for (file, is_error, consequence) in [
        (realms, true, "logins at a listener with a route scope fail unless the user name ends in the realm"),
        ("/product.conf", true, "requests fail within a minute of the start"),
        ("/etc/node2/ssl.pem", true, "requests to this node fail"),
        ("/consent.conf", false, "pages are rendered without the values in it"),
        ("/datacenter.cfg", false, "pages are rendered without the values in it"),
        ("/favicon.ico", false, "browsers cannot load it"),
    ] {
        site.write(file, "x");
        Command::new("chmod").arg("0600").arg(site.path(file)).status().unwrap();
        let outcome = check(listener);
        assert_eq!(outcome.code, i32::from(is_error), "{file}: {outcome:?}");
        let severity = if is_error { "" } else { "warning: " };
        let path = site.path(file);
        outcome.complains(&format!(
            "{}: {severity}user 'nobody' cannot read it (mode 0600): {consequence}",
            path.display()
        ));
        if file == realms {
            // Without a listener of this class nothing reads the file.
            let outcome = check("");
            assert_eq!(outcome.code, 0, "{outcome:?}");
            assert!(!outcome.stderr.contains("cannot read"), "{outcome:?}");
        }
        Command::new("chmod").arg("0644").arg(&path).status().unwrap();
    }
    assert!(!check(listener).stderr.contains("cannot read"));
}

/// Root reads them at the start; the user that serves reads them at each reload.
#[test]
fn check_names_settings_that_the_user_cannot_read() {
    if !require_root("become another user") {
        return;
    }
    let site = Site::pve();
    Command::new("chmod").arg("0755").arg(site.root()).status().unwrap();
    let profile = profile(&site);
    let legacy = "/etc/default/trial";
    site.write(legacy, "POLICY=allow\n");
    let check = || Outcome::of(&mut command(&["check", &profile, "--set", "user=nobody"]));
    assert_eq!(check().code, 0, "{:?}", check());
    for (file, mode) in [(legacy, "0600"), (legacy, "0640"), ("/trial.toml", "0600")] {
        Command::new("chmod").arg(mode).arg(site.path(file)).status().unwrap();
        let outcome = check();
        assert_eq!(outcome.code, 1, "{file} {mode}: {outcome:?}");
        let path = site.path(file).display().to_string();
        outcome
            .complains(&format!("{path}: user 'nobody' cannot read it (mode {mode}): a reload is refused"));
        Command::new("chmod").arg("0644").arg(site.path(file)).status().unwrap();
    }
    Command::new("chmod").arg("0640").arg(site.path(legacy)).status().unwrap();
    let entry = Command::new("setfacl").args(["-m", "u:nobody:r"]).arg(site.path(legacy)).status().unwrap();
    assert!(entry.success());
    assert_eq!(check().code, 0, "an access list of the file system counts: {:?}", check());
    Command::new("chmod").arg("0600").arg(site.path(legacy)).status().unwrap();
    let gate = Nodegate::spawn(&mut run(&site, "nobody"));
    reload(&gate, &format!("{}: cannot be read: Permission denied", site.path(legacy).display()));
}

//! The doctor on the system itself, with programs of the service manager that a test plays, and as an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::Found;
use crate::support::nodegate::{command, free_port};
use crate::support::product::profile_without_root;
use crate::support::{Nodegate, Site, require_root};

const NOBODY: u32 = 65_534;

/// A site whose profile names absolute paths below its directory, so that no `--root` is needed.
pub struct SystemSite {
    pub site: Site,
    pub profile: String,
}

impl SystemSite {
    pub fn new(user: &str) -> Self {
        let site = Site::pve();
        let settings =
            format!("user = \"{user}\"\n[listen]\naddress = \"127.0.0.1\"\nport = {}\n", free_port());
        let pid_file = site.path("/run/trial.pid");
        let product = format!("daemon = \"trialproxy\"\npid_file = \"{}\"", pid_file.display());
        let profile = profile_without_root(&site, &settings, &product);
        site.write("/log/access.log", "");
        fs::set_permissions(site.root(), Permissions::from_mode(0o755)).unwrap();
        Self { site, profile }
    }

    /// A program that prints a text.
    pub fn program(&self, name: &str, script: &str) {
        let path = format!("/bin/{name}");
        self.site.write(&path, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.site.path(&path), Permissions::from_mode(0o755)).unwrap();
    }

    pub fn doctor(&self) -> Command {
        let mut doctor = command(&["doctor", &self.profile]);
        let path = std::env::var("PATH").unwrap();
        doctor.env("PATH", format!("{}:{path}", self.site.path("/bin").display())).current_dir("/");
        doctor
    }
}

/// The output of `systemctl show`, with `CHANGE` in place of the last property.
const SHOWN: &str = "cat <<'END'\n\
    Id=trialproxy.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n\
    NeedDaemonReload=no\nUnitFileState=enabled\nUser=www-data\nNoNewPrivileges=yes\nProtectSystem=CHANGE\n\
    DropInPaths=/usr/lib/systemd/system/trialproxy.service.d/nodegate.conf /etc/systemd/system/trialproxy.service.d/override.conf\n\
    ExecStart={ path=/usr/bin/nodegate ; argv[]=/usr/bin/nodegate run trial ; ignore_errors=no }\n\
    \n\
    Id=nodegate@trial.service\nLoadState=not-found\nActiveState=inactive\n\
    \n\
    Id=nodegate-fallback@trialproxy.service\nLoadState=loaded\nActiveState=FALLBACK\nEND";

#[test]
fn units_and_drop_ins_have_findings() {
    let system = SystemSite::new("root");
    system.program("systemctl", &SHOWN.replace("CHANGE", "strict").replace("FALLBACK", "inactive"));
    system.program("timedatectl", "echo no");
    let found = Found::of(&mut system.doctor());
    found.one("ok", "service", "trialproxy.service is active");
    found.one("ok", "service", "the sandbox of trialproxy.service is in effect");
    found.one("warning", "clock", "the clock is not synchronised");

    system.program("systemctl", &SHOWN.replace("CHANGE", "no").replace("FALLBACK", "active"));
    system.program("timedatectl", "echo yes");
    let found = Found::of(&mut system.doctor());
    let undone =
        found.one("warning", "service", "is not whole: ProtectSystem=no (/etc/systemd/system/trialproxy");
    let mend = undone["mend"].as_str().unwrap();
    assert!(mend.starts_with("sed -i -E '/^(ProtectSystem)=/d' /etc/systemd/system/trialproxy"), "{undone}");
    assert!(mend.ends_with("systemctl restart trialproxy.service"), "{undone}");
    found.one("error", "service", "the original trialproxy runs in its place");
    found.one("ok", "clock", "the clock is synchronised");
    assert_eq!(found.code, 1);
}

/// A machine without systemd, and one whose service manager hangs.
#[test]
fn a_service_manager_that_hangs_costs_little_time() {
    let system = SystemSite::new("root");
    system.program("systemctl", "exec sleep 60");
    system.program("timedatectl", "exec sleep 60");
    let found = Found::of(&mut system.doctor());
    found.one("warning", "service", "systemctl does not answer");
    found.one("note", "clock", "timedatectl does not answer");
    system.program("systemctl", "echo 'System has not been booted with systemd as init system' >&2; exit 1");
    let found = Found::of(&mut system.doctor());
    found.one("note", "service", "no unit was looked at: systemctl: System has not been booted");
}

#[test]
fn files_are_tried_as_the_serving_user() {
    if !require_root("become another user") {
        return;
    }
    let system = SystemSite::new("nobody");
    let key = system.site.path("/etc/pve/local/pve-ssl.key");
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    let found = Found::of(&mut system.doctor());
    assert_eq!(found.code, 1);
    found.one("error", "settings", "pve-ssl.key: user 'nobody' cannot read it");
    found.one("error", "files", "user 'nobody' cannot write to");
    let log = system.site.path("/log/access.log");
    fs::set_permissions(log, Permissions::from_mode(0o666)).unwrap();
    let found = Found::of(&mut system.doctor());
    found.one("ok", "files", "'nobody' may write to");
    found.one("warning", "files", "/log");
    let missing = SystemSite::new("no-such-user");
    Found::of(&mut missing.doctor()).one("error", "files", "there is no user 'no-such-user'");
}

/// It says what it could not look at, and still finds the rest.
#[test]
fn an_ordinary_user_gets_notes() {
    if !require_root("become another user") {
        return;
    }
    let system = SystemSite::new("root");
    let _gate = Nodegate::spawn(command(&["--debug", "run", &system.profile]).current_dir("/"));
    let found = Found::of(system.doctor().uid(NOBODY).gid(NOBODY));
    assert_eq!(found.json["root"], false);
    let asked = found.one("note", "process", "the running nodegate was not asked");
    assert!(asked["mend"].as_str().unwrap().starts_with("sudo nodegate doctor "), "{asked}");
    let listens = found.one("note", "ports", "a process of user 'root' listens");
    assert!(listens["why"].as_str().unwrap().contains("only root"), "{listens}");
    found.one("ok", "daemons", "answers");
}

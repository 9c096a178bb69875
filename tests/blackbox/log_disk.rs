//! The disk of the access log: when it is full, nearly full, and when logrotate moves the log.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::nodegate::{command, eventually};
use crate::support::{Nodegate, Outcome, Site, require, require_root};

const LOGS: &str = "/var/log/pveproxy";
const EXAMPLE: &str = include_str!("../../debian/examples/logrotate");

/// Runs a command with a small file system at the site's logs, prepared by a script.
fn with_small_disk(site: &Site, options: &str, script: &str, inner: &Command) -> Command {
    let mut outer = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        outer.arg("--map-root-user");
    }
    let script =
        format!("set -eu\nmount -t tmpfs -o {options} tmpfs \"$0\"\ncd \"$0\"\n{script}\nexec \"$@\"");
    outer.args(["--mount", "sh", "-c", &script]).arg(site.path(LOGS));
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
}

/// Whether this machine lets the tests mount. If not, the test fails or is skipped.
fn can_mount() -> bool {
    let inner = Command::new("true");
    let mounted = Outcome::of(&mut with_small_disk(&Site::pve(), "size=64k", "", &inner));
    require(mounted.code == 0, "a machine that allows mounts in a new namespace")
}

/// Writes as much as there is room for, and more.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for piece in [4096, 512, 1] {
        while file.write_all(&vec![b'x'; piece]).is_ok() {}
    }
}

/// nodegate logs the full disk once.
#[test]
fn a_full_disk_leaves_no_half_lines() {
    if !can_mount() {
        return;
    }
    let site = Site::pve();
    let inner = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(&mut with_small_disk(&site, "size=64k", "", &inner));
    // The file system is the process's own.
    let logs = PathBuf::from(format!("/proc/{}/root{}", gate.pid(), site.path(LOGS).display()));
    let log = || fs::read_to_string(logs.join("access.log")).unwrap_or_default();
    let ask = |path: &str| assert_eq!(gate.get(path, "").status, 404);
    ask("/before");
    eventually("the first line is there", || log().contains("/before"));
    fill(&logs.join("filler"));
    // The last page of the log has room for some more lines, and for a part of one.
    for number in 0..80 {
        ask(&format!("/full/{number}"));
    }
    eventually("it is warned of", || gate.stderr().contains("No space left on device"));
    for number in 80..100 {
        ask(&format!("/full/{number}"));
    }
    let form = regex::Regex::new(r#"^127\.0\.0\.1 - - \[[^\]]+\] "GET /\S+ HTTP/1\.1" 404 \d+$"#).unwrap();
    let is_whole = |text: &str| text.ends_with('\n') && text.lines().all(|line| form.is_match(line));
    eventually("only whole lines are there", || is_whole(&log()));
    assert_eq!(gate.stderr().matches("cannot be written").count(), 1, "{}", gate.stderr());
    fs::remove_file(logs.join("filler")).unwrap();
    eventually("lines are written again", || {
        ask("/after");
        log().contains("/after")
    });
    assert!(is_whole(&log()), "{}", log());
    eventually("the lost lines are counted", || gate.stderr().contains("lines were lost"));
    assert_eq!(gate.stderr().matches("cannot be written").count(), 1, "{}", gate.stderr());
    let written = log().matches("/full/").count();
    let reported = regex::Regex::new(r"is written again, to \S+; (\d+) lines were lost").unwrap();
    let reported: usize = reported.captures(&gate.stderr()).unwrap()[1].parse().unwrap();
    assert!(reported >= 100 - written, "{reported} lines are lost, {written} of 100 are there");
    assert!(gate.stop().success());
}

/// The lines of `check` on the log, whose file system a script has prepared.
fn checked(site: &Site, options: &str, script: &str, sets: &[&str]) -> String {
    let mut inner = command(&["--root", site.root().to_str().unwrap(), "check", "pve"]);
    inner.args(sets.iter().flat_map(|set| ["--set", set]));
    let outcome = Outcome::of(&mut with_small_disk(site, options, script, &inner));
    let of_log = outcome.stderr.lines().filter(|line| line.contains("log.access: warning: "));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    of_log.collect::<Vec<_>>().join("\n")
}

#[test]
fn check_warns_of_a_nearly_full_disk() {
    if !can_mount() {
        return;
    }
    let site = Site::pve();
    assert_eq!(checked(&site, "size=4m", "", &[]), "");
    let filled = "head -c 4000000 /dev/zero >filler";
    let reported = checked(&site, "size=4m", filled, &[]);
    let message = "is nearly full: 0 MiB of 4 MiB (4 %) are free";
    assert!(reported.starts_with("profile: ") && reported.contains(message), "{reported}");
    let elsewhere = "log.access=/var/log/pveproxy/deeper/still/access.log";
    assert!(checked(&site, "size=4m", filled, &[elsewhere]).contains("nearly full"), "by what is there");
    assert_eq!(checked(&site, "size=4m", filled, &["log.access=/tmp/access.log"]), "", "another disk");
    assert_eq!(checked(&site, "size=4m", filled, &["log.access="]), "", "no log");
    let inodes = checked(&site, "size=4m,nr_inodes=40", "touch $(seq 1 38)", &[]);
    assert!(inodes.contains("has nearly no inodes left: 1 of 40 (2 %) are free"), "{inodes}");
}

#[test]
fn check_reports_a_full_disk_as_json() {
    if !can_mount() {
        return;
    }
    let site = Site::pve();
    let inner = command(&["--root", site.root().to_str().unwrap(), "check", "--json", "pve"]);
    let filled = "head -c 4000000 /dev/zero >filler";
    let outcome = Outcome::of(&mut with_small_disk(&site, "size=4m", filled, &inner));
    let reported: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let warnings = reported["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["key"] == "log.access").unwrap();
    assert!(warning["message"].as_str().unwrap().contains("nearly full"), "{warning}");
}

/// The example, for a log below a directory of the test's own.
fn rotate(directory: &Path, log: &Path, pid: u32) -> Outcome {
    let signal = format!("kill -HUP {pid}; id -u >{}", directory.join("who").display());
    let text = EXAMPLE.replace("/var/log/pveproxy/access.log", log.to_str().unwrap());
    let text = text.replace("/bin/systemctl try-reload-or-restart 'nodegate@*.service'", &signal);
    assert!(text.contains(&signal), "{text}");
    let conf = directory.join("conf");
    fs::write(&conf, text).unwrap();
    let mut command = Command::new("logrotate");
    Outcome::of(command.args(["--force", "--state"]).arg(directory.join("state")).arg(conf))
}

/// The directory is writable for its group.
#[test]
fn logrotate_accepts_the_example() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    if !require_root("give files away") {
        return;
    }
    let user = nix::unistd::User::from_name("www-data").unwrap().expect("Debian has the user www-data");
    let site = Site::pve();
    // The user who rotates has to reach the log.
    fs::set_permissions(site.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    chown(site.path(LOGS), Some(uid), Some(gid)).unwrap();
    fs::set_permissions(site.path(LOGS), fs::Permissions::from_mode(0o775)).unwrap();
    let gate = Nodegate::start(&site, &[]);
    assert_eq!(gate.get("/before", "").status, 404);
    eventually("the first line is there", || site.access_log().contains("/before"));
    let log = site.path("/var/log/pveproxy/access.log");
    chown(&log, Some(uid), Some(gid)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let rotated = rotate(directory.path(), &log, gate.pid());
    assert_eq!((rotated.code, rotated.stderr.as_str()), (0, ""), "{rotated:?}");
    let who = fs::read_to_string(directory.path().join("who")).unwrap();
    assert_eq!(who.trim(), "0", "only root may reload");
    let moved = fs::read_to_string(log.with_extension("log.1")).unwrap();
    assert!(moved.contains("/before"), "{moved}");
    let new = fs::metadata(&log).unwrap();
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o777), (uid, gid, 0o640));
    eventually("the new file is written", || {
        assert_eq!(gate.get("/after", "").status, 404);
        site.access_log().contains("/after")
    });
}

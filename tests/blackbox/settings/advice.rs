//! Settings that are no error, but that an admin should know of: in `check` and in the log of `run`.

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Site};

const CLUSTER: &str = r#"{"nodename":"node1","version":3,"cluster":{"name":"c","version":2,"nodes":2,"quorate":1},
"nodelist":{"node1":{"id":1,"online":1,"ip":"127.0.0.1"},"node2":{"id":2,"online":1,"ip":"127.0.0.2"}}}"#;
const CLUSTERED: &str = "warning: LISTEN_IP is set on a clustered system, which is not recommended";

#[test]
fn listen_ip_on_a_cluster_is_warned_about() {
    let site = Site::pve();
    site.legacy("LISTEN_IP=127.0.0.1\n");
    let gate = Nodegate::start(&site, &[]);
    assert!(!gate.stderr().contains(CLUSTERED), "a node alone: {}", gate.stderr());
    assert!(!Outcome::check(&site, &[]).stderr.contains(CLUSTERED));
    site.write("/etc/pve/.members", CLUSTER);
    let outcome = Outcome::check(&site, &[]);
    let start = format!("{}:1: listen.address: {CLUSTERED}", site.path("/etc/default/pveproxy").display());
    assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{outcome:?}");
    assert_eq!(outcome.code, 0);
    let gate = Nodegate::start(&site, &[]);
    assert!(gate.stderr().contains(CLUSTERED), "{}", gate.stderr());
    let everywhere = Outcome::check(&site, &["listen.address=::"]);
    assert!(!everywhere.stderr.contains(CLUSTERED), "{everywhere:?}");
}

/// nodegate warns of it.
#[test]
fn an_invalid_worker_count_becomes_three() {
    let site = Site::pve();
    for wrong in ["0", "128", "-1", "many"] {
        site.legacy(&format!("MAX_WORKERS={wrong}\n"));
        let outcome = Outcome::check(&site, &[]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let place = site.path("/etc/default/pveproxy").display().to_string();
        let line = format!(
            "{place}:1: MAX_WORKERS (workers): warning: must be a whole number from 1 to 127, not '{wrong}'; using 3"
        );
        outcome.complains(&line);
        assert_eq!(outcome.setting("workers"), "workers = 3  (profile)");
    }
    let gate = Nodegate::start(&site, &[]);
    assert!(
        gate.stderr().contains("must be a whole number from 1 to 127, not 'many'; using 3"),
        "{}",
        gate.stderr()
    );
    eventually("three workers", || workers(&gate) == 3);
    for right in [1, 127] {
        let gate = Nodegate::start(&site, &[&format!("workers={right}")]);
        eventually("as many workers as set", || workers(&gate) == right);
        assert!(!gate.stderr().contains("127; using"));
    }
}

/// Threads that serve.
fn workers(gate: &Nodegate) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap()
    };
    tasks.map(name).filter(|name| name.starts_with("worker-")).count()
}

#[test]
fn a_real_ip_header_needs_a_list() {
    let warning = "warning: every client can write any address into the access log";
    let site = Site::pve();
    site.legacy("PROXY_REAL_IP_HEADER=X-Real-IP\n");
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0);
    let start = format!(
        "{}:1: PROXY_REAL_IP_HEADER (real_ip.header): {warning}",
        site.path("/etc/default/pveproxy").display()
    );
    assert!(outcome.stderr.lines().any(|line| line.starts_with(&start)), "{outcome:?}");
    assert!(outcome.stderr.contains("PROXY_REAL_IP_ALLOW_FROM"), "and what to do about it: {outcome:?}");
    let gate = Nodegate::start(&site, &[]);
    assert!(gate.stderr().contains(warning), "{}", gate.stderr());
    site.legacy("PROXY_REAL_IP_HEADER=X-Real-IP\nPROXY_REAL_IP_ALLOW_FROM=192.0.2.1\n");
    assert!(!Outcome::check(&site, &[]).stderr.contains(warning));
}

#[test]
fn check_names_missing_files_without_failing() {
    let site = Site::pve();
    std::fs::remove_file(site.path("/etc/pve/authkey.pub")).unwrap();
    let outcome = Outcome::check(&site, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("no login is possible"), "{outcome:?}");
    let images = site.path("/usr/share/pve-manager/images");
    let line = format!("/pve2/images/ is served from {}, which is missing", images.display());
    assert!(outcome.stderr.contains(&line), "{outcome:?}");
    std::fs::create_dir_all(images).unwrap();
    assert!(!Outcome::check(&site, &[]).stderr.contains(&line));
}

#[test]
fn check_warns_of_a_shared_log() {
    let site = Site::pve();
    let is_warned =
        |sets: &[&str]| Outcome::check(&site, sets).stderr.contains("log.access: warning: a trial");
    assert!(is_warned(&["listen.port=8007"]));
    assert!(!is_warned(&["listen.port=8007", "log.access=/var/log/trial.log"]));
    assert!(!is_warned(&["listen.port=8006"]) && !is_warned(&[]));
    site.write("/etc/nodegate/pve.toml", "[listen]\nport = 8007\n");
    assert!(!is_warned(&[]), "it is the daemon itself that was moved");
}

#[test]
fn a_budget_below_one_body_is_warned_of() {
    let site = Site::pve();
    let warning = "limits.buffered: warning: 67108864 bytes are less than four bodies of limits.body";
    let outcome = Outcome::check(&site, &["limits.body=100000000"]);
    assert!(outcome.stderr.contains(&format!("{warning} or sixteen of limits.login_body; using 400000000")));
    assert_eq!(outcome.code, 0);
    assert!(!Outcome::check(&site, &["limits.body=16000000"]).stderr.contains("limits.buffered"));
}

#[test]
fn settings_beyond_the_memory_limit_are_warned_of() {
    let site = Site::pve();
    site.write("/proc/self/cgroup", "0::/system.slice/pveproxy.service\n");
    let warned = |sets: &[&str]| {
        let outcome = Outcome::check(&site, sets);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        // Debian 13 has a tmpfs at /tmp, so the site's spool is warned of as well.
        let mut lines = outcome.stderr.lines().filter(|line| line.contains("MemoryMax="));
        lines.find(|line| !line.contains("limits.upload_bytes_total: warning")).map(str::to_owned)
    };
    assert_eq!(warned(&["limits.connections=1000"]), None, "no limit is known");
    site.write("/sys/fs/cgroup/system.slice/pveproxy.service/memory.max", "5234491392\n");
    assert_eq!(warned(&["limits.connections=16384"]), None);
    let line = warned(&["limits.connections=30000", "limits.buffered=268435456"]).unwrap();
    assert!(
        line.contains("--set: limits.connections: warning: the settings allow 6073 MiB of memory"),
        "{line}"
    );
    assert!(line.contains("the service has 4992 MiB"), "{line}");
    let line = warned(&["limits.connections=16384", "http2=true"]).unwrap();
    assert!(line.contains("the settings allow 7424 MiB of memory"), "{line}");
    site.write("/sys/fs/cgroup/system.slice/memory.max", "536870912\n");
    assert!(warned(&["limits.connections=16384"]).unwrap().contains("the service has 512 MiB"));
    site.write("/proc/self/cgroup", "7:blkio:/\n5:memory:/a\n");
    site.write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(warned(&["limits.connections=16384"]), None);
}

/// `/dev/shm` is a tmpfs everywhere.
#[test]
fn a_spool_in_limited_memory_is_warned_of() {
    let site = Site::pve();
    let spool = site.path("/var/tmp");
    std::fs::remove_dir_all(&spool).unwrap();
    std::os::unix::fs::symlink("/dev/shm", &spool).unwrap();
    site.write("/proc/self/cgroup", "0::/system.slice/pveproxy.service\n");
    let warns = |sets: &[&str]| Outcome::check(&site, sets).stderr.contains("a tmpfs");
    assert!(!warns(&[]), "no limit is known");
    site.write("/sys/fs/cgroup/system.slice/pveproxy.service/memory.max", "5234491392\n");
    assert!(warns(&["limits.connections=1000"]));
    assert!(!warns(&["limits.connections=1000", "limits.upload_bytes_total=1073741824"]), "it all fits");
    assert!(warns(&["limits.connections=1000", "limits.upload_bytes_total=10737418240"]));
}

//! Resources that run out: descriptors, memory, the spool's disk; and a log on a disk that takes nothing.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use super::within;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site, all_at_once, require, require_root};

const VERSION: &str = "/api2/json/version";
const UPLOAD: &str = "/api2/json/nodes/node1/storage/local/upload";

#[test]
fn without_descriptors_it_waits_and_then_serves_again() {
    let site = Site::pve();
    let plain =
        Nodegate::prepared(&site, "pve", &["workers=2", "timeout.header=30", "limits.connections=1000"]);
    let gate = Nodegate::spawn(&mut within(&["prlimit", "--nofile=96:96"], &plain));
    let cookie = site.cookie("root@pam");
    let mut inside = gate.connect();
    assert_eq!(inside.request("GET", VERSION, &cookie, b"").status, 200);
    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(gate.local()).unwrap()).collect();
    eventually("it says so", || gate.stderr().contains("Too many open files"));
    let used = cpu_ticks(&gate);
    assert_eq!(inside.request("GET", "/nope", "", b"").status, 404, "who is inside is served");
    let reply = inside.request("GET", VERSION, &cookie, b"");
    assert!(matches!(reply.status, 200 | 500..=599), "{} {}", reply.status, reply.text());
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu_ticks(&gate) - used < 60, "it spins while it waits");
    let said = gate.stderr().matches("Too many open files").count();
    assert!(said < 50, "{said} lines of the same");
    drop(crowd);
    eventually("it serves again", || {
        Session::try_tls(gate.local())
            .is_ok_and(|mut session| session.request("GET", VERSION, &cookie, b"").status == 200)
    });
    assert!(gate.stop().success());
}

/// Hundredths of a second that the process has computed.
fn cpu_ticks(gate: &Nodegate) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", gate.pid())).unwrap();
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

const CONTROLLER: &str = "the memory controller of cgroups";

/// A memory cgroup; removed with its last process.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` if the machine has no such controller and the test is skipped.
    fn of(bytes: u64) -> Option<Self> {
        let name = format!("nodegate-test-{}", std::process::id());
        let (first, second) = (PathBuf::from("/sys/fs/cgroup/memory"), PathBuf::from("/sys/fs/cgroup"));
        let (folder, limit) = if first.is_dir() {
            (first.join(name), "memory.limit_in_bytes")
        } else {
            (second.join(name), "memory.max")
        };
        if !require(fs::create_dir(&folder).is_ok(), CONTROLLER) {
            return None;
        }
        let group = Self(folder);
        let is_limited = fs::write(group.0.join(limit), bytes.to_string()).is_ok();
        require(is_limited, CONTROLLER).then_some(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn many_big_requests_fit_into_a_little_memory() {
    if !require_root("limit the memory of a cgroup") {
        return;
    }
    let Some(group) = Cgroup::of(192 << 20) else { return };
    let site = Site::pve();
    let joins = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let plain = Nodegate::prepared(&site, "pve", &[]);
    let gate = Nodegate::spawn(&mut within(&["sh", "-c", &joins, "sh"], &plain));
    let headers = site.cookie("root@pam") + &site.csrf("root@pam");
    let body = vec![b'x'; 500_000];
    all_at_once(&[(); 150], |()| {
        let mut session = gate.connect();
        assert_eq!(session.request("PUT", "/api2/json/cluster/options", &headers, &body).status, 200);
        let big = session.request("GET", "/api2/json/standin/big?size=3000000", &headers, b"");
        assert_eq!((big.status, big.body.len()), (200, 3_000_000));
    });
    assert_eq!(gate.get(VERSION, &headers).status, 200);
    assert!(gate.stop().success());
}

/// Runs in a separate mount namespace, in which something small or read-only lies over one directory.
fn with_mount(site: &Site, over: &str, options: &str, profile: &str, sets: &[&str]) -> Nodegate {
    let mount = format!("mount -t tmpfs -o {options} none {} && exec \"$@\"", site.path(over).display());
    let plain = Nodegate::prepared(site, profile, sets);
    Nodegate::spawn(&mut within(&["unshare", "--mount", "sh", "-c", &mount, "sh"], &plain))
}

fn form(size: usize) -> Vec<u8> {
    let head = "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\r\n";
    [head.as_bytes(), &vec![b'x'; size], b"\r\n--b--\r\n"].concat()
}

/// It leaves no file behind.
#[test]
fn a_full_spool_is_a_507() {
    if !require_root("mount") {
        return;
    }
    let site = Site::pve();
    let profile = include_str!("../../../profiles/pve.toml")
        .replace("[product.upload]", "[product.upload]\nreserve = 0");
    site.write("/mine.toml", profile);
    let gate = with_mount(&site, "/var/tmp", "size=2m", site.path("/mine.toml").to_str().unwrap(), &[]);
    let spool = PathBuf::from(format!("/proc/{}/root{}", gate.pid(), site.path("/var/tmp").display()));
    let headers = site.cookie("root@pam")
        + &site.csrf("root@pam")
        + "Content-Type: multipart/form-data; boundary=b\r\n";
    let is_empty = || fs::read_dir(&spool).unwrap().next().is_none();
    for _ in 0..3 {
        let reply = gate.request("POST", UPLOAD, &headers, &form(5_000_000));
        assert_eq!(reply.status, 413, "reported before: {}", reply.text());
        // The length is not announced: the disk fills while the body comes.
        let mut session = gate.connect();
        session.send(format!(
            "POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        ));
        let bytes = form(5_000_000);
        for piece in bytes.chunks(100_000) {
            if session
                .try_send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
                .is_err()
            {
                break;
            }
        }
        let _ = session.try_send("0\r\n\r\n");
        let reply = session.reply(false);
        assert_eq!(reply.status, 507, "{}", reply.text());
        eventually("the spool is empty", is_empty);
    }
    assert_eq!(gate.get(VERSION, &headers).status, 200);
    assert!(gate.stop().success());
}

#[test]
fn a_read_only_log_disk_stops_nothing() {
    if !require_root("mount") {
        return;
    }
    let site = Site::pve();
    let gate = with_mount(&site, "/var/log/pveproxy", "ro", "pve", &[]);
    for _ in 0..3 {
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    }
    eventually("a warning", || gate.stderr().contains("Read-only file system"));
    assert!(gate.stop().success());
}

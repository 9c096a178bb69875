//! A prefork daemon that is not of this project: gunicorn with three workers that take one call at a time. wrk is the
//! script, Chromium the GUI.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::nodegate::{eventually, free_port};
use crate::support::{Nodegate, Session, Site};

const CONFIG: &str = "/api2/json/nodes/node1/qemu/100/config";
const DEAD: &str = "/api2/json/nodes/node1/storage/dead/content";
/// Seconds of a call to the dead storage.
const DEAD_SECONDS: u64 = 4;
/// Seconds in which the windows poll.
const POLLING: u64 = 5;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// gunicorn with its sync workers, the class for applications that take one request at a time.
struct Prefork {
    child: Child,
    port: u16,
}

impl Prefork {
    fn start() -> Self {
        let port = free_port();
        let child = Command::new("gunicorn")
            .args(["--workers", "3", "--worker-class", "sync", "--timeout", "60", "--log-level", "error"])
            .args(["--bind", &format!("127.0.0.1:{port}"), "--chdir"])
            .arg(in_repository("tests/e2e"))
            .arg("prefork_app:application")
            .env("DEAD_SECONDS", DEAD_SECONDS.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .spawn()
            .expect("gunicorn is missing; `make test` installs what the tests need");
        let prefork = Self { child, port };
        eventually("gunicorn listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        prefork
    }
}

impl Drop for Prefork {
    /// SIGTERM: it ends its workers before it ends.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The load beside the GUI.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Script,
    DeadStorage,
}

/// wrk with parallel connections, each of which sends the next request as soon as it is answered, until `rate`.
fn wrk(gate: &Nodegate, cookie: &str, path: &str, connections: u32) -> Child {
    Command::new("wrk")
        .args(["-t1", "-c", &connections.to_string(), "-d", "90s", "--timeout", "60s"])
        .args(["-H", cookie.trim_end()])
        .arg(format!("https://127.0.0.1:{}{path}", gate.port()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk is missing; `make test` installs what the tests need")
}

/// Ends wrk. The calls a second that it reports; none of them failed.
fn rate(wrk: Child) -> f64 {
    kill(Pid::from_raw(wrk.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = wrk.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
}

/// Milliseconds of each call of the GUI's windows, in order.
fn poll(gate: &Nodegate, site: &Site) -> Vec<f64> {
    let output = Command::new("node")
        .arg(in_repository("tests/e2e/windows.mjs"))
        .args([&format!("https://127.0.0.1:{}", gate.port()), &site.ticket("root@pam"), &POLLING.to_string()])
        .output()
        .expect("nodejs is missing; `make test` installs what the tests need");
    let times: Result<Vec<f64>, _> = serde_json::from_slice(&output.stdout);
    let mut times = times.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    times.sort_by(f64::total_cmp);
    times
}

struct Seen {
    p50: f64,
    p90: f64,
    rate: f64,
}

/// The GUI beside something, with these settings.
fn measure(beside: Beside, sets: &[&str]) -> Seen {
    let prefork = Prefork::start();
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/windows.html", "<!doctype html><title>windows</title>");
    let backend = format!("backend.address=127.0.0.1:{}", prefork.port);
    let gate = Nodegate::start(&site, &[&[backend.as_str()], sets].concat());
    let cookie = site.cookie("script@pve");
    let (path, connections) = match beside {
        Beside::Script => (CONFIG, 64),
        Beside::DeadStorage => (DEAD, 4),
    };
    let load = wrk(&gate, &cookie, path, connections);
    std::thread::sleep(Duration::from_secs(DEAD_SECONDS + 1));
    let times = poll(&gate, &site);
    let at = |hundredth: usize| times[(times.len() * hundredth / 100).min(times.len() - 1)];
    let seen = Seen { p50: at(50), p90: at(90), rate: rate(load) };
    println!(
        "{beside:?} {sets:?}: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms of {} calls, script {:.1} calls/s",
        seen.p50,
        seen.p90,
        at(99),
        times.len(),
        seen.rate
    );
    assert_eq!(Session::tls(gate.local()).request("GET", "/nope", "", b"").status, 404);
    seen
}

/// The figures are in `docs/performance.md`; a busy machine must not fail this test, so the bounds are wide.
#[test]
fn prefork_daemons_stay_quick_beside_a_script() {
    let unlimited = measure(Beside::Script, &["backend.workers=0"]);
    let scheduled = measure(Beside::Script, &[]);
    assert!(scheduled.p50 * 4.0 < unlimited.p50, "{:.0} and {:.0} ms", scheduled.p50, unlimited.p50);
    assert!(scheduled.p90 * 2.0 < unlimited.p90, "{:.0} and {:.0} ms", scheduled.p90, unlimited.p90);
    assert!(scheduled.rate > unlimited.rate * 0.7, "{:.1} of {:.1} calls/s", scheduled.rate, unlimited.rate);
}

#[test]
fn prefork_daemons_stay_quick_beside_a_dead_storage() {
    let unlimited = measure(Beside::DeadStorage, &["backend.workers=0"]);
    let scheduled = measure(Beside::DeadStorage, &[]);
    assert!(scheduled.p50 * 10.0 < unlimited.p50, "{:.0} and {:.0} ms", scheduled.p50, unlimited.p50);
    assert!(scheduled.p90 * 4.0 < unlimited.p90, "{:.0} and {:.0} ms", scheduled.p90, unlimited.p90);
}

//! A thousand clients of slowhttptest (Debian's), each slower than the other, and one that is not.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{VERSION, crowd};
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

const CONNECTIONS: &str = "1000";
/// How long each attack lasts.
const SECONDS: &str = "12";
/// Generous: a thousand handshakes of a debug build on a busy machine come first.
const DEADLINE: Duration = Duration::from_secs(20);

/// Ended when dropped.
struct Attack(Child);

impl Attack {
    fn start(gate: &Nodegate, path: &str, arguments: &[&str]) -> Self {
        let url = format!("https://127.0.0.1:{}{path}", gate.port());
        let child = Command::new("slowhttptest")
            .args(["-c", CONNECTIONS, "-r", "300", "-l", SECONDS, "-p", "15", "-u", &url])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests on new connections and on an old one for as long as the attack lasts: how many were answered.
fn others_are_served_during(gate: &Nodegate, site: &Site, mut attack: Attack) -> usize {
    let cookie = site.cookie("root@pam");
    let mut session = gate.connect();
    let mut served = 0;
    while attack.runs() {
        let began = Instant::now();
        assert_eq!(session.request("GET", VERSION, &cookie, b"").status, 200);
        assert_eq!(gate.get(VERSION, &cookie).status, 200);
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        served += 2;
        std::thread::sleep(Duration::from_millis(100));
    }
    served
}

fn survives(path: &str, arguments: &[&str], sets: &[&str]) {
    let site = Site::pve();
    site.write("/usr/share/pve-manager/js/big.js", vec![b'x'; 5_000_000]);
    let gate = Nodegate::start(&site, sets);
    let served = others_are_served_during(&gate, &site, Attack::start(&gate, path, arguments));
    assert!(served > 10, "{served}");
    eventually("all of the attack is over", || crowd::descriptors(&gate) < 60);
    assert!(!gate.stderr().contains("cannot accept"));
}

#[test]
fn slow_heads_delay_no_other_client() {
    survives("/", &["-H", "-i", "1", "-x", "10"], &["timeout.header=4"]);
}

#[test]
fn slow_bodies_delay_no_other_client() {
    survives(super::LOGIN, &["-B", "-i", "1", "-x", "10", "-s", "100000"], &["timeout.body=4"]);
}

#[test]
fn slow_readers_delay_no_other_client() {
    let slow = ["-X", "-w", "1", "-y", "2", "-n", "3", "-z", "1", "-k", "3"];
    survives("/pve2/js/big.js", &slow, &["timeout.write=4", "timeout.idle=5"]);
}

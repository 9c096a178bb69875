//! `nodegate shadow`: the same asked of two servers, and what differs.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

const LOG: &str = "/log";

/// Two machines whose files differ in one place, and a log of what was asked there.
struct Pair {
    original: (Site, Nodegate),
    ours: (Site, Nodegate),
}

impl Pair {
    fn start() -> Self {
        let start = |text: &str| {
            let site = Site::pve();
            site.write("/usr/share/pve-xtermjs/a.js", text);
            site.write("/usr/share/pve-xtermjs/same.js", "the same");
            for name in ["a.js", "same.js"] {
                let path = site.path("/usr/share/pve-xtermjs").join(name);
                File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1 << 30)).unwrap();
            }
            let gate = Nodegate::start(&site, &[]);
            (site, gate)
        };
        let pair = Self { original: start("one"), ours: start("another") };
        let requests = [
            "GET /api2/json/version HTTP/1.1",
            "GET /xtermjs/a.js HTTP/1.1",
            "GET /nope HTTP/1.1",
            "GET /api2/json/nodes/node1/qemu/100/vncwebsocket?port=5901&vncticket=*** HTTP/1.1",
            "POST /api2/json/access/ticket HTTP/1.1",
            "GET /api2/json/nodes/node1/report HTTP/1.1",
        ];
        let line =
            |request| format!("192.0.2.7 - root@pam [22/11/2026:00:34:50 +0000] \"{request}\" 200 12\n");
        pair.ours.0.write(LOG, requests.map(line).concat());
        pair
    }

    fn ask(&self, more: &[&str], variable: Option<(&str, &str)>) -> Outcome {
        let (site, gate) = &self.ours;
        let (port, against) =
            (format!("listen.port={}", gate.port()), format!("https://{}", self.original.1.address()));
        let (root, log) = (site.root().to_str().unwrap(), site.path(LOG));
        let log = log.to_str().unwrap();
        let own = ["--root", root, "shadow", "pve", "--set", &port, "--against", &against, "--log", log];
        let mut shadow = command(&[&own[..], &["--rate", "100"], more].concat());
        if let Some((name, value)) = variable {
            shadow.env(name, value);
        }
        Outcome::of(&mut shadow)
    }
}

#[test]
fn what_differs_is_told_and_what_changes_something_is_not_asked() {
    let pair = Pair::start();
    let ticket = pair.original.0.ticket("root@pam");
    let cookie = format!("Cookie: PVEAuthCookie={ticket}");
    let outcome = pair.ask(&["--credential-variable", "SHADOW"], Some(("SHADOW", &cookie)));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let told: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(told[0], "GET /xtermjs/a.js");
    assert!(
        told[1].starts_with("    body: 3 bytes sha256 ") && told[1].contains("… | 7 bytes sha256 "),
        "{told:?}"
    );
    assert_eq!(told.len(), 3, "{told:?}");
    let summary = told.last().unwrap();
    assert!(summary.starts_with("3 asked: 2 equal, 1 differ"), "{summary}");
    assert!(summary.ends_with("2 left out"), "{summary}");
    assert!(!outcome.stdout.contains(&ticket) && !outcome.stderr.contains(&ticket));
    let asked = pair.original.0.daemon.requests();
    assert_eq!(asked.len(), 1, "neither console nor report: {asked:?}");
}

#[test]
fn a_server_that_answers_as_the_original_is_equal() {
    let pair = Pair::start();
    pair.ours.0.write(
        LOG,
        "::1 - - [x] \"GET /xtermjs/same.js HTTP/1.1\" 200 8\n{\"request\":\"GET /no HTTP/1.1\"}\n",
    );
    let outcome = pair.ask(&[], None);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.starts_with("2 asked: 2 equal, 0 differ"), "{outcome:?}");
}

#[test]
fn what_cannot_be_compared_is_told_why() {
    let pair = Pair::start();
    let site = &pair.ours.0;
    site.write("/credential", "PVEAuthCookie=SECRET\n");
    let file = site.path("/credential");
    let outcome = pair.ask(&["--credential-file", file.to_str().unwrap()], None);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("must hold one line"), "{outcome:?}");
    assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    let both = Outcome::ask(site, &["shadow", "pve"]);
    assert_eq!(both.code, 1);
    assert!(both.stderr.contains("cannot both be on port 8006"), "{both:?}");
    site.write(LOG, "nothing\n");
    let empty = pair.ask(&[], None);
    assert!(empty.stderr.contains("holds no GET that may be asked again"), "{empty:?}");
    assert_eq!(pair.ask(&["--rate", "0"], None).code, 2);
}

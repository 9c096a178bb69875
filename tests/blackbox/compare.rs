//! `nodegate compare`: the same asked of two servers, and what differs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nodegate_standin::{Config, Daemon, Product, now};

use crate::support::nodegate::command;
use crate::support::{Nodegate, Outcome, Site};

const LOG: &str = "/log";
const VERSION: &str = "/api2/json/version";

/// The trial: a nodegate with a separate daemon, and the log that is read.
struct Trial {
    site: Site,
    gate: Nodegate,
}

impl Trial {
    fn start(site: Site) -> Self {
        let gate = Nodegate::start(&site, &[]);
        Self { site, gate }
    }

    fn log(&self, requests: &[impl AsRef<str>]) {
        let mut text = String::new();
        for request in requests {
            let request = request.as_ref();
            writeln!(text, "192.0.2.7 - root@pam [22/11/2026:00:34:50 +0000] \"{request}\" 200 12").unwrap();
        }
        self.site.write(LOG, text);
    }

    /// GETs of these targets.
    fn log_gets(&self, targets: &[impl AsRef<str>]) {
        let requests: Vec<_> =
            targets.iter().map(|target| format!("GET {} HTTP/1.1", target.as_ref())).collect();
        self.log(&requests);
    }

    fn compare_by(&self, word: &str, original: &str, credential: Option<&str>, more: &[&str]) -> Outcome {
        let port = format!("listen.port={}", self.gate.port());
        let (root, log) = (self.site.root().to_str().unwrap(), self.site.path(LOG));
        let profile = self.site.profile();
        let own = [
            "--root",
            root,
            word,
            profile,
            "--set",
            &port,
            "--against",
            original,
            "--log",
            log.to_str().unwrap(),
        ];
        let mut compare = command(&[&own[..], more].concat());
        if let Some(credential) = credential {
            compare.env("COMPARE_CREDENTIAL", credential);
            compare.args(["--credential-variable", "COMPARE_CREDENTIAL"]);
        }
        Outcome::of(&mut compare)
    }

    fn compare(&self, original: &str, credential: Option<&str>) -> Outcome {
        self.compare_by("compare", original, credential, &["--rate", "1000"])
    }

    fn cookie(&self) -> String {
        self.site.cookie("root@pam").trim_end().to_owned()
    }

    /// A daemon with the same keys, to be asked without a proxy.
    fn original_daemon(&self) -> Daemon {
        let config = Config::new(self.site.product);
        let keys = Arc::clone(&self.site.keys);
        let title = match self.site.product {
            Product::Pve => "Proxmox VE API",
            Product::Pmg => "Proxmox Mail Gateway API",
        };
        Daemon::start(Config { keys, refusal_delay: Duration::ZERO, title: title.to_owned(), ..config })
    }
}

/// A server that answers each request with what a function makes of its target.
struct Original {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Original {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, answer) = (Arc::clone(&asked), Arc::clone(&stop), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream, |target| answer(target)));
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(mut stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(length @ 1..) => head.extend_from_slice(&piece[..length]),
            Ok(0) | Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let _ = stream.write_all(&answer(head.split(' ').nth(1).unwrap_or_default()));
}

const USUAL_HEADERS: &str = "Cache-Control: max-age=0\r\nPragma: no-cache\r\nConnection: close\r\n";

fn json(status: &str, body: &str) -> Vec<u8> {
    let kind = "Content-Type: application/json;charset=UTF-8";
    format!("HTTP/1.1 {status}\r\n{USUAL_HEADERS}{kind}\r\n\r\n{body}").into_bytes()
}

fn octets(body: &str) -> Vec<u8> {
    let kind = "Content-Type: application/octet-stream";
    format!("HTTP/1.1 200 OK\r\n{USUAL_HEADERS}{kind}\r\n\r\n{body}").into_bytes()
}

/// Asks the daemon behind the trial for the body, so that only the framing is another one.
fn ask_daemon(address: &str, target: &str, cookie: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n{cookie}\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply
}

/// A thousand calls are compared.
#[test]
fn random_member_order_is_no_difference() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    let calls = [
        "json/cluster/resources",
        "extjs/cluster/resources",
        "json/access/users",
        "json/access/domains",
        "html/cluster/resources",
    ];
    let targets: Vec<_> =
        (0..1000).map(|number| format!("/api2/{}?n={number}", calls[number % calls.len()])).collect();
    trial.log_gets(&targets);
    let outcome = trial.compare(&format!("http://{}", original.address()), Some(&trial.cookie()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.starts_with("1000 of 1000 calls compared in "), "{outcome:?}");
    assert!(outcome.stdout.ends_with(": 1000 equal, 0 differ (original != nodegate)\n"), "{outcome:?}");
    assert_eq!(original.requests().len(), 1001, "each once, and the login");
}

#[test]
fn the_mail_gateways_lists_have_no_order() {
    let trial = Trial::start(Site::pmg());
    let original = trial.original_daemon();
    let calls =
        ["json/access/auth-realm", "extjs/access/users", "html/access/auth-realm", "json/access/ticket"];
    let targets: Vec<_> =
        (0..100).map(|number| format!("/api2/{}?n={number}", calls[number % calls.len()])).collect();
    trial.log_gets(&targets);
    let outcome = trial.compare(&format!("http://{}", original.address()), Some(&trial.cookie()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.ends_with(": 100 equal, 0 differ (original != nodegate)\n"), "{outcome:?}");
}

#[test]
fn differences_are_shown_as_path_and_values() {
    let trial = Trial::start(Site::pve());
    let keys = Arc::clone(&trial.site.keys);
    let original = Daemon::start(Config { keys, node: "other".to_owned(), ..Config::new(Product::Pve) });
    let own = nodegate_standin::demo::node_name();
    trial.log_gets(&["/api2/json/cluster/resources", "/api2/json/nodes", VERSION]);
    let outcome = trial.compare(&format!("http://{}", original.address()), Some(&trial.cookie()));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let expected = [
        "GET /api2/json/nodes".to_owned(),
        "    data[id=node/other]: {".to_owned(),
        format!("    data[id=node/{own}]: (none) != {{"),
        "GET /api2/json/cluster/resources".to_owned(),
        format!("    data[id=qemu/100].node: \"other\" != \"{own}\""),
    ];
    for line in expected {
        assert!(
            outcome.stdout.lines().any(|shown| shown.starts_with(&line)),
            "no {line} in {}",
            outcome.stdout
        );
    }
    assert!(
        outcome.stdout.contains("3 of 3 calls compared in ")
            && outcome.stdout.contains(": 1 equal, 2 differ")
    );
}

#[test]
fn status_reason_type_and_body_are_compared() {
    let trial = Trial::start(Site::pve());
    let daemon = trial.site.daemon.address().to_owned();
    let cookie = trial.cookie();
    let original = Original::start(move |target| match target {
        "/api2/json/standin/reason?text=Fine" => json("200 B\u{e4}d", "{\"data\":null}"),
        "/api2/json/version" => {
            json("200 OK", "{\"data\":{\"version\":\"9.2.11\",\"release\":\"9.1\",\"repoid\":\"standin\"}}")
        }
        "/api2/json/access/domains" => {
            json("500 no such realm", "{\"data\":null,\"message\":\"no such realm\\n\"}")
        }
        "/api2/json/standin/big?size=1000" => octets("123"),
        "/api2/json/nodes" => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}".to_vec()
        }
        _ => ask_daemon(&daemon, target, &cookie),
    });
    trial.log_gets(&[
        "/api2/json/standin/reason?text=Fine",
        VERSION,
        "/api2/json/access/domains",
        "/api2/json/standin/big?size=1000",
        "/api2/json/nodes",
        "/api2/json/standin/chunked",
        "/api2/json/standin/until-close?size=40000000",
    ]);
    let outcome = trial.compare(&original.url(), None);
    assert_eq!(outcome.code, 1, "no credential: {outcome:?}");
    let cookie = trial.cookie();
    trial.site.write("/credential", format!("{cookie}\n"));
    let file = trial.site.path("/credential");
    // The old word is taken as well.
    let outcome = trial.compare_by(
        "shadow",
        &original.url(),
        None,
        &["--rate", "1000", "--credential-file", file.to_str().unwrap()],
    );
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for line in [
        "    HTTP status: 200 B\u{e4}d != 200 Fine",
        "    data.release: \"9.1\" != \"9.2\"",
        "    HTTP status: 500 no such realm != 200 OK",
        "    message: \"no such realm\" != (none)",
        "    HTTP header content-type: text/plain != application/json;charset=utf-8",
        "    HTTP body: 2 bytes, sha256 ",
        "    HTTP body: 3 bytes, sha256 ",
    ] {
        assert!(
            outcome.stdout.lines().any(|shown| shown.starts_with(line)),
            "no {line} in {}",
            outcome.stdout
        );
    }
    assert!(outcome.stdout.contains("7 of 7 calls compared in "), "{outcome:?}");
    assert!(outcome.stdout.contains(": 2 equal, 5 differ"), "chunks and streams are none: {outcome:?}");
    assert!(!outcome.stdout.contains(&cookie[20..]) && !outcome.stderr.contains(&cookie[20..]));
}

#[test]
fn what_changes_by_itself_is_left_out() {
    let trial = Trial::start(Site::pve());
    let (daemon, cookie, count) =
        (trial.site.daemon.address().to_owned(), trial.cookie(), AtomicUsize::new(0));
    let original = Original::start(move |target| {
        let changing = count.fetch_add(1, Ordering::SeqCst);
        let body = || {
            let reply = String::from_utf8(ask_daemon(&daemon, target, &cookie)).unwrap();
            serde_json::from_str::<serde_json::Value>(reply.split("\r\n\r\n").nth(1).unwrap()).unwrap()
        };
        match target {
            "/api2/json/nodes/node1/status" => {
                let mut value = body();
                value["data"]["uptime"] = changing.into();
                json("200 OK", &value.to_string())
            }
            "/api2/json/nodes/node1/status?changed=1" => {
                let mut value = body();
                value["data"]["uptime"] = changing.into();
                value["data"]["memory"]["used"] = 1.into();
                json("200 OK", &value.to_string())
            }
            "/api2/json/standin/big" => octets(&changing.to_string()),
            _ => ask_daemon(&daemon, target, &cookie),
        }
    });
    trial.log_gets(&["/api2/json/nodes/node1/status", "/api2/json/standin/big", VERSION]);
    let outcome = trial.compare(&original.url(), Some(&trial.cookie()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let reported: Vec<_> = outcome.stdout.lines().collect();
    assert!(
        reported[0].starts_with("2 of 3 calls compared in ") && reported[0].contains(": 2 equal, 0 differ"),
        "{reported:?}"
    );
    let left_out =
        ["not compared: 1 change by themselves", "left out of answers: 1 values that change by themselves"];
    assert_eq!(reported[1..], left_out);
    // A lasting value beside it is a difference.
    trial.log_gets(&["/api2/json/nodes/node1/status?changed=1"]);
    let outcome = trial.compare(&original.url(), Some(&trial.cookie()));
    let reported: Vec<_> = outcome.stdout.lines().take(2).collect();
    let expected = ["GET /api2/json/nodes/node1/status?changed=1", "    data.memory.used: 1 != 2147483648"];
    assert_eq!((outcome.code, reported), (1, expected.to_vec()));
}

#[test]
fn refusals_on_both_sides_are_no_equality() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    let url = format!("http://{}", original.address());
    trial.log_gets(&[VERSION, "/api2/extjs/nodes", "/api2/json/access/domains"]);
    let outcome = trial.compare(&url, None);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("no credential was given (--credential-file)"), "{outcome:?}");
    assert!(outcome.stderr.contains("too few calls were compared: 1 of 3 calls"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("1 of 3 calls compared in ")
            && outcome.stdout.contains(": 1 equal, 0 differ")
    );
    assert!(outcome.stdout.contains("\nnot compared: 2 refused by both (401, 403, 429)\n"), "{outcome:?}");
}

#[test]
fn a_refused_credential_ends_it_at_once() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    let targets: Vec<_> = (0..50).map(|number| format!("{VERSION}?n={number}")).collect();
    trial.log_gets(&targets);
    let old = trial.site.keys.ticket("PVE", "root@pam", now() - 10_000);
    let outcome = trial
        .compare(&format!("http://{}", original.address()), Some(&format!("Cookie: PVEAuthCookie={old}")));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    let said: Vec<_> = outcome.stderr.lines().collect();
    assert!(said[0].starts_with("the original (127.0.0.1:"), "{said:?}");
    assert!(said[0].contains(") rejects the credential: GET /api2/json/version: 401 "), "{said:?}");
    assert!(said[1].starts_with("nodegate (127.0.0.1:") && said[1].contains(": 401 "), "{said:?}");
    assert_eq!(said[2..], ["nothing was compared"]);
    assert!(!outcome.stderr.contains(&old));
    assert_eq!(original.requests().len(), 1);
}

#[test]
fn calls_that_time_does_not_reach_are_counted() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    let targets: Vec<_> = (0..40).map(|number| format!("{VERSION}?n={number}")).collect();
    trial.log_gets(&targets);
    let began = Instant::now();
    let more = ["--rate", "5", "--seconds", "2"];
    let url = format!("http://{}", original.address());
    let outcome = trial.compare_by("compare", &url, Some(&trial.cookie()), &more);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(outcome.stdout.contains(" not reached in the time"), "{outcome:?}");
    assert!(outcome.stderr.contains("too few calls were compared: "), "{outcome:?}");
    let asked = original.requests().len();
    assert!((3..=11).contains(&asked), "{asked} in 2 s at 5 a second");
}

#[test]
fn slow_answers_do_not_lower_the_rate() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    let targets: Vec<_> =
        (0..20).map(|number| format!("/api2/json/standin/slow?ms=500&n={number}")).collect();
    trial.log_gets(&targets);
    let url = format!("http://{}", original.address());
    let began = Instant::now();
    let outcome = trial.compare_by("compare", &url, Some(&trial.cookie()), &["--rate", "10"]);
    let took = began.elapsed();
    assert_eq!(outcome.code, 0, "{outcome:?}");
    // One after the other they take ten seconds; twenty turns take two.
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(9), "{took:?}");
}

#[test]
fn skipped_calls_are_listed_with_reasons() {
    let trial = Trial::start(Site::pve());
    let original = trial.original_daemon();
    trial.log(&[
        "GET /api2/json/version HTTP/1.1",
        "GET /api2/json/version HTTP/1.1",
        "GET /api2/json/nodes/node1/qemu/100/vncwebsocket?port=5901&vncticket=*** HTTP/1.1",
        "GET /api2/json/nodes/node1/qemu/100/vncwebsocket?port=5901 HTTP/1.1",
        "POST /api2/json/access/ticket HTTP/1.1",
        "GET /api2/json/nodes/node1/report HTTP/1.1",
    ]);
    let outcome = trial.compare(&format!("http://{}", original.address()), Some(&trial.cookie()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let expected = "left out of the log: 1 no GET, 1 repeated, 1 with a secret that the log masks, 1 consoles, 1 with a \
                    side effect or a high cost (side_effects of the profile)";
    assert_eq!(outcome.stdout.lines().last(), Some(expected));
    assert_eq!(original.requests().len(), 2, "the login and the version");
}

#[test]
fn files_of_two_machines_are_compared_by_digest() {
    let start = |text: &str| {
        let site = Site::pve();
        for (name, text) in [("a.js", text), ("same.js", "the same")] {
            site.write(&format!("/usr/share/pve-xtermjs/{name}"), text);
            let path = site.path("/usr/share/pve-xtermjs").join(name);
            File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1 << 30)).unwrap();
        }
        Trial::start(site)
    };
    let (original, ours) = (start("one"), start("another"));
    ours.log_gets(&["/xtermjs/a.js?token=SECRET", "/xtermjs/same.js", "/nope"]);
    let outcome = ours.compare(&format!("https://{}", original.gate.address()), None);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let reported: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(reported[0], "GET /xtermjs/a.js?token=***");
    assert!(
        reported[1].starts_with("    HTTP body: 3 bytes, sha256 ")
            && reported[1].contains("… != 7 bytes, sha256 "),
        "{reported:?}"
    );
    assert!(reported[2].ends_with(": 2 equal, 1 differ (original != nodegate)"), "{reported:?}");
}

#[test]
fn a_server_that_breaks_off_is_named() {
    let trial = Trial::start(Site::pve());
    let original = Original::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort".to_vec());
    trial.log_gets(&["/xtermjs/same.js"]);
    let outcome = trial.compare(&original.url(), None);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("GET /xtermjs/same.js: the original (127.0.0.1:"), "{outcome:?}");
    assert!(outcome.stdout.contains("not compared: 1 answered by one server only"), "{outcome:?}");
    assert_eq!(original.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn unusable_comparisons_end_with_a_reason() {
    let trial = Trial::start(Site::pve());
    let site = &trial.site;
    site.write("/credential", "PVEAuthCookie=SECRET\n");
    let file = site.path("/credential");
    trial.log_gets(&[VERSION]);
    let url = "http://127.0.0.1:1";
    let outcome = trial.compare_by("compare", url, None, &["--credential-file", file.to_str().unwrap()]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("must hold one line"), "{outcome:?}");
    assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    site.write("/var/log/pveproxy/access.log", "x \"GET /a HTTP/1.1\"\n");
    let both = Outcome::ask(site, &["compare", "pve"]);
    assert_eq!(both.code, 1);
    assert!(both.stderr.contains("cannot both be on port 8006"), "{both:?}");
    site.write(LOG, "nothing\n");
    let empty = trial.compare(url, None);
    assert!(empty.stderr.contains("has no GET request that may be replayed"), "{empty:?}");
    assert_eq!(empty.code, 2);
    assert_eq!(trial.compare_by("compare", url, None, &["--rate", "0"]).code, 2);
    trial.log_gets(&[VERSION]);
    let gone = trial.compare(url, Some(&trial.cookie()));
    assert_eq!(gone.code, 2, "{gone:?}");
    assert!(gone.stderr.contains("the original (127.0.0.1:1): Connection refused"), "{gone:?}");
}

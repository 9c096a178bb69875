//! How much of the logs a stranger can fill: long targets, and warnings in a row.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Instant;

use nodegate_standin::forged_ticket;
use serde_json::Value;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Outcome, Session, Site, all_at_once};

const VERSION: &str = "/api2/json/version";
const QUARANTINE: &str =
    "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";
const LINE: &str = r#"^127\.0\.0\.1 - - \[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "(\S+ \S+ HTTP/[12]\.[01])" \d{3} (?:\d+|-)$"#;

/// The request of each line, once there are so many; each line has the form that filters know, or is an object.
fn requests(site: &Site, count: usize, is_json: bool) -> Vec<String> {
    eventually("the lines are there", || site.access_log().lines().count() >= count);
    let form = regex::Regex::new(LINE).unwrap();
    let text = |line: &str| {
        if is_json {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            object["request"].as_str().unwrap().to_owned()
        } else {
            let found = form.captures(line).unwrap_or_else(|| panic!("no line that filters know: {line}"));
            found[1].to_owned()
        }
    };
    site.access_log().lines().map(text).collect()
}

/// A request by curl, which takes what it is given as the target.
fn curl(port: u16, version: &str, method: &str, target: &str) {
    let url = format!("https://127.0.0.1:{port}/");
    let mut command = Command::new("curl");
    command.args(["-sk", "-o", "/dev/null", "--max-time", "60", version, "-X", method]);
    let outcome = Outcome::of(command.args(["--request-target", target]).arg(url));
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

#[test]
fn long_targets_are_cut_in_both_forms() {
    let targets = [
        format!("/{}", "a".repeat(8000)),
        format!("/?x={}", "%41".repeat(2600)),
        format!("/?x={}", "\u{e9}\u{20ac}".repeat(1500)),
        format!("/?x={}", "\"".repeat(4000)),
        format!("/?password=SECRET1&x={}&ticket=SECRET2", "b".repeat(8000)),
        format!("/?vncticket={}&y=1", "SECRET3".repeat(1000)),
        format!("/?x={}&password=SECRET4", "c".repeat(1000)),
    ];
    for (format, site) in [("text", Site::pve()), ("json", Site::pve()), ("text", Site::pmg())] {
        let has_classes = site.profile() == "pmg";
        if has_classes {
            site.write("/etc/nodegate/pmg.toml", QUARANTINE);
        }
        let gate = Nodegate::start(&site, &["http2=true", &format!("log.format={format}")]);
        let port = if has_classes { gate.listener("public").port() } else { gate.port() };
        all_at_once(&["--http1.1", "--http2"], |version| {
            // HTTP/2 knows neither quotes nor bytes beyond ASCII in a path.
            let is_sent =
                |target: &&String| *version == "--http1.1" || (target.is_ascii() && !target.contains('"'));
            targets.iter().filter(is_sent).for_each(|target| curl(port, version, "GET", target));
        });
        let logged = requests(&site, 12, format == "json");
        for request in &logged {
            let [method, target, version] = request.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{request}");
            };
            assert!(method == "GET" && version.starts_with("HTTP/"), "{request}");
            assert!(target.len() <= 1024, "{} bytes: {request}", target.len());
            let (kept, cut) = target.split_once("...<+").unwrap_or((target, ""));
            assert!(cut.is_empty() || cut.trim_end_matches('>').parse::<usize>().is_ok(), "{request}");
            let is_whole = |at: usize| kept[at..].len() >= 3 || kept.ends_with("%%");
            assert!(kept.rfind('%').is_none_or(is_whole), "half an escape: {request}");
            assert!(!request.contains("SECRET"), "{request}");
        }
        let cut = logged.iter().filter(|request| request.contains("...<+")).count();
        assert_eq!(cut, 8, "{logged:#?}");
        assert!(logged.iter().any(|request| request.contains("/?vncticket=***&y=1 ")), "{logged:#?}");
    }
}

#[test]
fn methods_and_users_of_any_length_are_cut() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["log.target=256", "backend.address=127.0.0.1:1"]);
    assert_eq!(gate.request(&"M".repeat(4000), "/x", "", b"").status, 404);
    // No daemon has verified the token when the line is written.
    let token = format!("Authorization: PVEAPIToken={}@pam!x=00000000\r\n", "u".repeat(4000));
    gate.get(VERSION, &token);
    eventually("both are there", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    assert!(log.lines().all(|line| line.len() < 800), "{log}");
    assert!(log.contains("MMM") && log.contains(" /x HTTP/1.1\" 404 "), "{log}");
}

#[test]
fn a_connect_head_is_cut_in_both_logs() {
    let site = Site::pve();
    let gate = Nodegate::start_profile(&site, "spice", &["limits.header=32768"]);
    let ask = |method: &str, target: &str| {
        let mut session = Session::plain(gate.local());
        session.send(format!("{method} {target} HTTP/1.0\r\nHost: {target}\r\n\r\n"));
        session.reply(false)
    };
    let target = format!("pvespiceproxy:6a153a0f:100:{}::{}:61000", "n".repeat(7000), "5ec7e7".repeat(7));
    assert_eq!(ask("CONNECT", &target).status, 401);
    assert_eq!(ask(&"M".repeat(7000), "x").status, 405);
    eventually("both are there", || site.access_log().lines().count() == 2);
    let log = site.access_log();
    assert!(log.lines().all(|line| line.len() < 1200), "{log}");
    assert!(!log.contains("5ec7e7"), "{log}");
    eventually("it is warned of", || gate.stderr().contains("not available, only CONNECT"));
    assert!(gate.stderr().lines().all(|line| line.len() < 1500), "{}", gate.stderr());
}

#[test]
fn the_limit_of_targets_is_checked_and_reloaded() {
    let site = Site::pve();
    Outcome::check(&site, &["log.target=10"])
        .complains("--set: log.target: must be a whole number from 128 to 65534, not '10'");
    assert!(Outcome::check(&site, &[]).setting("log.target").starts_with("log.target = 1024  ("));
    let gate = Nodegate::start(&site, &[]);
    let target = format!("/{}", "a".repeat(500));
    assert_eq!(gate.get(&target, "").status, 404);
    site.write("/etc/nodegate/pve.toml", "[log]\ntarget = 200\n");
    let port = format!("listen.port={}", gate.port());
    let reload = Outcome::ask(&site, &["--set", &port, "reload", "pve"]);
    assert_eq!(reload.stdout, "reloaded; changed: log.target\n", "{reload:?}");
    assert_eq!(gate.get(&target, "").status, 404);
    let lengths: Vec<_> = requests(&site, 2, false).iter().map(String::len).collect();
    let around = "GET  HTTP/1.1".len();
    assert_eq!(lengths, [501 + around, 200 + around]);
}

/// The log of three connections without a login in one second, each with a full target.
#[test]
fn a_stranger_fills_little_of_the_log() {
    let few_bytes = |sets: &[&str], claimed: bool| {
        let site = Site::pve();
        let gate = Nodegate::start(&site, sets);
        let request = |number: usize| {
            let client = if claimed { format!("X-Real-IP: 192.0.2.{number}\r\n") } else { String::new() };
            format!("GET /{} HTTP/1.1\r\nHost: node1\r\n{client}\r\n", "a".repeat(8000))
        };
        let began = Instant::now();
        all_at_once(&[1, 2, 3], |connection| {
            let mut session = gate.connect();
            for round in 0..40 {
                session.send(request(connection * 50 + round).repeat(10));
                (0..10).for_each(|_| assert_eq!(session.reply(false).status, 404));
            }
        });
        let took = began.elapsed();
        eventually("each has its line", || site.access_log().lines().count() == 1200);
        let log = site.access_log();
        println!("{sets:?}: {} bytes for 1200 requests in {took:?}", log.len());
        let seconds = usize::try_from(took.as_secs()).unwrap() + 2;
        let allowed = 1200 * 250 + seconds * (64 << 10);
        assert!(log.len() <= allowed, "{sets:?}: {} bytes in {seconds} s", log.len());
        let whole = log.lines().all(|line| line.contains("\"GET /aaaa") && line.contains(" HTTP/1.1\" 404 "));
        assert!(whole, "each still names the address, the request and the status");
        assert_eq!(log.contains("192.0.2."), claimed, "the log shows whom the header names");
    };
    few_bytes(&[], false);
    // Without a list of proxies each client may say who it is.
    few_bytes(&["real_ip.header=X-Real-IP"], true);
}

/// The lines of the log that tell of failed logins of an address, and how many failures they stand for.
fn failures(log: &str, address: &str) -> (usize, usize) {
    let start = format!("authentication failure; rhost={address} ");
    let left_out = |line: &str| {
        let count = line.split(" (").nth(1).and_then(|rest| rest.split(" more of this kind").next());
        count.and_then(|count| count.parse::<usize>().ok()).unwrap_or_default()
    };
    let is_warning = |line: &&str| line.contains(" WARN ") && line.contains(&start);
    let lines: Vec<_> = log.lines().filter(is_warning).collect();
    (lines.len(), lines.iter().map(|line| 1 + left_out(line)).sum())
}

/// Many forged tickets of one client, by one protocol, at the port that is given.
fn flood(gate: &Nodegate, (port, path, cookie): (u16, &str, &str), http2: bool) {
    let client = "X-Real-IP: 192.0.2.7\r\n";
    let address = (Ipv4Addr::LOCALHOST, port).into();
    assert_eq!(Session::tls(address).request("GET", path, &format!("{client}{cookie}\r\n"), b"").status, 401);
    let before = failures(&gate.stderr(), "192.0.2.7").0;
    let (began, mut waiting) = (Instant::now(), Vec::new());
    let count = if http2 {
        let mut command = Command::new("h2load");
        command.args(["-n", "400", "-c", "4", "-m", "100", "-H", "x-real-ip: 192.0.2.7", "-H"]);
        command.arg(cookie.replacen("Cookie", "cookie", 1)).arg(format!("https://127.0.0.1:{port}{path}"));
        let load = Outcome::of(&mut command);
        let refused = load.stdout.split(" 3xx, ").nth(1).and_then(|rest| rest.split(" 4xx").next());
        refused.unwrap().parse().unwrap()
    } else {
        // The responses come later: the clients do not wait for them.
        for number in 1000..1300 {
            let mut session = Session::tls(address);
            session.send(format!("GET {path} HTTP/1.1\r\nHost: node1\r\n{client}{cookie}{number}\r\n\r\n"));
            waiting.push(session);
        }
        waiting.len()
    };
    eventually("all are accounted for", || failures(&gate.stderr(), "192.0.2.7").1 > count);
    let (lines, reported) = failures(&gate.stderr(), "192.0.2.7");
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    println!("{lines} lines for {count} failures in {seconds} s");
    assert!(lines <= before + 5 + seconds + 3, "{lines} lines in {seconds} s");
    assert!(reported > count, "{reported} of {count}: the failures are counted");
}

#[test]
fn forged_tickets_warn_once_a_second() {
    let sets = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1", "limits.login_failures=1"];
    let sets = [&sets[..], &["http2=true"]].concat();
    all_at_once(&[false, true], |http2| {
        let site = Site::pve();
        let gate = Nodegate::start(&site, &sets);
        let cookie = format!("Cookie: PVEAuthCookie={}", forged_ticket("PVE", "root@pam", 0));
        flood(&gate, (gate.port(), VERSION, &cookie), *http2);
        let site = Site::pmg();
        site.write("/etc/nodegate/pmg.toml", QUARANTINE);
        let gate = Nodegate::start(&site, &sets);
        let cookie = format!("Cookie: PMGAuthCookie={}", forged_ticket("PMGQUAR", "a@example.com", 0));
        let at = (gate.listener("public").port(), "/api2/json/quarantine/content", &*cookie);
        flood(&gate, at, *http2);
    });
}

#[test]
fn many_addresses_are_logged_one_after_the_other() {
    let site = Site::pve();
    let sets = ["listen.proxy_protocol=1", "real_ip.allow_from=127.0.0.1", "limits.login_failures=100"];
    let gate = Nodegate::start_profile(&site, "spice", &sets);
    let addresses: Vec<_> = (1..=250).map(|last| format!("192.0.2.{last}")).collect();
    let began = Instant::now();
    for address in &addresses {
        let mut session = Session::plain(gate.local());
        session.send(format!("PROXY TCP4 {address} 127.0.0.1 4660 3128\r\n"));
        session.send("CONNECT x:1 HTTP/1.0\r\nHost: x:1\r\n\r\n");
        assert_eq!(session.reply(false).status, 401);
    }
    let reported = |address: &String| failures(&gate.stderr(), address).0 > 0;
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let at_once = addresses.iter().filter(|address| reported(address)).count();
    println!("{at_once} addresses within {seconds} s");
    assert!(at_once <= 100 * (seconds + 2), "{at_once} in {seconds} s");
    eventually("each address is in the log", || addresses.iter().all(reported));
}

//! The access log: what is written, and that nothing depends on it.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Session, Site};

const VERSION: &str = "/api2/json/version";
const LOG: &str = "/var/log/pveproxy/access.log";

#[test]
fn clients_cannot_forge_the_logged_user() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let forged = "Authorization: PVEAPIToken=root@pam!fake=00000000\r\n";
    assert_eq!(gate.get(VERSION, forged).status, 401);
    assert!(gate.stop().success());
    let log = site.access_log();
    assert!(log.contains(" - - [") && !log.contains("root@pam"), "{log}");
}

#[test]
fn heads_that_are_no_requests_leave_a_line() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["timeout.header=1"]);
    for (bytes, status) in [("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400), ("GET / HT", 408)] {
        let mut session = gate.connect();
        session.send(bytes);
        assert_eq!(session.reply(false).status, status);
        let line = "127.0.0.1 - - [";
        eventually("the line", || {
            site.access_log()
                .lines()
                .any(|text| text.starts_with(line) && text.ends_with(&format!("\"-\" {status} -")))
        });
    }
}

#[test]
fn the_setting_chooses_the_log_file() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["log.access=/var/log/pveproxy/elsewhere.log"]);
    gate.get("/nope", "");
    assert!(gate.stop().success());
    let elsewhere = fs::read_to_string(site.path("/var/log/pveproxy/elsewhere.log")).unwrap();
    assert!(elsewhere.contains("GET /nope"), "{elsewhere}");
    assert!(!site.path(LOG).exists());
}

#[test]
fn each_answer_is_a_line_that_filters_know() {
    for site in [Site::pve(), Site::pmg()] {
        site.write("/usr/share/pve-xtermjs/a.js", "x".repeat(5000));
        let gate = Nodegate::start(&site, &[]);
        let cookie = site.cookie("root@pam");
        let length = gate.get(VERSION, &cookie).body.len();
        let compressed = gate.get("/xtermjs/a.js?zip", "Accept-Encoding: gzip\r\n").body.len();
        assert!(compressed < 1000);
        gate.request("HEAD", VERSION, &cookie, b"");
        gate.get("/nope", "");
        gate.request("OPTIONS", VERSION, "", b"");
        Session::plain(gate.local()).request("GET", "/plain", "", b"");
        assert!(gate.stop().success());
        let time = r"\[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]";
        let expected = [
            format!(r#"127\.0\.0\.1 - root@pam {time} "GET {VERSION} HTTP/1\.1" 200 {length}"#),
            format!(r#"127\.0\.0\.1 - - {time} "GET /xtermjs/a\.js\?zip HTTP/1\.1" 200 {compressed}"#),
            format!(r#"127\.0\.0\.1 - root@pam {time} "HEAD {VERSION} HTTP/1\.1" 200 -"#),
            format!(r#"127\.0\.0\.1 - - {time} "GET /nope HTTP/1\.1" 404 \d+"#),
            format!(r#"127\.0\.0\.1 - - {time} "OPTIONS {VERSION} HTTP/1\.1" 204 -"#),
            format!(r#"127\.0\.0\.1 - - {time} "GET /plain HTTP/1\.1" 301 -"#),
        ];
        let log = site.access_log();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{log}");
        for (line, form) in lines.iter().zip(&expected) {
            assert!(regex::Regex::new(&format!("^{form}$")).unwrap().is_match(line), "{line}\n{form}");
        }
    }
}

#[test]
fn a_rejected_client_logs_without_request() {
    let site = Site::pve();
    site.legacy("DENY_FROM=\"all\"\nPOLICY=\"deny\"\n");
    let gate = Nodegate::start(&site, &[]);
    assert!(Session::try_tls(gate.local()).is_err());
    eventually("the line is there", || !site.access_log().is_empty());
    let log = site.access_log();
    assert!(log.starts_with("127.0.0.1 - - [") && log.ends_with("] \"-\" 403 -\n"), "{log}");
}

/// The address that is logged for a request with these headers.
fn logged(site: &Site, sets: &[&str], headers: &str) -> String {
    let _ = fs::remove_file(site.path(LOG));
    let gate = Nodegate::start(site, sets);
    assert_eq!(gate.get("/nope", headers).status, 404);
    assert!(gate.stop().success());
    site.access_log().split(' ').next().unwrap().to_owned()
}

#[test]
fn trusted_proxies_name_the_logged_client() {
    let site = Site::pve();
    let header = "X-Forwarded-For: 192.0.2.7\r\n";
    let named = "real_ip.header=X-Forwarded-For";
    assert_eq!(logged(&site, &[], header), "127.0.0.1");
    assert_eq!(logged(&site, &[named], header), "192.0.2.7");
    assert_eq!(logged(&site, &[named, "real_ip.allow_from=127.0.0.0/8"], header), "192.0.2.7");
    assert_eq!(logged(&site, &[named, "real_ip.allow_from=10.0.0.0/8"], header), "127.0.0.1");
    for (value, expected) in [
        ("2001:0db8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.8", "192.0.2.8"),
        ("192.0.2.7, 192.0.2.8", "127.0.0.1"),
        ("rubbish \"x", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(logged(&site, &[named], &format!("X-Forwarded-For: {value}\r\n")), expected, "{value}");
    }
    site.legacy("PROXY_REAL_IP_HEADER=\"X-Real\"\nPROXY_REAL_IP_ALLOW_FROM=\"127.0.0.1\"\n");
    assert_eq!(logged(&site, &[], "X-Real: 192.0.2.7\r\n"), "192.0.2.7");
}

#[test]
fn a_missing_trusted_proxy_list_is_warned_about() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["real_ip.header=X-Real"]);
    eventually("a warning", || gate.stderr().contains("real_ip") || gate.stderr().contains("PROXY_REAL_IP"));
}

#[test]
fn secrets_and_line_ends_stay_unlogged() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let query = "port=5900&vncticket=SECRET1;ticket=SECRET2&password=SECRET3&%74icket=SECRET4&x=1";
    gate.get(&format!("{VERSION}?{query}"), &cookie);
    gate.get("/x%0d%0a127.0.0.1%20-%20evil", "");
    gate.get("/x%22y", "User-Agent: evil\r\n");
    assert!(gate.stop().success());
    let log = site.access_log();
    assert!(!log.contains("SECRET"), "{log}");
    assert!(
        log.contains("?port=5900&vncticket=***;ticket=***&password=***&%74icket=***&x=1 HTTP/1.1\""),
        "{log}"
    );
    assert_eq!(log.lines().count(), 3, "{log}");
}

/// nodegate goes on.
#[test]
fn an_unwritable_log_warns_once() {
    let site = Site::pve();
    fs::create_dir(site.path(LOG)).unwrap();
    let gate = Nodegate::start(&site, &[]);
    for _ in 0..3 {
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    }
    eventually("a warning", || gate.stderr().contains("cannot be written"));
    let warnings = gate.stderr().matches("cannot be written").count();
    assert_eq!(warnings, 1, "{}", gate.stderr());
    assert!(gate.stop().success());
}

#[test]
fn a_full_disk_stops_nothing() {
    let site = Site::pve();
    std::os::unix::fs::symlink("/dev/full", site.path(LOG)).unwrap();
    let gate = Nodegate::start(&site, &[]);
    for _ in 0..3 {
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    }
    eventually("a warning", || gate.stderr().contains("No space left on device"));
    assert!(gate.stop().success());
}

#[test]
fn sighup_reopens_a_moved_log() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    gate.get("/before", "");
    eventually("the first line is there", || site.access_log().contains("/before"));
    let moved = site.path("/var/log/pveproxy/access.log.1");
    fs::rename(site.path(LOG), &moved).unwrap();
    let mut session = gate.connect();
    gate.signal(Signal::SIGHUP);
    eventually("the log is there again", || site.path(LOG).exists());
    assert_eq!(session.request("GET", "/after", "", b"").status, 404);
    eventually("the second line is there", || site.access_log().contains("/after"));
    let before = fs::read_to_string(moved).unwrap();
    assert!(before.contains("/before") && !before.contains("/after"), "{before}");
}

//! A login from beginning to end, as clients do it.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::{Nodegate, Reply, Site, all_at_once};

const LOGIN: &str = "/api2/json/access/ticket";
const OPTIONS: &str = "/api2/json/cluster/options";

fn login(gate: &Nodegate, fields: &[(&str, &str)]) -> Reply {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    gate.request("POST", LOGIN, headers, form.join("&").as_bytes())
}

/// The headers that the answer of a login lets one write with.
fn session(site: &Site, reply: &Reply) -> String {
    let data = &reply.json()["data"];
    let (ticket, token) = (data["ticket"].as_str().unwrap(), data["CSRFPreventionToken"].as_str().unwrap());
    super::cookie(site, ticket) + &format!("CSRFPreventionToken: {token}\r\n")
}

#[test]
fn a_password_login_reads_and_writes() {
    for site in [Site::pve(), Site::pmg()] {
        let gate = Nodegate::start(&site, &[]);
        let reply = login(&gate, &[("username", "root@pam"), ("password", "demo")]);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let headers = session(&site, &reply);
        assert_eq!(gate.get("/api2/json/version", &headers).status, 200);
        assert_eq!(gate.request("PUT", OPTIONS, &headers, b"keyboard=de").status, 200);
        assert_eq!(site.daemon.last().body, b"keyboard=de");
    }
}

#[test]
fn a_wrong_password_shows_the_daemons_message() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let reply = login(&gate, &[("username", "root@pam"), ("password", "guess")]);
    assert_eq!((reply.status, reply.reason.as_str()), (401, "authentication failure"));
}

#[test]
fn a_second_factor_makes_half_a_login_whole() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let first = login(&gate, &[("username", "tfa@pve"), ("password", "demo")]);
    let half = first.json()["data"]["ticket"].as_str().unwrap().to_owned();
    assert_eq!(first.json()["data"]["NeedTFA"], 1);
    let refused = gate.get("/api2/json/version", &super::cookie(&site, &half));
    assert_eq!((refused.status, refused.reason.as_str()), (401, super::INVALID_PVE));
    let fields = [("username", "tfa@pve"), ("tfa-challenge", &half), ("password", "totp:123456")];
    let second = login(&gate, &fields);
    let headers = session(&site, &second);
    assert_eq!(gate.get("/api2/json/version", &headers).status, 200);
    let wrong = [("username", "tfa@pve"), ("tfa-challenge", &half), ("password", "totp:000000")];
    assert_eq!(login(&gate, &wrong).status, 401);
}

#[test]
fn the_log_names_the_user_once_known() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("bob@pve");
    let cases = [
        ("GET", "/api2/json/version?good", cookie.as_str(), "127.0.0.1 - bob@pve ["),
        ("GET", "/api2/json/version?bad", "Cookie: PVEAuthCookie=x\r\n", "127.0.0.1 - - ["),
        ("PUT", "/api2/json/cluster/options?csrf", cookie.as_str(), "127.0.0.1 - - ["),
        ("GET", "/api2/json/access/domains?open", cookie.as_str(), "127.0.0.1 - - ["),
    ];
    all_at_once(&cases, |(method, path, headers, _)| drop(gate.request(method, path, headers, b"")));
    assert!(gate.stop().success());
    let log = site.access_log();
    for (method, path, _, start) in cases {
        let request = format!("\"{method} {path} HTTP/1.1\"");
        let line = log.lines().find(|line| line.contains(&request)).unwrap_or_else(|| panic!("{log}"));
        assert!(line.starts_with(start), "{line}");
    }
}

//! Logins that succeed, and their ways.

use nodegate_standin::{API_TOKEN, Config, Daemon, Keys, Product, now};
use serde_json::Value;

use super::{body, escaped, text};

const FORM: &str = "application/x-www-form-urlencoded";

fn post(daemon: &Daemon, kind: &str, form: &str) -> String {
    let head = "POST /api2/json/access/ticket HTTP/1.1\r\nContent-Type";
    let length = form.len();
    text(daemon, format!("{head}: {kind}\r\nContent-Length: {length}\r\n\r\n{form}"))
}

#[test]
fn a_login_returns_a_valid_ticket() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let answer = post(&daemon, FORM, "username=root%40pam&password=demo");
    let data = &body(&answer)["data"];
    assert_eq!(data["username"], "root@pam");
    let ticket = escaped(data["ticket"].as_str().unwrap());
    let answer = text(
        &daemon,
        format!("GET /api2/json/version HTTP/1.1\r\ncookie: PVEAuthCookie={ticket}; path=/\r\n\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\n"), "{answer}");
    assert_eq!(body(&answer)["data"]["version"], "9.2.11");
    assert_eq!(daemon.requests().len(), 2);
}

#[test]
fn logins_in_every_form() {
    let daemon = Daemon::start(Config::new(Product::Pmg));
    for (kind, form, status) in [
        (FORM, "username=bob@pve&password=demo", "200 OK"),
        (FORM, "username=bob&realm=pve&password=demo", "200 OK"),
        ("application/json", r#"{"username":"root","realm":"pam","password":"demo"}"#, "200 OK"),
        (FORM, "username=root@pam&password=wrong", "401 authentication failure"),
        (FORM, "username=eve@pam&password=demo", "401 authentication failure"),
        ("text/plain", "x", "506 upload 'Content-Type 'text/plain' not implemented"),
    ] {
        let answer = post(&daemon, kind, form);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{form}: {answer}");
    }
    let mail = quarantine_login(&daemon);
    assert_eq!(mail["data"]["username"], "me@example.com@quarantine");
}

fn quarantine_login(daemon: &Daemon) -> Value {
    let ticket = Keys::generate().ticket("PMGQUAR", "me@example.com", now());
    let ticket = escaped(&ticket);
    let form = format!("username=me@example.com@quarantine&password={ticket}");
    body(&post(daemon, FORM, &form))
}

#[test]
fn a_second_factor_takes_two_steps() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let first = body(&post(&daemon, FORM, "username=tfa@pve&password=demo"));
    assert_eq!(first["data"]["NeedTFA"], 1);
    let half = escaped(first["data"]["ticket"].as_str().unwrap());
    let refused =
        text(&daemon, format!("GET /api2/json/version HTTP/1.1\r\ncookie: PVEAuthCookie={half}\r\n\r\n"));
    assert!(refused.starts_with("HTTP/1.1 401 Authentication failed!\r\n"));
    for (password, full) in [("totp:123456", true), ("totp:000000", false), ("demo", false)] {
        let form = format!("username=tfa@pve&password={password}&tfa-challenge={half}");
        let second = body(&post(&daemon, FORM, &form));
        let ticket = second["data"]["ticket"].as_str().unwrap_or_default();
        assert_eq!(ticket.starts_with("PVE:tfa@pve:"), full, "{password}");
    }
}

#[test]
fn refuses_without_a_good_credential() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let keys = Keys::generate();
    for (header, status) in [
        ("X: y".to_owned(), "401 No ticket"),
        (
            format!("cookie: PVEAuthCookie={}", keys.ticket("PVE", "a@pam", now() - 7200)),
            "401 Authentication failed!",
        ),
        (
            format!("cookie: PVEAuthCookie={}", keys.old().ticket("PVE", "a@pam", now())),
            "401 Authentication failed!",
        ),
        (format!("Authorization: PVEAPIToken={API_TOKEN}"), "200 OK"),
        (format!("Authorization: PVEAPIToken {API_TOKEN}"), "200 OK"),
        (format!("Authorization: PVEAPIToken={API_TOKEN}0"), "401 Authentication failed!"),
    ] {
        let answer = text(&daemon, format!("GET /api2/json/nodes HTTP/1.1\r\n{header}\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{header}: {answer}");
    }
}

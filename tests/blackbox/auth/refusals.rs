//! A rejection takes three seconds of the rejected client, and of no other.

use std::time::{Duration, Instant};

use super::{BAD_CSRF, INVALID_PVE};
use crate::support::{Nodegate, Site, all_at_once};

#[test]
fn a_ticket_writes_only_with_csrf_token() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    let reply = gate.get("/api2/json/version", &cookie);
    assert_eq!((reply.status, reply.json()["data"]["version"].as_str()), (200, Some("9.2.11")));
    let before = Instant::now();
    let reply = gate.request("PUT", "/api2/json/cluster/options", &cookie, b"a=1");
    assert_eq!((reply.status, reply.reason.as_str()), (401, BAD_CSRF));
    assert!(before.elapsed() >= Duration::from_secs(3));
    let headers = cookie + &site.csrf("root@pam");
    assert_eq!(gate.request("PUT", "/api2/json/cluster/options", &headers, b"a=1").status, 200);
    assert_eq!(site.daemon.last().body, b"a=1");
}

#[test]
fn a_rejected_login_delays_no_other_request() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &["workers=1", "timeout.header=60"]);
    let cookie = site.cookie("root@pam");
    let mut refused: Vec<_> = (0..10).map(|_| gate.connect()).collect();
    let mut open = gate.connect();
    assert_eq!(open.request("GET", "/api2/json/version", &cookie, b"").status, 200);
    let asked = Instant::now();
    for session in &mut refused {
        session.send("GET /api2/json/version HTTP/1.1\r\nHost: node1\r\nCookie: PVEAuthCookie=x\r\n\r\n");
    }
    assert_eq!(gate.get("/api2/json/version", &cookie).status, 200);
    assert_eq!(open.request("GET", "/api2/json/version", &cookie, b"").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "held up for {:?}", asked.elapsed());
    for session in &mut refused {
        assert_eq!(session.reply(false).status, 401);
        assert!(asked.elapsed() >= Duration::from_secs(3));
    }
}

#[test]
fn a_refused_connection_serves_the_next_request() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let mut session = gate.connect();
    assert_eq!(session.request("POST", "/api2/json/cluster/options", "", b"a=1").status, 401);
    assert_eq!(session.request("GET", "/api2/json/version", &site.cookie("root@pam"), b"").status, 200);
}

#[test]
fn each_format_has_its_own_error_form() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cases = [
        ("/api2/json/version", format!(r#"{{"data":null,"message":"{INVALID_PVE}"}}"#)),
        (
            "/api2/extjs/version",
            format!(r#"{{"data":null,"message":"{INVALID_PVE}","status":401,"success":0}}"#),
        ),
        ("/api2/png/version", format!("{INVALID_PVE}\n")),
    ];
    all_at_once(&cases, |(path, body)| {
        let reply = gate.get(path, "Cookie: PVEAuthCookie=x\r\n");
        assert_eq!((reply.status, reply.reason.as_str()), (401, INVALID_PVE), "{path}");
        assert_eq!(&reply.text(), body, "{path}");
    });
}

#[test]
fn daemon_rejections_are_not_delayed_again() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let asked = Instant::now();
    let reply = gate.get("/api2/json/standin/reason?status=401&text=no", &site.cookie("root@pam"));
    assert_eq!((reply.status, reply.reason.as_str()), (401, "no"));
    assert!(asked.elapsed() < Duration::from_secs(3), "held up for {:?}", asked.elapsed());
}

//! Published flaws of the originals that a proxy could have, or could let through. `docs/security.md` lists the
//! classes that other tests cover.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::{Nodegate, Session, Site, all_at_once};

const LOGIN: &str = "/api2/json/access/ticket";
const VERSION: &str = "/api2/json/version";

/// The request target became part of the address that was asked, and the answer from there named a local file.
#[test]
fn cve_2022_35508_targets_never_choose_the_upstream() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let there = other.local_addr().unwrap();
    let cookie = site.cookie("root@pam");
    for target in [
        format!("@{there}/api2/json/version"),
        format!("@{there}/.."),
        format!("//{there}/api2/json/version"),
        format!("/@{there}/api2/json/version"),
        format!("http://{there}/api2/json/version"),
        format!("/api2/json/nodes/{there}/version"),
        format!("/api2/json/nodes/@{there}/version"),
        format!("/api2/json/@{there}/version"),
    ] {
        let mut session = gate.connect();
        session.send(format!("GET {target} HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n{cookie}\r\n"));
        let reply = session.try_reply(false);
        assert!(reply.as_ref().is_none_or(|reply| reply.status >= 400), "{target}: {reply:?}");
        assert!(other.accept().is_err(), "{target} was followed");
    }
}

/// A line end from the target came back in the head of the answer.
#[test]
fn cve_2022_35507_requests_cannot_split_response_heads() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let cookie = site.cookie("root@pam");
    for path in [
        "/x%0d%0aSet-Cookie:%20PVEAuthCookie=x",
        "/api2/json/x%0d%0aSet-Cookie:%20PVEAuthCookie=x",
        "/api2/json/nodes/x%0aSet-Cookie:%20a=b/version",
        "/api2/json/nodes/a%C4%8D%C4%8ASet-Cookie:%20a=b/version",
    ] {
        let reply = gate.get(path, &cookie);
        assert!(reply.status >= 400 && reply.header("set-cookie").is_none(), "{path}: {reply:?}");
        assert!(!reply.reason.contains(char::is_control), "{path}: {reply:?}");
    }
}

/// A path came back as part of a page.
#[test]
fn cve_2022_31358_requests_are_never_rendered() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for path in ["/<script>alert(1)</script>", "/%3Cscript%3E", "/api2/html/%3Cscript%3E", "/api2/%3Cb%3E/x"]
    {
        let reply = gate.get(path, &site.cookie("root@pam"));
        let kind = reply.header("content-type").unwrap_or_default();
        let is_page = kind.starts_with("text/html") && reply.text().contains("<script>");
        assert!(reply.status >= 400 && !is_page, "{path}: {reply:?}");
    }
}

/// Any answer of the API that held the name of a file was answered with that file.
#[test]
fn cve_2024_21545_responses_never_choose_a_file() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    site.write("/etc/shadow", "canary");
    let text = "HTTP/1.1%20200%20OK%0D%0AContent-Length:%2044%0D%0A%0D%0A\
                %7B%22data%22:%7B%22download%22:%7B%22path%22:%22/etc/shadow%22%7D%7D%7D";
    let reply = gate.get(&format!("/api2/json/standin/raw?text={text}"), &site.cookie("root@pam"));
    assert!(reply.text().contains("/etc/shadow") && !reply.text().contains("canary"), "{reply:?}");
    // Not by the header either, where the route is none that streams.
    let reply = gate.get("/api2/json/standin/streamfile?path=/etc/shadow", &site.cookie("root@pam"));
    assert!(reply.status == 500 && !reply.text().contains("canary"), "{reply:?}");
}

/// Any second factor did instead of a password. The daemon verifies both; nodegate limits guesses at them.
#[test]
fn cve_2023_54391_forged_second_factors_count() {
    let site = Site::pve();
    let sets = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1", "limits.login_failures=2"];
    let gate = Nodegate::start(&site, &sets);
    let headers = "X-Real-IP: 192.0.2.7\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let guess = b"username=root@pam&password=x&tfa-challenge=x";
    all_at_once(&[1, 2], |_| assert_eq!(gate.request("POST", LOGIN, headers, guess).status, 401));
    assert_eq!(gate.request("POST", LOGIN, headers, guess).status, 429);
}

/// Each connection from a denied address took a place for ever (c82d170).
#[test]
fn a_denied_flood_takes_no_permits() {
    let site = Site::pve();
    let sets = ["acl.deny_from=127.0.0.2", "acl.policy=allow", "limits.connections=5"];
    let gate = Nodegate::start(&site, &sets);
    let from_denied = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
        socket.connect(&gate.local().into()).map(|()| TcpStream::from(socket))
    };
    let flood: Vec<_> = (0..300).filter_map(|_| from_denied().ok()).collect();
    assert!(flood.len() > 200, "{}", flood.len());
    for _ in 0..3 {
        assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    }
}

/// A request without a path ended the process (5eb5fa23).
#[test]
fn a_request_without_path_is_answered() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    for line in
        ["OPTIONS *", "GET *", "GET ?", "GET ?a=b", "CONNECT a:1", "GET http://node1", "GET //", "GET #x"]
    {
        let mut session: Session = gate.connect();
        session.send(format!("{line} HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n"));
        let said = session.rest();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "), "{line}");
    }
    assert_eq!(gate.get(VERSION, &site.cookie("root@pam")).status, 200);
    assert!(!gate.stderr().contains("panicked"), "{}", gate.stderr());
}

/// The response had the reason of a failed login (26c10a2e).
#[test]
fn every_refused_ticket_gets_the_same_answer() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let good = site.ticket("root@pam");
    let old = site.keys.ticket("PVE", "root@pam", nodegate_standin::now() - 9000);
    let tickets =
        ["x".to_owned(), old, good.replace("root", "toor"), "PVE:root@pam:00000000::AA==".to_owned()];
    let said = std::sync::Mutex::new(Vec::new());
    all_at_once(&tickets, |ticket| {
        let reply = gate.get(VERSION, &format!("Cookie: PVEAuthCookie={ticket}\r\n"));
        said.lock().unwrap().push((reply.status, reply.reason.clone(), reply.text()));
    });
    let said = said.into_inner().unwrap();
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]) && said[0].0 == 401, "{said:#?}");
}
